"""What the response heads of all protocols have in common: which fields may be sent, and those that are by default."""

from __future__ import annotations

import re
from email.utils import formatdate
from typing import TYPE_CHECKING

from palfrey.asgi.stream import InvalidHeader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palfrey.types import Header

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(rb"[\x00\r\n]")


def check_field(name: bytes, value: bytes) -> None:
    """Raises InvalidHeader for what could be read as more than one field, or as none."""
    check_value(name, value)
    check_name(name)


def check_name(name: bytes) -> None:
    """Raises InvalidHeader."""
    if _NAME.fullmatch(name) is None:
        raise InvalidHeader(f"{name!r} is not a header name (RFC 9110 section 5.1)")


def check_value(name: bytes, value: bytes) -> None:
    """Raises InvalidHeader, for either that is no bytes, too."""
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        raise InvalidHeader(f"a header's name and value are bytes, not {name!r}: {value!r}")
    if _BAD_VALUE.search(value) is not None:
        raise InvalidHeader(f"the value of header {name!r} has a CR, LF or NUL (RFC 9110 section 5.5)")


class DefaultFields:
    """The fields that responses have unless the application sets them itself. `tick` keeps the date; nothing else here
    knows the time."""

    __slots__ = ("_date_wanted", "_own", "names", "pairs")

    def __init__(self, server: bool, date: bool, headers: Iterable[tuple[str, str]]) -> None:
        """`server` and `date`: whether those are sent; `headers`: further ones, latin-1 text. Raises InvalidHeader."""
        own = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        if server and not any(name == b"server" for name, _ in own):
            own.insert(0, (b"server", b"palfrey"))
        for name, value in own:
            check_field(name, value)
        self._own = own
        self._date_wanted = date and not any(name == b"date" for name, _ in own)
        self.names = frozenset([name for name, _ in own] + [b"date"])
        """Lower case. The date is among them whether it is sent or not: an application's is not worth remembering."""
        self.pairs: list[Header] = []
        """As they are now: another list after each tick."""
        self.tick()

    def tick(self) -> None:
        """To be called each second: the date is the time of the last call (RFC 9110 section 6.6.1)."""
        self.pairs = self._own.copy()
        if self._date_wanted:
            self.pairs.append((b"date", formatdate(usegmt=True).encode("ascii")))
