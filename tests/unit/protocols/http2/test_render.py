"""Responses as blocks: a client reads what was meant, whatever this connection and this worker have sent before; and
the table's entries go to what is worth them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.asgi.stream import REASON, Framing, InvalidHeader
from palfrey.protocols.http2.decoder import Decoder
from palfrey.protocols.http2.memory import Memory
from palfrey.protocols.http2.render import (
    BLOCK_LENGTH,
    FIELD_LENGTH,
    INSERTIONS_OF_A_NAME,
    LENGTHS,
    REMEMBERED_BLOCKS,
    REMEMBERED_FIELDS,
    REMEMBERED_NAMES,
    VALUES_OF_A_NAME,
    ResponseEncoder,
    check_fields,
)
from palfrey.protocols.response import DefaultFields
from tests.support.properties import examples

WHOLE, OPEN, DECLARED, NONE = Framing.WHOLE, Framing.OPEN, Framing.DECLARED, Framing.NONE
OK = (b":status", b"200")
HTML = (b"content-type", b"text/html")


def worker(server=False, date=False, headers=(), unique=b"") -> SimpleNamespace:
    """What a ResponseEncoder asks of a Service."""
    return SimpleNamespace(
        default_fields=DefaultFields(server, date, headers), http2_memory=Memory("keep", 8190, unique)
    )


class Pair:
    """An encoder and its client's decoder."""

    def __init__(self, service: SimpleNamespace) -> None:
        self.encoder = ResponseEncoder(service)
        self.decoder = Decoder()
        self.last = b""

    def head(self, headers=(), status=200, framing=DECLARED, length=0) -> list[tuple[bytes, bytes]]:
        self.last = self.encoder.head(status, headers, framing, length)
        return self.decode(self.last)

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        return self.decoder.decode(block)[0]


# ------------------------------------------------------------------- what is said


def test_defaults_stand_behind_the_applications_fields():
    service = worker(True, True, [("X-Own", "1"), ("X-Own", "2")])
    service.default_fields.pairs[-1] = (b"date", b"today")
    pair = Pair(service)
    for _ in range(4):
        assert pair.head([HTML], framing=WHOLE, length=5) == [
            OK,
            HTML,
            (b"server", b"palfrey"),
            (b"x-own", b"1"),
            (b"x-own", b"2"),
            (b"date", b"today"),
            (b"content-length", b"5"),
        ]


@pytest.mark.parametrize(
    ("framing", "fields"), [(WHOLE, [(b"content-length", b"7")]), (OPEN, []), (DECLARED, []), (NONE, [])]
)
def test_framing(framing, fields):
    pair = Pair(worker())
    for _ in range(3):
        assert pair.head(framing=framing, length=7) == [OK, *fields]


@pytest.mark.parametrize("status", [200, 204, 304, 404, 500, 201, 302, 299, 999])
def test_statuses(status):
    pair = Pair(worker())
    for _ in range(3):
        assert pair.head(status=status) == [(b":status", b"%d" % status)]


def test_names_are_lower_case_and_values_have_no_white_space_around():
    pair = Pair(worker())
    for _ in range(4):
        assert pair.head([(b"X-Frame-Options", b" \tDENY \t")]) == [OK, (b"x-frame-options", b"DENY")]


def test_what_http2_does_not_have_is_left_out():
    pair = Pair(worker())
    fields = [(b"Connection", b"close"), (b"keep-alive", b"1"), (b"Proxy-Connection", b"x"), (b"Upgrade", b"y")]
    for _ in range(4):
        assert pair.head([*fields, HTML, (b"Transfer-Encoding", b"chunked")]) == [OK, HTML]
    assert pair.decode(pair.encoder.informational(103, fields)) == [(b":status", b"103")]
    assert pair.decode(pair.encoder.trailers(fields)) == []


def test_a_reason_phrase_is_left_out():
    pair = Pair(worker())
    for _ in range(4):
        assert pair.head([(REASON, b"Fine"), HTML]) == [OK, HTML]
    assert len(pair.last) < 4
    with pytest.raises(InvalidHeader):
        pair.head([(bytes(bytearray(REASON)), b"Fine")])


def test_a_204_says_no_length():
    pair = Pair(worker())
    for status in (200, 204, 200, 204):
        said = pair.head([(b"Content-Length", b"5"), HTML], status)
        assert ((b"content-length", b"5") in said) == (status == 200)
        assert HTML in said


@pytest.mark.parametrize("spelling", [b"server", b"Server"])
def test_the_applications_word_wins_whatever_its_case(spelling):
    service = worker(True, True, [("X-A", "ours")])
    pair = Pair(service)
    mine = [(spelling, b"mine"), (b"DATE", b"today"), (b"x-a", b"theirs"), (b"X-A", b"too")]
    for _ in range(4):
        assert pair.head(mine) == [OK, (b"server", b"mine"), (b"date", b"today"), (b"x-a", b"theirs"), (b"x-a", b"too")]
        assert pair.head()[1:] == service.default_fields.pairs


