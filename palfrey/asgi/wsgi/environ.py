"""A request's scope -> environ (PEP 3333, "environ Variables").

Strings in environ are bytes, decoded as latin-1. What is made is remembered and copied, since clients ask for the same
over and over: for a whole request, but nothing with credentials, for each field, and for what all requests of a
listener have in common. Names with an underscore are dropped: in an environ nobody could tell `X_User` from `X-User`,
which a proxy may have taken care of.
"""

from __future__ import annotations

import logging
import threading
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from palfrey.asgi.wsgi.files import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from palfrey.types import Header, HostPort, Scope

log = logging.getLogger("palfrey.error")

Environ = dict[str, Any]

BASES, FIELDS, FIELD_LENGTH = 64, 1024, 256
"""Bounds of what is remembered: addresses that requests come in by, header fields, and their length."""

REQUESTS, REQUEST_LENGTH = 256, 1024
"""Bounds of the requests that are remembered, by their paths, and of the length of each."""

CREDENTIALS = frozenset((b"authorization", b"cookie", b"proxy-authorization"))
"""Never remembered."""

Facts = tuple[Any, ...]
_FACTS = itemgetter(
    *("raw_path", "query_string", "method", "root_path", "headers"),
    *("server", "scheme", "http_version"),
)
"""Of a scope, all that an environ depends on but for the client."""

DROPPED: Final = ("wsgi.version", (1, 0))
"""Stands for a field that is left out; putting it into an environ changes nothing."""
_CONTENT: Final = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_OWN: Final = (
    *("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "REQUEST_URI", "RAW_URI", "REMOTE_ADDR", "REMOTE_PORT"),
    *("wsgi.input", "waitress.client_disconnected", "palfrey.client_disconnected"),
)
"""What each request has of its own, beside its fields."""
_PORTS: Final = {"https": "443", "http": "80"}


class EnvironMaker(dict["Header", tuple[str, Any]]):
    """Makes environs. As a dictionary: fields of requests -> key and value in an environ."""

    def __init__(self, multithread: bool, multiprocess: bool) -> None:
        super().__init__()
        self._constant: Environ = {
            "wsgi.version": (1, 0),
            "wsgi.errors": ErrorLog(),
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,
            "SERVER_SOFTWARE": "palfrey",
        }
        self._bases: dict[tuple[Any, ...], Environ] = {}
        self._before: dict[bytes, tuple[Facts, Environ]] = {}
        """By path, the last request that is remembered: what it said, and what followed for its environ."""

    def make(self, scope: Scope, content: Any, size: int, client_gone: Callable[[], bool]) -> Environ:
        """The environ of one request. `size` is its content's where all of that is there, 0 where not."""
        facts = _FACTS(scope)
        before = self._before.get(facts[0])
        environ = before[1].copy() if before is not None and before[0] == facts else self._make(facts)
        client: HostPort | None = scope["client"]
        if client is not None:
            environ["REMOTE_ADDR"], port = client
            if port:
                environ["REMOTE_PORT"] = str(port)
        environ["wsgi.input"] = content
        environ["waitress.client_disconnected"] = environ["palfrey.client_disconnected"] = client_gone
        if size:
            # A content in chunked coding has a length by now, like any other: most frameworks read none without.
            environ["CONTENT_LENGTH"] = str(size)
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        return environ

    def _make(self, facts: Facts) -> Environ:
        """What follows from these facts, which no request before had."""
        raw_path, query, method, root_path, headers, *listener = facts
        environ = (self._bases.get((root_path, *listener)) or self._base(root_path, *listener)).copy()
        known = len(environ)
        environ["REQUEST_METHOD"] = method
        environ["PATH_INFO"] = path_info(raw_path, root_path)
        environ["QUERY_STRING"] = query.decode("latin-1")
        target = raw_path + b"?" + query if query else raw_path
        environ["REQUEST_URI"] = environ["RAW_URI"] = target.decode("latin-1")
        environ.update(map(self.__getitem__, headers))
        if len(environ) != known + len(headers):
            self._join(environ, headers)
        length = sum(len(name) + len(value) for name, value in headers)
        if len(target) + length <= REQUEST_LENGTH and not any(name in CREDENTIALS for name, _ in headers):
            if len(self._before) >= REQUESTS:
                self._before.clear()
            # The list of headers is the application's no more than its exchange's, so it is the copy that is kept.
            self._before[raw_path] = ((*facts[:4], headers.copy(), *listener), environ.copy())
        return environ

    def _base(self, root_path: str, server: HostPort | None, scheme: str, version: str) -> Environ:
        """What all requests have in common that come in by this address, with room for what they have not."""
        host, port = ("localhost", None) if server is None or server[1] is None else server
        base = {
            **self._constant,
            "wsgi.url_scheme": scheme,
            "SERVER_NAME": host,
            "SERVER_PORT": str(port) if port else _PORTS[scheme],
            "SERVER_PROTOCOL": f"HTTP/{version}",
            "SCRIPT_NAME": root_path.encode().decode("latin-1"),
        }
        if scheme == "https":
            base["HTTPS"] = "on"
        base.update(dict.fromkeys(_OWN, ""))
        if len(self._bases) >= BASES:
            self._bases.clear()
        self._bases[root_path, server, scheme, version] = base
        return base

    def __missing__(self, field: Header) -> tuple[str, Any]:
        name, value = field
        if b"_" in name:
            return DROPPED
        key = _CONTENT.get(name) or "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        found = (key, value.decode("latin-1"))
        if name not in CREDENTIALS and len(name) + len(value) <= FIELD_LENGTH:
            if len(self) >= FIELDS:
                self.clear()
            self[field] = found
        return found

    def _join(self, environ: Environ, headers: list[Header]) -> None:
        """Puts fields that came more than once together (RFC 9110 section 5.3; RFC 9113 section 8.2.3 for cookies)."""
        seen: set[str] = set()
        for field in headers:
            found = self[field]
            if found is DROPPED:
                continue
            key, value = found
            if key in seen:
                value = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + value
            seen.add(key)
            environ[key] = value


def path_info(raw_path: bytes, root_path: str) -> str:
    """The path below `root_path`, percent-decoded, as latin-1; empty for the asterisk form."""
    if raw_path == b"*":
        return ""
    path = unquote_to_bytes(raw_path)
    root = root_path.encode()
    if root and path.startswith(root):
        path = path[len(root) :]
    return path.decode("latin-1")


class ErrorLog:
    """`wsgi.errors`: whole lines go to the error log, those of a thread as it wrote them."""

    def __init__(self) -> None:
        self._begun = threading.local()

    def write(self, text: str) -> int:
        *lines, rest = (getattr(self._begun, "text", "") + text).split("\n")
        self._begun.text = rest
        if lines:
            self._say("\n".join(lines))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Ends a line that has been begun."""
        text, self._begun.text = getattr(self._begun, "text", ""), ""
        self._say(text)

    @staticmethod
    def _say(text: str) -> None:
        if text.strip():
            log.error("%s", text)
