"""What is said of a request once it is read: in the log's lines, and wherever it has to be named.

Everything is looked up in its scope when it is asked for, so that a request that nobody names costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palfrey.types import Header, HostPort, Scope


def client_name(client: HostPort | None) -> str:
    """A client for the log: its address, or a UNIX socket's path."""
    return "an unnamed client" if client is None else client[0] if client[1] is None else f"{client[0]}:{client[1]}"


def target_of(scope: Scope) -> bytes:
    """The path and query as they came (RFC 9112 section 3.2.1)."""
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return path + b"?" + query if query else path


class Request:
    """The facts of a request, out of its ASGI scope."""

    __slots__ = ("id_field", "scope")

    scope: Scope
    id_field: Header | None
    """The request's id as a field of the response; None without the `request_id` setting."""

    def describe(self) -> str:
        """The request in a few words, for the log; control characters escaped."""
        origin = client_name(self.client)
        name = f", request_id {self.request_id}" if self.id_field is not None else ""
        return f'"{self.method} {ascii(self.target)[2:-1]}" from {origin}{name}'

    @property
    def client(self) -> HostPort | None:
        client: HostPort | None = self.scope["client"]
        return client

    @property
    def method(self) -> str:
        method: str = self.scope.get("method", "GET")  # a WebSocket's scope has none
        return method

    @property
    def target(self) -> bytes:
        """The path and query as they came."""
        return target_of(self.scope)

    @property
    def http_version(self) -> str:
        version: str = self.scope["http_version"]
        return version

    @property
    def request_id(self) -> str:
        """What asgi/identity.py named it; empty where that is off."""
        return "" if self.id_field is None else self.id_field[1].decode("ascii")

    @property
    def request_headers(self) -> list[Header]:
        headers: list[Header] = self.scope["headers"]
        return headers