def test_the_date_moves_with_the_tick(monkeypatch):
    service = worker(date=True)
    pair = Pair(service)
    for _ in range(3):
        pair.head([HTML])
    monkeypatch.setattr("palfrey.protocols.response.formatdate", lambda usegmt: "Fri, 01 Jan 2100 00:00:00 GMT")
    service.default_fields.tick()
    for _ in range(3):
        assert pair.head([HTML]) == [OK, HTML, (b"date", b"Fri, 01 Jan 2100 00:00:00 GMT")]


def test_pairs_may_be_lists():
    pair = Pair(worker())
    for _ in range(4):
        assert pair.head([[*HTML], (b"a", b"1")]) == [OK, HTML, (b"a", b"1")]


def test_long_values():
    pair = Pair(worker())
    for length in (126, 127, 128, 254, 255, 300, 16510, 16511, 40000):
        assert pair.head([(b"a", b"x" * length)]) == [OK, (b"a", b"x" * length)]


def test_informational_and_trailers():
    pair = Pair(worker(True, True))
    link = (b"link", b"</style.css>; rel=preload")
    for _ in range(3):
        assert pair.decode(pair.encoder.informational(103, [(b"Link", link[1])])) == [(b":status", b"103"), link]
        assert pair.head([link])[1] == link
        assert pair.decode(pair.encoder.trailers([(b"X-Sum", b"1")])) == [(b"x-sum", b"1")]


@pytest.mark.parametrize(
    "bad",
    [
        (b"a b", b"1"),
        (b"", b"1"),
        (b":status", b"200"),
        (b"a:", b"1"),
        (b"\xe9", b"1"),
        (b"a", b"\r\nb: c"),
        (b"a", b"\n"),
        (b"a", b"\x00"),
        (b"connection", b"\x00"),
        ("a", b"1"),
        (b"a", "1"),
        (b"a", bytearray(b"1")),
        (bytearray(b"a"), b"1"),
        (b"a", None),
        [b"a", "1"],
    ],
)
def test_an_invalid_header_changes_nothing(bad):
    service = worker(True)
    pair = Pair(service)
    new = [(b"x-%d" % number, b"y") for number in range(3)]
    pair.head(new)
    before = pair.encoder._encoder.version
    for _ in range(2):
        with pytest.raises(InvalidHeader):
            pair.encoder.head(200, [*new, bad], WHOLE, 5)
        with pytest.raises(InvalidHeader):
            pair.encoder.informational(103, [*new, bad])
        with pytest.raises(InvalidHeader):
            pair.encoder.trailers([*new, bad])
        with pytest.raises(InvalidHeader):
            check_fields([*new, bad])
    assert pair.encoder._encoder.version == before
    assert pair.head(new) == [OK, *new, (b"server", b"palfrey")]


def test_fields_may_be_checked_ahead():
    assert check_fields(iter([HTML, (b"A", b"1")])) == [HTML, (b"A", b"1")]


# ------------------------------------------------------------------- the table


def test_what_comes_again_costs_one_byte():
    pair = Pair(worker(True))
    for _ in range(3):
        pair.head([HTML, (b"x-a", b"1")])
    assert len(pair.last) == len([":status", "content-type", "x-a", "server"])
    version = pair.encoder._encoder.version
    pair.head([HTML, (b"x-a", b"1")])
    assert pair.encoder._encoder.version == version


def test_what_another_connection_has_sent_is_worth_an_entry_at_once():
    service = worker()
    Pair(service).head([HTML])
    pair = Pair(service)
    pair.head([HTML])
    pair.head([HTML])
    assert len(pair.last) == 2


def test_values_that_never_come_again_are_given_no_entry():
    pair = Pair(worker(unique=b"x-id"))
    pair.head([HTML])
    pair.head([HTML])
    version = pair.encoder._encoder.version
    for number in range(5):
        each = [(b"x-id", b"%d" % number), (b"x-other", b"%d" % number)]
        assert pair.head([HTML, *each]) == [OK, HTML, *each]
    assert pair.encoder._encoder.version == version


@pytest.mark.parametrize("name", [b"content-length", b"Set-Cookie", b"etag", b"last-modified", b"location", b"date"])
def test_fields_that_are_worth_no_entry(name):
    pair = Pair(worker())
    for _ in range(4):
        assert pair.head([(name, b"1")]) == [OK, (name.lower(), b"1")]
    assert pair.encoder._encoder.version == 0


def test_secrets_are_marked_and_not_remembered():
    service = worker()
    pair = Pair(service)
    for _ in range(4):
        pair.head([(b"Set-Cookie", b"secret")])
        # RFC 7541 section 6.2.3: 0001, and here the index of the name, 55, behind it.
        assert pair.last[1:] == b"\x1f\x28\x06secret"
    assert service.http2_memory.response_fields == {}
    assert pair.encoder._blocks == {}


def test_a_name_gets_only_so_many_entries():
    pair = Pair(worker())
    for _ in range(4):
        for number in range(INSERTIONS_OF_A_NAME + 4):
            field = (b"x-a", b"%d" % number)
            assert pair.head([field]) == [OK, field]
    version = pair.encoder._encoder.version
    assert version == INSERTIONS_OF_A_NAME
    for number in range(INSERTIONS_OF_A_NAME + 4):
        pair.head([(b"x-a", b"%d" % number)])
    assert pair.encoder._encoder.version == version


