"""Names for the shapes that ASGI 3 passes around (https://asgi.readthedocs.io/en/latest/specs/main.html)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

Header = tuple[bytes, bytes]
"""A field's name (lower case where it came from a client) and its value."""
Headers = Iterable[Header]
HostPort = tuple[str, int | None]
"""ASGI's client and server: (host, port), or (path, None) for a UNIX socket."""
