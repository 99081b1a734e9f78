"""Field lines: what is read, what is remembered, and that two readers have to agree. More cases are in tests/corpus."""

from __future__ import annotations

import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.errors import BootError, ProtocolError
from palfrey.protocols.http1.fields import (
    LINE_LENGTH,
    LINES_OF_A_NAME,
    NAME_LENGTH,
    REMEMBERED_LINES,
    REMEMBERED_NAMES,
    FieldReader,
    make_parser,
)
from palfrey.protocols.http1.h11 import H11Parser
from palfrey.protocols.http1.httptools import HttptoolsParser
from tests.support.properties import examples

PARSERS = ("httptools", "h11")


class Counting:
    """A parser that notes what it is shown."""

    def __init__(self) -> None:
        self.shown: list[bytes] = []

    def read(self, line):
        self.shown.append(line)
        return HttptoolsParser().read(line)


@pytest.fixture
def parser():
    return Counting()


@pytest.fixture
def reader(parser):
    return FieldReader(parser)


@pytest.mark.parametrize("name", PARSERS)
def test_names_in_lower_case_and_values_without_space_around(name):
    reader = FieldReader(make_parser(name))
    lines = [b"HOST: A", b"X-B: \t c d \t", b"x-b:d", b"Connection:close ", b"Empty:", b"Blank: \t"]
    fields = [
        (b"host", b"A"),
        (b"x-b", b"c d"),
        (b"x-b", b"d"),
        (b"connection", b"close"),
        (b"empty", b""),
        (b"blank", b""),
    ]
    for _ in range(2):
        assert reader.read(lines) == fields
    assert reader.read(lines[::-1]) == fields[::-1]


def test_no_fields(reader, parser):
    assert reader.read([]) == []
    assert parser.shown == []


def test_a_line_is_read_once(reader, parser):
    assert reader.read([b"A: 1", b"B: 2"]) == [(b"a", b"1"), (b"b", b"2")]
    assert reader.read([b"B: 2", b"C: 3", b"A: 1", b"C: 3"]) == [(b"b", b"2"), (b"c", b"3"), (b"a", b"1"), (b"c", b"3")]
    assert parser.shown == [b"A: 1", b"B: 2", b"C: 3"]


def test_the_list_is_each_requests_own(reader):
    reader.read([b"A: 1"]).clear()
    assert reader.read([b"A: 1"]) == [(b"a", b"1")]


def test_the_parser_is_not_shown_what_it_would_act_upon(reader, parser):
    reader.read([b"Host: a", b"Content-Length: 5", b"X: y", b"Upgrade: z", b"Proxy-Connection: close", b"Expect: 1"])
    assert parser.shown == [b"X: y"]


@pytest.mark.parametrize(
    "line", [b"Cookie: a=b", b"AUTHORIZATION: Basic YTpi", b"Proxy-Authorization: x", b"X: " + b"y" * LINE_LENGTH]
)
def test_credentials_and_long_lines_are_not_remembered(reader, parser, line):
    reader.read([line, b"A: 1"])
    reader.read([line, b"A: 1"])
    assert parser.shown.count(b"A: 1") == 1
    assert line not in reader


def test_what_is_remembered_is_bounded(reader):
    for number in range(3 * REMEMBERED_LINES):
        assert reader.read([b"X: %d" % number, b"A: 1"]) == [(b"x", b"%d" % number), (b"a", b"1")]
        assert len(reader) <= REMEMBERED_LINES
    assert b"A: 1" in reader


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b" a: b", "folding"),
        (b"\ta", "folding"),
        (b"a", "name"),
        (b": b", "name"),
        (b"a : b", "name"),
        (b"a\x00: b", "name"),
        (b"a: b\x01", "control"),
        (b"a: b\rc: d", "control"),
        (b"a: b\nc: d", "control"),
        (b"a: b\r", "control"),
        (b"", "name"),
        (b" \t", "folding"),
    ],
)
def test_a_bad_line_is_refused_with_its_reason_and_not_remembered(reader, line, reason):
    reader.read([b"A: 1"])
    for lines in ([line, b"A: 1"], [b"A: 1", line], [b"B: 2", line, b"C: 3"]):
        with pytest.raises(ProtocolError, match=reason) as refusal:
            reader.read(lines)
        assert refusal.value.status == 400
    assert line not in reader


def test_what_two_readers_take_differently_is_refused():
    class Other:
        def read(self, line):
            return (b"x", b"z")

    reader = FieldReader(Other())
    assert reader.read([b"X: z"]) == [(b"x", b"z")]
    with pytest.raises(ProtocolError, match="two ways"):
        reader.read([b"X: \xff"])
    with pytest.raises(ProtocolError, match="two ways"):
        reader.read([b"Y: 1", b"X: z", b"Z: 1"])


def test_a_plain_value_behind_a_known_name_is_not_read_twice(reader, parser):
    reader.read([b"X-Id: 1", b"Cookie: a=b"])
    assert reader.read([b"X-Id: 2 3 ", b"X-Id:\t", b"Cookie: c=d"]) == [
        (b"x-id", b"2 3"),
        (b"x-id", b""),
        (b"cookie", b"c=d"),
    ]
    assert parser.shown == [b"X-Id: 1", b"Cookie: a=b"]
    for line in (b"X-ID: 1", b"X-Id: \xc3\xa9", b"X-Id: a\tb"):
        reader.read([line])
        assert parser.shown[-1] == line