def test_resizing():
    pair = Pair(worker())
    fields = [HTML, (b"x-a", b"1")]
    for size in (4096, 0, 100, 4096, 1 << 20):
        for _ in range(3):
            assert pair.head(fields) == [OK, *fields]
        pair.encoder.resize(size)
    # Each kind of block acknowledges it, and none does so twice.
    varying = (b"location", b"/")
    for block in (
        lambda: pair.encoder.informational(103, fields),
        lambda: pair.encoder.trailers(fields),
        lambda: pair.encoder.head(200, [varying], WHOLE, 5),
    ):
        pair.encoder.resize(0)
        first = block()
        assert first[0] == 0x20
        assert pair.decode(first) == pair.decode(block())
        assert block()[0] != 0x20
        pair.encoder.resize(4096)
        assert pair.head(fields)[1:3] == fields


# ------------------------------------------------------------------- memory


def test_the_workers_memory_is_bounded():
    service = worker()
    pair = Pair(service)
    memory = service.http2_memory
    for number in range(REMEMBERED_FIELDS + 10):
        pair.head([(b"n%d" % number, b"1")], framing=WHOLE, length=number)
        assert len(memory.response_fields) <= REMEMBERED_FIELDS
        assert len(memory.response_names) <= REMEMBERED_NAMES
        assert len(memory.lengths) <= LENGTHS
    pair.head([(b"x-a", b"x" * FIELD_LENGTH), (b"n" * (FIELD_LENGTH + 1), b"")])
    assert not any(len(name) > 10 or name == b"x-a" for name, _ in memory.response_fields)
    assert not any(len(name) > 10 for name in memory.response_names)


def test_a_name_with_other_values_each_time_does_not_fill_the_memory():
    service = worker(unique=b"x-id")
    pair = Pair(service)
    for number in range(VALUES_OF_A_NAME * 2):
        pair.head([(b"x-a", b"%d" % number), (b"x-id", b"%d" % number)])
    assert len(service.http2_memory.response_fields) == VALUES_OF_A_NAME


def test_a_connections_memory_is_bounded():
    pair = Pair(worker())
    for _ in range(3):
        for number in range(REMEMBERED_BLOCKS * 3):
            pair.head([(b"location", b"%d" % number)])
            assert len(pair.encoder._blocks) <= REMEMBERED_BLOCKS
    assert pair.encoder._blocks
    pair.encoder.resize(4096)
    for _ in range(4):
        pair.head([(b"location", b"x" * (BLOCK_LENGTH // 2))] * 2)
    assert not pair.encoder._blocks


def test_what_has_a_value_of_its_own_is_not_remembered():
    pair = Pair(worker(unique=b"x-id"))
    for number in range(4):
        pair.head([HTML, (b"x-id", b"same")])
        pair.head([HTML, (b"x-other", b"%d" % number)])
    assert not pair.encoder._blocks
    pair.head([HTML])
    assert list(pair.encoder._blocks) == [(200, HTML)]


NAMES = [
    b"a",
    b"A",
    b"b",
    b"server",
    b"content-type",
    b"set-cookie",
    b"etag",
    b"connection",
    b"x-id",
    b"content-length",
]
VALUES = [b"", b"1", b"2", b" 3 ", b"text/html", b"x" * 900, b"\xff" * 200, b"bad\n"]
HEADS = st.tuples(
    st.sampled_from([200, 204, 302, 404]),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=5),
    st.sampled_from(list(Framing)),
    st.integers(0, 3),
)
STEPS = st.lists(st.tuples(st.integers(0, 1), HEADS | st.sampled_from([0, 60, 200, 4096])), min_size=2, max_size=25)


def plainly(service, status, headers, framing, length):
    """What a client should read. Raises InvalidHeader."""
    if status == 204:
        headers = [field for field in headers if field[0] != b"content-length"]
    if any(b"\n" in value for _, value in headers):
        raise InvalidHeader
    fields = [(name.lower(), value.strip()) for name, value in headers]
    own = {name for name, _ in fields}
    defaults = [field for field in service.default_fields.pairs if field[0] not in own]
    end = [(b"content-length", b"%d" % length)] if framing is WHOLE else []
    return [(b":status", b"%d" % status), *[f for f in fields if f[0] != b"connection"], *defaults, *end]


@examples(200)
@given(STEPS)
def test_memory_never_changes_what_is_said(steps):
    service = worker(True, True, [("x-own", "1")], b"x-id")
    pairs = [Pair(service), Pair(service)]
    for which, step in steps:
        pair = pairs[which]
        if isinstance(step, int):
            pair.encoder.resize(step)
            continue
        status, headers, framing, length = step
        try:
            expected = plainly(service, *step)
        except InvalidHeader:
            with pytest.raises(InvalidHeader):
                pair.encoder.head(status, headers, framing, length)
        else:
            assert pair.head(headers, status, framing, length) == expected
