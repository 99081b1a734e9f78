"""What all protocols' responses have in common: fields that may be sent, and those that are by default."""

from __future__ import annotations

import pytest

from palfrey.asgi.stream import InvalidHeader
from palfrey.protocols.response import DefaultFields, check_field


@pytest.mark.parametrize("value", [b"", b"a", b"a b", b" a ", b"\t", b"\x80\xff", b"\x7f"])
def test_good_fields(value):
    check_field(b"X-!#$%&'*+-.^_`|~09", value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"", b"1"),
        (b"a b", b"1"),
        (b"a:", b"1"),
        (b"a\n", b"1"),
        (b"\xe9", b"1"),
        (b"a", b"\r"),
        (b"a", b"\n"),
        (b"a", b"b\x00"),
        ("a", b"1"),
        (b"a", "1"),
        (b"a", None),
        (b"a", bytearray(b"1")),
    ],
)
def test_bad_fields(name, value):
    with pytest.raises(InvalidHeader):
        check_field(name, value)


def test_the_servers_own_come_first_and_the_date_last():
    defaults = DefaultFields(True, True, [("X-A", "é")])
    assert defaults.pairs[:2] == [(b"server", b"palfrey"), (b"x-a", b"\xe9")]
    assert [name for name, _ in defaults.pairs] == [b"server", b"x-a", b"date"]
    assert defaults.names == {b"server", b"x-a", b"date"}


def test_the_users_own_take_the_place_of_ours():
    defaults = DefaultFields(True, True, [("Server", "mine"), ("DATE", "never")])
    assert defaults.pairs == [(b"server", b"mine"), (b"date", b"never")]


def test_none_at_all():
    defaults = DefaultFields(False, False, ())
    assert defaults.pairs == []
    assert defaults.names == {b"date"}


def test_the_date_moves_with_the_tick(monkeypatch):
    defaults = DefaultFields(False, True, ())
    before = defaults.pairs
    monkeypatch.setattr("palfrey.protocols.response.formatdate", lambda usegmt: "now")
    assert defaults.pairs is before
    defaults.tick()
    assert defaults.pairs == [(b"date", b"now")]
    assert defaults.pairs is not before


def test_a_setting_that_cannot_be_sent_is_found_at_once():
    with pytest.raises(InvalidHeader):
        DefaultFields(False, False, [("x-a", "a\nb")])
