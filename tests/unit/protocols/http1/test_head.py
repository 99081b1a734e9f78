"""Request heads: the scan, what the special fields mean, and targets. The table of cases is tests/corpus."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.head import CHUNKED, decode_path, framing, scan, split_target, with_host
from palfrey.protocols.http1.httptools import HttptoolsHead
from tests.corpus.legal import LEGAL
from tests.corpus.refused import REFUSED
from tests.support.properties import examples

HOST = (b"host", b"a")


def head_of(raw: bytes) -> bytes:
    raw = raw.lstrip(b"\r\n")
    return raw[: raw.index(b"\r\n\r\n") + 4]


@pytest.mark.parametrize("case", LEGAL, ids=lambda case: case.name)
def test_scan_takes_what_is_legal(case):
    method, _, minor = scan(head_of(case.raw)).groups()
    assert method.decode() == case.method
    assert b"1." + minor == case.version.encode()


def test_scan_takes_white_space_off_behind_values_and_nowhere_else():
    match = scan(b"GET / HTTP/1.1\r\nHost: a \t\r\nX: \t \r\nY: b c\r\n\r\n")
    assert match.string == b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: b c\r\n\r\n"
    for bad in (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n"):
        with pytest.raises(ProtocolError):
            scan(bad)


@pytest.mark.parametrize(
    "filler", [b" ", b"\t", b"a ", b" a\r\nX: ", b"a", b":", b"\r\n ", b"\n", b"\r", b"X: b\x01\r\n", b"\x00"]
)
def test_scan_takes_linear_time(filler):
    """A head of 64 KiB that is made to be hard costs milliseconds; a quadratic scan would take seconds."""
    for end in (b"", b"\x01", b" b", b"\r"):
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + filler * (65000 // len(filler)) + end + b"\r\n\r\n"
        before = time.process_time()
        try:
            scan(head)
        except ProtocolError:
            pass
        assert time.process_time() - before < 0.2


def verdict(head: bytes) -> int:
    """The status that a head deserves, 200 where it is good. Whatever else is raised fails the test."""
    try:
        match = scan(head)
        split_target(match[2], match[1].decode())
        framing(HttptoolsHead().split(match.string)[1], match[3])
    except ProtocolError as error:
        return error.status if str(error) else -1
    return 200


@examples()
@given(st.binary(max_size=200))
def test_scan_raises_nothing_but_protocol_error(data):
    for head in (data, b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n", b"GET " + data + b" HTTP/1.1\r\nHost: a\r\n\r\n"):
        assert verdict(head) in (200, 400, 501, 505)


@examples()
@given(st.sampled_from([case.raw for case in (*LEGAL, *REFUSED)]), st.data())
def test_one_byte_changed_raises_nothing_but_protocol_error(raw, data):
    head = bytearray(head_of(raw) if b"\r\n\r\n" in raw else raw)
    head[data.draw(st.integers(0, len(head) - 1))] = data.draw(st.integers(0, 255))
    assert verdict(bytes(head)) in (200, 400, 501, 505)


@pytest.mark.parametrize(
    ("fields", "minor", "length", "keep_alive", "expects"),
    [
        ([], b"1", 0, True, False),
        ([], b"0", 0, False, False),
        ([(b"connection", b"close")], b"1", 0, False, False),
        ([(b"connection", b"close"), (b"connection", b"keep-alive")], b"1", 0, False, False),
        ([(b"connection", b"keep-alive"), (b"connection", b"close")], b"0", 0, False, False),
        ([(b"connection", b"Keep-Alive")], b"0", 0, True, False),
        ([(b"content-length", b"7")], b"1", 7, True, False),
        ([(b"content-length", b"7")], b"0", 7, False, False),
        ([(b"transfer-encoding", b"chunked")], b"1", CHUNKED, True, False),
        ([(b"content-length", b"7"), (b"expect", b"100-Continue")], b"1", 7, True, True),
        ([(b"transfer-encoding", b"chunked"), (b"expect", b"100-continue")], b"1", CHUNKED, True, True),
        # RFC 9110 section 10.1.1: ignored where there is no content, and from HTTP/1.0
        ([(b"expect", b"100-continue")], b"1", 0, True, False),
        ([(b"content-length", b"0"), (b"expect", b"100-continue")], b"1", 0, True, False),
        ([(b"content-length", b"7"), (b"expect", b"100-continue")], b"0", 7, False, False),
        ([(b"upgrade", b"websocket"), (b"connection", b"upgrade")], b"1", 0, True, False),
    ],
)
def test_framing(fields, minor, length, keep_alive, expects):
    frame = framing([HOST, *fields], minor)
    assert (frame.length, frame.keep_alive, frame.expects_continue) == (length, keep_alive, expects)


def test_hosts_that_were_seen_are_remembered_without_bound_to_nothing_but_good_ones():
    for number in range(1000):
        framing([(b"host", b"h%d" % number)], b"1")
    for _ in range(2):
        with pytest.raises(ProtocolError):
            framing([(b"host", b"a b")], b"1")


def test_targets():
    assert split_target(b"/a%20b?c=%20", "GET") == ("/a b", b"/a%20b", b"c=%20", None)
    assert split_target(b"*", "OPTIONS") == ("*", b"*", b"", None)
    assert split_target(b"http://b:1?q", "GET") == ("/", b"/", b"q", b"b:1")


@examples()
@given(st.binary(max_size=50))
def test_any_path_decodes(path):
    visible = bytes(byte for byte in path if 0x20 < byte < 0x7F)
    assert isinstance(decode_path(visible), str)


def test_the_absolute_forms_host_comes_first_and_alone():
    fields = [(b"x", b"1"), (b"host", b"a"), (b"y", b"2")]
    assert with_host(fields, b"b") == [(b"host", b"b"), (b"x", b"1"), (b"y", b"2")]
    assert with_host([(b"x", b"1")], b"b") == [(b"host", b"b"), (b"x", b"1")]
