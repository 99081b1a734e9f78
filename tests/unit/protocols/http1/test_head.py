"""The request line, and what the special fields mean. The table of cases is tests/corpus."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.head import CHUNKED, METHODS, REQUEST_LINE, framing, why_no_request
from tests.corpus.legal import LEGAL
from tests.corpus.refused import REFUSED
from tests.support.properties import examples

HOST = (b"host", b"a")


@pytest.mark.parametrize("case", LEGAL, ids=lambda case: case.name)
def test_request_line_takes_what_is_legal(case):
    line = REQUEST_LINE.match(case.raw.lstrip(b"\r\n"))
    assert line is not None
    assert METHODS[line[1]] == case.method
    assert b"1." + line[3] == case.version.encode()


@pytest.mark.parametrize("filler", [b" ", b"\t", b"a ", b"a", b":", b"\r", b"\n", b"/#"])
def test_request_line_takes_linear_time(filler):
    """A head of 64 KiB that is made to be hard costs milliseconds; a quadratic pattern would take seconds."""
    for begin in (b"", b"GET ", b"GET /", b"GET / HTTP/1.1"):
        head = begin + filler * (65000 // len(filler)) + b"\r\n\r\n"
        before = time.process_time()
        if REQUEST_LINE.match(head) is None:
            why_no_request(head)
        assert time.process_time() - before < 0.2


@examples()
@given(st.sampled_from([case.raw for case in (*LEGAL, *REFUSED)]), st.data())
def test_every_refused_line_has_its_reason(raw, data):
    head = bytearray(raw.partition(b"\r\n")[0] or b"G")
    head[data.draw(st.integers(0, len(head) - 1))] = data.draw(st.integers(0, 255))
    if REQUEST_LINE.match(head + b"\r\n") is None:
        refusal = why_no_request(bytes(head) + b"\r\n\r\n")
        assert refusal.status in (400, 505)
        assert str(refusal)


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