@pytest.mark.parametrize(
    "line", [b"X-Id", b"X-Id ", b"X-Id : 1", b" X-Id: 1", b"X-Id: a\rb", b"X-Id: \x7f", b"X-Id: \x00"]
)
def test_a_known_name_makes_no_bad_line_good(reader, line):
    reader.read([b"X-Id: 1"])
    with pytest.raises(ProtocolError):
        reader.read([line])
    assert line not in reader


def test_a_name_with_ever_new_values_does_not_push_out_other_lines(reader, parser):
    reader.read([b"A: 1"])
    for number in range(2 * REMEMBERED_LINES):
        reader.read([b"X-Id: %d" % number])
    assert b"A: 1" in reader
    assert len(reader) == LINES_OF_A_NAME + 1


def test_names_are_bounded(reader):
    for number in range(3 * REMEMBERED_NAMES):
        reader.read([b"X-%d: \xff" % number])
        assert len(reader._names) <= REMEMBERED_NAMES
    reader.read([b"x" * (NAME_LENGTH + 1) + b": \xff"])
    assert all(len(name) <= NAME_LENGTH for name in reader._names)


@pytest.mark.parametrize("name", PARSERS)
def test_header_map(name):
    lines = [b"A_B: 1", b"A-B: 2", b"_: 3"]
    keep, drop, refuse = (FieldReader(make_parser(name), how) for how in ("keep", "drop", "refuse"))
    for _ in range(2):
        assert keep.read(lines) == [(b"a_b", b"1"), (b"a-b", b"2"), (b"_", b"3")]
        assert drop.read(lines) == [(b"a-b", b"2")]
        assert drop.read(lines[:1]) == []
        assert refuse.read(lines[1:2]) == [(b"a-b", b"2")]
        with pytest.raises(ProtocolError, match="underscore"):
            refuse.read(lines)
    assert len(keep) == 3
    assert list(drop) == list(refuse) == [b"A-B: 2"]


@pytest.mark.parametrize("filler", [b" ", b"\t", b"a ", b"a", b":", b"\r", b"\n", b"a\x01", b"\x00"])
def test_hard_lines_take_linear_time(reader, filler):
    """64 KiB that are made to be hard cost milliseconds; a quadratic pattern would take seconds."""
    for begin in (b"", b"X", b"X: "):
        before = time.process_time()
        try:
            reader.read([begin + filler * (65000 // len(filler)) + b"b"])
        except ProtocolError:
            pass
        assert time.process_time() - before < 0.2


lines = st.lists(
    st.one_of(
        st.binary(max_size=40).map(lambda line: line.replace(b"\r\n", b"")),
        st.builds(
            b"%b%b%b".__mod__,
            st.tuples(
                st.sampled_from([b"X", b"a_b", b"Host", b"Content-Length", b"Connection", b"!", b"A b", b"Upgrade"]),
                st.sampled_from([b":", b": ", b"", b" :", b"\t"]),
                st.one_of(st.binary(max_size=12), st.sampled_from([b" ", b" 5", b" close", b" chunked \t", b" a, b"])),
            ),
        ),
    ),
    min_size=1,
    max_size=6,
)


@examples(300)
@given(lines, lines)
def test_both_parsers_agree_on_any_lines_new_or_known(before, after):
    readers = [FieldReader(make_parser(name)) for name in PARSERS]
    for each in (before, after, before):
        verdicts = []
        for reader in readers:
            try:
                verdicts.append(reader.read(each))
            except ProtocolError as error:
                verdicts.append(error.status)
        assert verdicts[0] == verdicts[1]
        assert verdicts[0] == 400 or isinstance(verdicts[0], list)


@examples(300)
@given(lines, lines)
def test_what_was_read_before_does_not_change_the_verdict(before, after):
    reader = FieldReader(make_parser("httptools"))
    for each in (before, after):
        verdicts = []
        for one in (reader, FieldReader(make_parser("httptools"))):
            try:
                verdicts.append(one.read(each))
            except ProtocolError as error:
                verdicts.append(str(error))
        assert verdicts[0] == verdicts[1]


def test_parsers_by_name(monkeypatch):
    assert isinstance(make_parser("auto"), HttptoolsParser)
    assert isinstance(make_parser("h2"), HttptoolsParser)
    assert isinstance(make_parser("httptools"), HttptoolsParser)
    assert isinstance(make_parser("h11"), H11Parser)
    monkeypatch.delitem(sys.modules, "palfrey.protocols.http1.httptools")
    monkeypatch.setitem(sys.modules, "httptools", None)
    assert isinstance(make_parser("auto"), H11Parser)
    assert isinstance(make_parser("h2"), H11Parser)
    with pytest.raises(BootError, match=r"http = httptools: .*install httptools, or leave http at auto"):
        make_parser("httptools")
