"""Reads field lines with h11, in Python throughout. What it is shown, and what becomes of it, is in fields.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

from palfrey.errors import ProtocolError

if TYPE_CHECKING:
    from palfrey.types import Header

_LINE = b"GET / HTTP/1.0\r\n"
"""Version 1.0, in which h11 does not miss the Host, which it is not shown."""


class H11Parser:
    """An h11 connection reads one request; it costs less than what it then does."""

    __slots__ = ()

    def read(self, line: bytes) -> Header | None:
        """See fields.Parser."""
        connection = h11.Connection(h11.SERVER)
        try:
            connection.receive_data(b"%b%b\r\n\r\n" % (_LINE, line))
            request = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise ProtocolError(400, str(error)) from None
        fields = list(request.headers) if isinstance(request, h11.Request) else []
        return fields[0] if len(fields) == 1 else None
