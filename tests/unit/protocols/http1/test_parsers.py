"""Both parsers behind the scan: what they make of field lines, and that no request spoils the next one."""

from __future__ import annotations

import contextlib

import pytest

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.fields import Parser
from palfrey.protocols.http1.h11 import H11Parser
from palfrey.protocols.http1.httptools import HttptoolsParser


@pytest.fixture(params=[HttptoolsParser, H11Parser])
def parser(request):
    return request.param()


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"X-B:  c", (b"x-b", b"c")),
        (b"A: x \xff\ty", (b"a", b"x \xff\ty")),
        (b"X:", (b"x", b"")),
        (b"!#:z", (b"!#", b"z")),
        (b"X: " + b"y" * 60000, (b"x", b"y" * 60000)),
    ],
)
def test_a_field_with_its_name_in_lower_case(parser: Parser, line, field):
    for _ in range(3):
        assert parser.read(line) == field


@pytest.mark.parametrize("line", [b"X", b"X Y: a", b": a", b"X: a\x00", b" X: a", b"", b"X: a\r\nY: b"])
def test_what_is_no_field_line_is_refused_or_another_and_forgotten(parser: Parser, line):
    with contextlib.suppress(ProtocolError):
        assert parser.read(line) != (b"x", b"a")
    for _ in range(2):
        assert parser.read(b"X: a") == (b"x", b"a")
