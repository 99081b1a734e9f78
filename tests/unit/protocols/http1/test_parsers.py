"""Both parsers behind the scan: what they make of field lines, and that no request spoils the next one."""

from __future__ import annotations

import pytest

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.fields import Parser
from palfrey.protocols.http1.h11 import H11Parser
from palfrey.protocols.http1.httptools import HttptoolsParser


@pytest.fixture(params=[HttptoolsParser, H11Parser])
def parser(request):
    return request.param()


def test_fields_in_order_with_names_in_lower_case(parser: Parser):
    assert parser.split(b"X-B:  c\r\nA: x \xff\ty\r\nx-b: \r\n!#: z\r\n") == [
        (b"x-b", b"c"),
        (b"a", b"x \xff\ty"),
        (b"x-b", b""),
        (b"!#", b"z"),
    ]


@pytest.mark.parametrize("section", [b"X\r\n", b"X Y: a\r\n", b": a\r\n", b"X: a\x00\r\n", b" X: a\r\n"])
def test_what_is_no_field_line_is_refused_and_forgotten(parser: Parser, section):
    with pytest.raises(ProtocolError) as refusal:
        parser.split(section)
    assert refusal.value.status == 400
    assert str(refusal.value)
    for _ in range(2):
        assert parser.split(b"X: a\r\n") == [(b"x", b"a")]


def test_many_fields(parser: Parser):
    assert parser.split(b"X: y\r\n" * 1000) == [(b"x", b"y")] * 1000
