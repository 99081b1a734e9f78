"""Close codes (RFC 6455 section 7.4), and the exception that carries one."""

from __future__ import annotations

from enum import IntEnum


class Close(IntEnum):
    """The codes that this server sends or reports."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    NO_STATUS = 1005
    """Never sent: the peer's close frame had no code."""
    ABNORMAL = 1006
    """Never sent: there was no close frame."""
    BAD_DATA = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012


_REGISTERED = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
"""Those of IANA's registry that a close frame may have (1004 is reserved; 1005, 1006 and 1015 are never sent)."""


def may_be_sent(code: int) -> bool:
    """Whether a close frame may carry it: registered, or of the ranges for libraries and applications."""
    return code in _REGISTERED or 3000 <= code <= 4999


class WebSocketError(Exception):
    """The client broke the protocol or a limit: the connection is closed with this code and reason."""

    def __init__(self, code: Close, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
