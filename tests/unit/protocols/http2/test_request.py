"""A header block becomes a head and a scope; what no request may say is told from what is owed an answer; and what was
read once reads the same again, for as long as it means the same."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.asgi.proxy import Trusted
from palfrey.config.settings import Settings
from palfrey.errors import ProtocolError
from palfrey.observe.access import AccessLog
from palfrey.protocols.http1.fields import LINES_OF_A_NAME, REMEMBERED_LINES, REMEMBERED_NAMES
from palfrey.protocols.http2.codes import ConnectionFault, ErrorCode, StreamFault
from palfrey.protocols.http2.encoder import Encoder, literal
from palfrey.protocols.http2.memory import Memory
from palfrey.protocols.http2.request import (
    BLOCK_LENGTH,
    LEAD_LENGTH,
    REMEMBERED_BLOCKS,
    REMEMBERED_LEADS,
    Head,
    HeadReader,
)
from palfrey.protocols.http2.static import FIRST_DYNAMIC
from palfrey.protocols.service import Service
from tests.support.properties import examples

GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.example"), (b":path", b"/x?y")]
CONNECT = [(b":method", b"CONNECT"), (b":authority", b"a.example:443")]
WEBSOCKET = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]


def worker(header_map="keep", limit_head=65536, limit_line=8190, limit_fields=100, limit_field=8190) -> SimpleNamespace:
    """What a HeadReader asks of a Service."""
    return SimpleNamespace(
        limit_head=limit_head,
        limit_line=limit_line,
        limit_fields=limit_fields,
        limit_field=limit_field,
        http2_memory=Memory(header_map, limit_field, b""),
    )


def block(*fields) -> bytes:
    """One that touches no table."""
    return b"".join([literal(field) for field in fields])


def read(*fields, **limits) -> Head:
    return HeadReader(worker(**limits)).read(block(*fields))


def facts_of(head: Head) -> dict[str, object]:
    return {name: getattr(head, name) for name in Head.__slots__ if not name.startswith("_")}


def without(name: bytes) -> list:
    return [field for field in GET if field[0] != name]


# ------------------------------------------------------------------- what a head says


def test_a_head():
    head = read(*GET, (b"accept", b"*/*"))
    assert facts_of(head) == {
        "method": "GET",
        "scheme": "https",
        "target": b"/x?y",
        "path": "/x",
        "raw_path": b"/x",
        "query": b"y",
        "protocol": b"",
        "headers": [(b"host", b"a.example"), (b"accept", b"*/*")],
        "length": -1,
        "expects_continue": False,
        "forwarded": [],
        "urgency": 3,
        "incremental": True,
    }


def test_a_path_is_decoded_and_kept_as_it_came():
    head = read(*without(b":path"), (b":path", b"/%C3%A9/%ff?a=%20?b"))
    assert (head.path, head.raw_path, head.query) == ("/é/�", b"/%C3%A9/%ff", b"a=%20?b")


def test_the_asterisk_of_options():
    head = read((b":method", b"OPTIONS"), *GET[1:3], (b":path", b"*"))
    assert (head.method, head.path, head.raw_path) == ("OPTIONS", "*", b"*")


def test_cookie_crumbs_are_put_together_in_the_place_of_the_first():
    head = read(*GET, (b"a", b"1"), (b"cookie", b"b=2"), (b"c", b"3"), (b"cookie", b"d=4"), (b"cookie", b"e=5"))
    assert head.headers[1:] == [(b"a", b"1"), (b"cookie", b"b=2; d=4; e=5"), (b"c", b"3")]


@pytest.mark.parametrize(
    ("fields", "length", "expects"),
    [
        ([(b"content-length", b"5"), (b"expect", b"100-continue")], 5, True),
        ([(b"content-length", b"0"), (b"expect", b"100-continue")], 0, False),
        ([(b"expect", b"100-Continue")], -1, True),
        ([(b"expect", b"something")], -1, False),
        ([(b"content-length", b"007")], 7, False),
    ],
)
def test_content(fields, length, expects):
    head = read(*GET, *fields)
    assert (head.length, head.expects_continue) == (length, expects)


def test_priority_may_come_in_several_lines():
    head = read(*GET, (b"priority", b"u=1"), (b"priority", b"i"))
    assert (head.urgency, head.incremental) == (1, True)


def test_what_proxies_say():
    fields = [(b"forwarded", b"for=10.0.0.1"), (b"x-forwarded-for", b"10.0.0.2")]
    assert read(*GET, fields[0], (b"a", b"1"), fields[1]).forwarded == fields


def test_a_websocket():
    head = read(*WEBSOCKET, (b"sec-websocket-version", b"13"), (b"content-length", b"0"))
    assert head.length == -1
    assert (head.method, head.protocol, head.path, head.scheme) == ("CONNECT", b"websocket", "/x", "https")


def test_te_may_say_trailers():
    assert read(*GET, (b"te", b"trailers")).headers[1:] == [(b"te", b"trailers")]


def test_values_of_all_characters_that_a_field_may_have():
    for value in (b"", b"a\tb", b"\x80\xff", b"\xc3\xa9 \xc3\xa9", bytes(range(0x21, 0x7F))):
        assert read(*GET, (b"a", value)).headers[1:] == [(b"a", value)]


# ------------------------------------------------------------------- host


def test_host_is_dropped_where_it_agrees():
    head = read(*GET, (b"a", b"1"), (b"host", b"A.EXAMPLE"))
    assert head.headers == [(b"host", b"a.example"), (b"a", b"1")]


def test_host_does_where_there_is_no_authority():
    head = read(*without(b":authority"), (b"a", b"1"), (b"host", b"b.example:8080"))
    assert head.headers == [(b"a", b"1"), (b"host", b"b.example:8080")]


# ------------------------------------------------------------------- malformed requests


@pytest.mark.parametrize(
    "fields",
    [
        # Section 8.3: which pseudo-header fields, once, and first.
        *[without(name) for name in (b":method", b":scheme", b":path")],
        *[[*without(name), (name, b"")] for name in (b":method", b":scheme", b":path", b":authority")],
        *[[*GET, field] for field in GET],
        [*GET, (b":path", b"/other")],
        [*GET, (b":status", b"200")],
        [*GET, (b":x", b"1")],
        [*GET, (b":", b"1")],
        [*GET, (b":Path", b"/")],
        [*GET[:3], (b"a", b"1"), GET[3]],
        [(b"a", b"1"), *GET],
        [*GET, (b"a", b"1"), (b":x", b"1")],
        [*GET, *[(b":path", b"/")] * 9],
        [],
        # Section 8.5, RFC 8441 section 4.
        [*CONNECT, (b":path", b"/")],
        [*CONNECT, (b":scheme", b"https")],
        CONNECT[:1],
        [*GET, (b":protocol", b"websocket")],
        [field for field in WEBSOCKET if field[0] != b":path"],
        [field for field in WEBSOCKET if field[0] != b":scheme"],
        # Section 8.2.1.
        *[
            [*GET, (name, b"1")]
            for name in (b"A", b"aB", b"", b"a b", b" a", b"a:", b"a\x00", b"\xe9", b"a\x7f", b"a\n")
        ],
        *[
            [*GET, (b"a", value)]
            for value in (b"\r", b"x\nb", b"\x00", b"a\x7f", b"a\x1f", b" a", b"a ", b"\ta", b"a\t")
        ],
        [*GET[:3], (b":path", b"/\r\nx: y")],
        [*GET[:3], (b":path", b"/ ")],
        [(b":method", b"GET\x00"), *GET[1:]],
        # Section 8.2.2.
        [*GET, (b"connection", b"close")],
        [*GET, (b"keep-alive", b"1")],
        [*GET, (b"proxy-connection", b"close")],
        [*GET, (b"transfer-encoding", b"chunked")],
        [*GET, (b"upgrade", b"h2c")],
        [*GET, (b"te", b"gzip")],
        [*GET, (b"te", b"trailers, gzip")],
        [*GET, (b"te", b"")],
        # Section 8.1.1.
        *[[*GET, (b"content-length", value)] for value in (b"", b"-1", b"+1", b"1, 1", b"0x1", b"1" * 19, b"\xb2")],
        [*GET, (b"content-length", b"1"), (b"content-length", b"1")],
    ],
)
def test_malformed(fields):
    reader = HeadReader(worker())
    for _ in range(2):
        with pytest.raises(StreamFault) as caught:
            reader.read(block(*fields))
        assert caught.value.code is ErrorCode.PROTOCOL_ERROR
    assert reader.read(block(*GET)).path == "/x"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(b":method", b"BREW"), *GET[1:]], 501),
        ([(b":method", b"get"), *GET[1:]], 501),
        (CONNECT, 501),
        ([WEBSOCKET[0], (b":protocol", b"connect-udp"), *GET[1:]], 501),
        ([GET[0], (b":scheme", b"ftp"), *GET[2:]], 400),
        ([*GET[:3], (b":path", b"*")], 400),
        ([*GET[:3], (b":path", b"x")], 400),
        ([*GET[:3], (b":path", b"https://a.example/")], 400),
        ([*GET[:3], (b":path", b"/#x")], 400),
        ([*GET[:3], (b":path", b"/\xe9")], 400),
        ([*GET[:3], (b":path", b"/a b")], 400),
        ([*without(b":authority"), (b":authority", b"user@a.example")], 400),
        ([*without(b":authority"), (b":authority", b"a.example/b")], 400),
        ([*without(b":authority"), (b":authority", b"a.example:x")], 400),
        (without(b":authority"), 400),
        ([*without(b":authority"), (b"host", b"")], 400),
        ([*without(b":authority"), (b"host", b"a@b")], 400),
        ([*GET, (b"host", b"b.example")], 400),
        ([*GET, (b"host", b"")], 400),
        ([*GET, (b"host", b"a.example"), (b"host", b"a.example")], 400),
    ],
)
def test_what_is_owed_an_answer(fields, status):
    reader = HeadReader(worker())
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            reader.read(block(*fields))
        assert caught.value.status == status


def test_a_fault_in_hpack_is_the_connections():
    with pytest.raises(ConnectionFault):
        HeadReader(worker()).read(b"\xff\xff\xff\xff\xff\xff")


@pytest.mark.parametrize(
    "wrong",
    [(b"A", b"1"), (b":x", b"1"), (b"upgrade", b"x"), (b"host", b"b.example"), (b"a", b"1" * 100), (b"te", b"x")],
)
def test_a_request_that_is_refused_leaves_the_table_in_step(wrong):
    reader, encoder = HeadReader(worker(limit_field=90)), Encoder()
    pair = (b"after", b"1")
    with pytest.raises((StreamFault, ProtocolError)):
        reader.read(block(*GET) + encoder.insert(wrong) + encoder.insert(pair))
    assert reader.read(block(*GET) + encoder.indexed(pair)).headers[1:] == [pair]


# ------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("limit", "good", "bad", "status"),
    [
        ({"limit_line": 10}, [*GET[:3], (b":path", b"/" * 10)], [*GET[:3], (b":path", b"/" * 11)], 414),
        ({"limit_fields": 3}, [*GET, (b"a", b""), (b"b", b"")], [*GET, (b"a", b""), (b"b", b""), (b"c", b"")], 431),
        ({"limit_fields": 2}, [*GET, *[(b"cookie", b"a")] * 9], [*GET, *[(b"a", b"a")] * 9], 431),
        ({"limit_field": 20}, [*GET, (b"a", b"1" * 17)], [*GET, (b"a", b"1" * 18)], 431),
        ({"limit_field": 20}, [*GET, *[(b"cookie", b"12345")] * 2], [*GET, *[(b"cookie", b"123456")] * 2], 431),
        ({"limit_field": 15}, GET, [*without(b":authority"), (b":authority", b"aa.example")], 431),
        # 4 × 32, and 22 of values and 29 of names.
        ({"limit_head": 128 + 29 + 21 + 33}, [*GET, (b"a", b"")], [*GET, (b"a", b"1")], 431),
        ({"limit_head": 128 + 29 + 21}, GET, [*GET[:3], (b":path", b"/x?yy")], 431),
    ],
)
def test_limits(limit, good, bad, status):
    read(*good, **limit)
    with pytest.raises(ProtocolError) as caught:
        read(*bad, **limit)
    assert caught.value.status == status
    # Nor does it help to have been good before.
    reader = HeadReader(worker(**limit))
    reader.read(block(*good))
    with pytest.raises(ProtocolError) as caught:
        reader.read(block(*bad))
    assert caught.value.status == status
    reader.read(block(*good))


def test_a_section_that_was_good_with_a_short_path_is_not_with_any():
    fields = [(b"a", b"1" * 100), *[(b"cookie", b"c")] * 10]
    small = [*GET, *fields]
    size = sum(len(name) + len(value) + 32 for name, value in small)
    reader = HeadReader(worker(limit_head=size + 5))
    assert reader.read(block(*small)).path == "/x"
    assert reader.read(block(*GET[:3], (b":path", b"/123456?y"), *fields)).raw_path == b"/123456"[:7]
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            reader.read(block(*GET[:3], (b":path", b"/1234567?y"), *fields))
        assert caught.value.status == 431


# ------------------------------------------------------------------- header_map


def test_names_with_an_underscore():
    fields = [*GET, (b"a", b"1"), (b"b_c", b"2"), (b"d", b"3"), (b"b_c", b"4")]
    assert read(*fields).headers[1:] == fields[4:]
    reader = HeadReader(worker("drop"))
    for _ in range(2):
        assert reader.read(block(*fields)).headers[1:] == [(b"a", b"1"), (b"d", b"3")]
        reader.forget()
    reader = HeadReader(worker("refuse"))
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            reader.read(block(*fields))
        assert caught.value.status == 400


def test_what_is_dropped_has_to_be_well_formed():
    with pytest.raises(StreamFault):
        read(*GET, (b"a_b", b"1"), (b"c", b"\x00"), header_map="drop")
    with pytest.raises(StreamFault):
        read(*GET, (b"a_b", b"\x00"), header_map="drop")


# ------------------------------------------------------------------- trailers


def test_trailers():
    reader = HeadReader(worker())
    fields = [(b"a", b"1"), (b"b", b"2")]
    assert reader.read_trailers(block(*fields)) == fields


@pytest.mark.parametrize("field", [(b":path", b"/"), (b"A", b"1"), (b"a", b"\n"), (b"connection", b"close")])
def test_malformed_trailers(field):
    with pytest.raises(StreamFault) as caught:
        HeadReader(worker()).read_trailers(block((b"a", b"1"), field))
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


def test_trailers_that_are_too_large():
    with pytest.raises(ProtocolError) as caught:
        HeadReader(worker(limit_head=100)).read_trailers(block((b"a", b"1" * 68)))
    assert caught.value.status == 431


# ------------------------------------------------------------------- what is remembered


def test_the_same_block_is_read_once():
    reader = HeadReader(worker())
    one = block(*GET, (b"a", b"1"))
    assert reader.read(one) is reader.read(one)


def test_a_block_means_something_else_once_the_table_has_changed():
    reader, encoder = HeadReader(worker()), Encoder()
    reader.read(block(*GET) + encoder.insert((b"a", b"1")))
    newest = encoder.indexed((b"a", b"1"))
    assert reader.read(block(*GET) + newest).headers[1:] == [(b"a", b"1")]
    assert reader.read(block(*GET) + newest).headers[1:] == [(b"a", b"1")]
    reader.read(block(*GET) + encoder.insert((b"b", b"2")))
    assert reader.read(block(*GET) + newest).headers[1:] == [(b"b", b"2")]
    for change in (reader.read_trailers, reader.skip):
        pair = (b"c", change.__name__.encode())
        change(encoder.insert(pair))
        assert reader.read(block(*GET) + newest).headers[1:] == [pair]


def test_a_tail_means_something_else_once_its_own_lead_has_changed_the_table():
    reader, encoder = HeadReader(worker()), Encoder()
    reader.read(block(*GET) + encoder.insert((b"a", b"1")) + encoder.insert((b"b", b"2")))
    second = encoder.indexed((b"a", b"1"))
    assert reader.read(block(*GET) + second).headers[1:] == [(b"a", b"1")]
    head = reader.read(block(*GET[:3]) + encoder.insert((b":path", b"/new")) + second)
    assert (head.path, head.headers[1:]) == ("/new", [(b"b", b"2")])


def test_a_block_that_changes_the_table_does_so_each_time():
    reader = HeadReader(worker())
    for _ in range(2):
        reader.read(block(*GET) + Encoder().insert((b"a", b"1")))
    oldest = bytes((0x80 | FIRST_DYNAMIC + 1,))
    assert reader.read(block(*GET) + oldest).headers[1:] == [(b"a", b"1")]


def test_a_change_of_the_tables_size_is_no_repetition():
    reader, encoder = HeadReader(worker()), Encoder()
    pair = (b"a", b"1")
    reader.read(block(*GET) + encoder.insert(pair))
    again = block(*GET) + encoder.indexed(pair)
    assert reader.read(again).headers[1:] == [pair]
    emptied = b"\x20\x3f\xe1\x1f"  # 0, and 4096 again
    for _ in range(2):
        assert reader.read(emptied + block(*GET)).headers[1:] == []
    with pytest.raises(ConnectionFault):
        reader.read(again)


def test_a_tail_is_read_once_whatever_the_path(monkeypatch):
    service = worker()
    reader = HeadReader(service)
    tail = block((b"a", b"1"), (b"content-length", b"5"))
    reader.read(block(*GET) + tail)
    monkeypatch.setattr(service.http2_memory, "sieve", None)
    head = reader.read(block(*GET[:3], (b":path", b"/other")) + tail)
    assert (head.path, head.length, head.headers) == (
        "/other",
        5,
        [(b"host", b"a.example"), (b"a", b"1"), (b"content-length", b"5")],
    )


def test_a_remembered_tail_takes_any_authority():
    reader = HeadReader(worker())
    tail = block((b"a", b"1"))
    for authority in (b"a.example", b"b.example", b"a.example"):
        head = reader.read(block(GET[0], GET[1], (b":authority", authority), GET[3]) + tail)
        assert head.headers == [(b"host", authority), (b"a", b"1")]
    for _ in range(2):
        with pytest.raises(ProtocolError):
            reader.read(block(*without(b":authority")) + tail)
    tail = block((b"host", b"a.example"))
    assert reader.read(block(*GET) + tail).headers == [(b"host", b"a.example")]
    assert reader.read(block(*without(b":authority")) + tail).headers == [(b"host", b"a.example")]
    for _ in range(2):
        with pytest.raises(ProtocolError):
            reader.read(block(GET[0], GET[1], (b":authority", b"b.example"), GET[3]) + tail)


def test_what_is_skipped():
    reader, encoder = HeadReader(worker()), Encoder()
    pair = (b"a", b"1")
    reader.skip(encoder.insert((b"A", b"\n")) + encoder.insert(pair))
    again = block(*GET) + encoder.indexed(pair)
    assert reader.read(again).headers[1:] == [pair]
    reader.skip(again)
    assert reader.read(again).headers[1:] == [pair]
    with pytest.raises(ConnectionFault):
        reader.skip(b"\xff\xff\xff\xff\xff\xff")


def test_a_connections_memory_is_bounded():
    reader = HeadReader(worker())
    for number in range(REMEMBERED_BLOCKS * 3):
        reader.read(block(*GET, (b"a", b"%d" % number)))
        assert len(reader._blocks) <= REMEMBERED_BLOCKS
        assert len(reader._tails) <= REMEMBERED_BLOCKS
    tail = block((b"a", b"1"))
    for number in range(REMEMBERED_BLOCKS * 3):
        reader.read(block(*GET[:3], (b":path", b"/%d" % number)) + tail)
        assert len(reader._blocks) <= REMEMBERED_BLOCKS
    reader.forget()
    reader.read(block(*GET, (b"a", b"~" * BLOCK_LENGTH)))
    assert reader._blocks == reader._tails == {}


def test_a_workers_memory_is_bounded():
    service = worker()
    reader = HeadReader(service)
    memory = service.http2_memory
    for number in range(REMEMBERED_LEADS + 5):
        reader.read(block(*GET[:3], (b":path", b"/%d" % number), (b"n%d" % number, b"")))
    assert 0 < len(memory.leads) <= REMEMBERED_LEADS
    assert 0 < len(memory.sieve._plain) <= REMEMBERED_LINES
    assert 0 < len(memory.sieve._names) <= REMEMBERED_NAMES
    memory.leads.clear()
    reader.read(block(*GET[:3], (b":path", b"/" * LEAD_LENGTH)))
    assert not memory.leads


def test_a_name_with_other_values_each_time_does_not_fill_the_workers_memory():
    service = worker()
    reader = HeadReader(service)
    for number in range(LINES_OF_A_NAME * 2):
        reader.read(block(*GET, (b"x-request-id", b"%d" % number)))
    assert len(service.http2_memory.sieve._plain) == LINES_OF_A_NAME


def test_credentials_are_not_the_workers_to_remember():
    service = worker()
    reader = HeadReader(service)
    secret = b"c2VjcmV0"
    for name in (b"cookie", b"authorization", b"proxy-authorization"):
        reader.read(block(*GET, (name, secret), (b"a", b"1")))
    assert service.http2_memory.sieve._plain == {(b"a", b"1")}
    assert secret not in repr(service.http2_memory.leads).encode()


def test_what_another_connection_said_is_not_taken_as_said():
    service = worker()
    HeadReader(service).read(block(*GET, (b"a", b"1")))
    with pytest.raises(StreamFault):
        HeadReader(service).read(block(*GET, (b"a", b"1"), (b"A", b"1")))
    assert HeadReader(service).read(block(*GET)).headers == [(b"host", b"a.example")]


NAMES = [b"a", b"b", b"x_y", b"A", b":path", b"cookie", b"host", b"content-length", b"te", b"upgrade", b"priority"]
VALUES = [
    b"1",
    b"",
    b"a.example",
    b"A.example",
    b"trailers",
    b"u=1, i",
    b"5",
    b" 1",
    b"x" * 60,
    b"\x00",
    b"caf\xc3\xa9",
]
LEADS = [
    GET,
    [*GET[:3], (b":path", b"/other")],
    [*GET[:3], (b":path", b"/" + b"long" * 20)],
    [*GET[:2], GET[3], GET[2]],
    [*GET[:2], (b":authority", b"b.example"), GET[3]],
    without(b":authority"),
    [*GET[:3], (b":path", b"nowhere")],
    CONNECT,
    [*GET, (b":protocol", b"websocket")],
    [*GET, GET[3]],
]
REQUESTS = st.lists(
    st.tuples(st.sampled_from(LEADS), st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=4)),
    min_size=2,
    max_size=8,
)
LIMITS = {"limit_head": 350, "limit_line": 70, "limit_fields": 4, "limit_field": 60}


def outcome(reader: HeadReader, data: bytes) -> object:
    try:
        return facts_of(reader.read(data))
    except ProtocolError as error:
        return error.status, str(error)
    except StreamFault as error:
        return error.code, error.reason


@examples(100)
@given(REQUESTS, st.sampled_from(["keep", "drop", "refuse"]), st.randoms(use_true_random=False))
def test_memory_never_changes_what_is_read(requests, header_map, random):
    service = worker(header_map, **LIMITS)
    readers = [(HeadReader(service), Encoder()) for _ in range(2)]
    for lead, fields in requests * 2:
        fresh = outcome(HeadReader(worker(header_map, **LIMITS)), block(*lead, *fields))
        reader, encoder = random.choice(readers)
        pieces = []
        for field in [*lead, *fields]:
            index = encoder.indexed(field)
            inserted = random.random() < 0.2
            pieces.append(index if index is not None else encoder.insert(field) if inserted else literal(field))
        assert outcome(reader, b"".join(pieces)) == fresh


# ------------------------------------------------------------------- the scope


async def _app(scope, receive, send):
    pass


@pytest.fixture
def service():
    loop = asyncio.new_event_loop()
    yield Service(Settings(root_path="/app"), _app, loop, AccessLog.off(), {"s": 1}, Trusted("*"))
    loop.close()


def facts(service, trusted=None):
    return SimpleNamespace(
        client=("192.0.2.1", 5), server=("198.51.100.1", 443), scheme="https", extensions={"tls": {}}, trusted=trusted
    )


def test_the_scope(service):
    head = HeadReader(service).read(block(*GET[:3], (b":path", b"/a%20b?c"), (b"x-forwarded-for", b"10.0.0.9")))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "2",
        "server": ("198.51.100.1", 443),
        "client": ("192.0.2.1", 5),
        "scheme": "https",
        "method": "GET",
        "root_path": "/app",
        "path": "/app/a b",
        "raw_path": b"/app/a%20b",
        "query_string": b"c",
        "headers": [(b"host", b"a.example"), (b"x-forwarded-for", b"10.0.0.9")],
        "state": {"s": 1},
        "extensions": {"tls": {}},
    }
    assert head.scope(facts(service), service) == scope
    believed = head.scope(facts(service, service.trusted), service)
    assert believed == {**scope, "client": ("10.0.0.9", 0)}


def test_the_scheme_is_the_connections_whatever_the_client_says(service):
    head = HeadReader(service).read(block(GET[0], (b":scheme", b"http"), *GET[2:]))
    assert head.scheme == "http"
    assert head.scope(facts(service), service)["scheme"] == "https"


def test_the_asterisk_has_no_root_path(service):
    head = HeadReader(service).read(block((b":method", b"OPTIONS"), *GET[1:3], (b":path", b"*")))
    assert head.scope(facts(service), service)["path"] == "*"


def test_what_an_application_does_to_its_scope_is_not_remembered(service):
    reader = HeadReader(service)
    for path in (b"/", b"/", b"/other"):
        scope = reader.read(block(*GET[:3], (b":path", path), (b"a", b"1"))).scope(facts(service), service)
        assert scope["headers"] == [(b"host", b"a.example"), (b"a", b"1")]
        scope["headers"].append((b"x-mine", b"1"))
        scope["extensions"].clear()
        scope["state"]["mine"] = 1
    assert service.state == {"s": 1}
