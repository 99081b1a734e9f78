"""A request's scope -> environ (PEP 3333, "environ Variables").

Strings in environ are bytes, decoded as latin-1. What is made is remembered and copied, since clients ask for the same
over and over: for a request that its own connection says again (in the scope that these have in common, gone with the
connection), for a whole request of anybody's, but nothing with credentials, for each field, and for what all requests
of a listener have in common. Names with an underscore are dropped: in an environ nobody could tell `X_User` from
`X-User`, which a proxy may have taken care of.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from palfrey.asgi.wsgi.files import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from palfrey.asgi.wsgi.errors import ErrorLog
    from palfrey.types import Header, HostPort, Scope

Environ = dict[str, Any]

BASES, FIELDS, FIELD_LENGTH = 64, 1024, 256
"""Bounds of what is remembered: addresses that requests come in by, header fields, and their length."""

REQUESTS, REQUEST_LENGTH = 256, 1024
"""Bounds of the requests that are remembered, by their paths, and of the length of each."""

CREDENTIALS = frozenset((b"authorization", b"cookie", b"proxy-authorization"))
"""Never remembered."""

Facts = tuple[Any, ...]
_FACTS = itemgetter(
    *("raw_path", "palfrey.target", "method", "root_path", "headers"),
    *("server", "scheme", "http_version"),
)
"""Of a scope, all that an environ depends on but for the client."""

ENVIRON: Final = "palfrey.environ"
"""In a scope that several requests have: None since the first, and since the second an environ to be copied."""
UNSEEN: Final = ()
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

    def __init__(self, errors: ErrorLog, multithread: bool, multiprocess: bool) -> None:
        super().__init__()
        self._constant: Environ = {
            "wsgi.version": (1, 0),
            "wsgi.errors": errors,
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
        before = scope.get(ENVIRON, UNSEEN)
        environ: Environ
        if before:
            environ = before.copy()
        else:
            environ = self._environ(scope)
            scope[ENVIRON] = environ.copy() if before is None else None
        environ["wsgi.input"] = content
        environ["waitress.client_disconnected"] = environ["palfrey.client_disconnected"] = client_gone
        if size:
            environ["CONTENT_LENGTH"] = str(size)
        return environ

    def _environ(self, scope: Scope) -> Environ:
        """What follows from a scope."""
        facts = _FACTS(scope)
        before = self._before.get(facts[0])
        environ = before[1].copy() if before is not None and before[0] == facts else self._make(facts)
        client: HostPort | None = scope["client"]
        if client is not None:
            environ["REMOTE_ADDR"], port = client
            if port:
                environ["REMOTE_PORT"] = str(port)
        return environ

    def _make(self, facts: Facts) -> Environ:
        """What follows from these facts, which no request before had."""
        raw_path, target, method, root_path, headers, *listener = facts
        environ = (self._bases.get((root_path, *listener)) or self._base(root_path, *listener)).copy()
        known = len(environ)
        environ["REQUEST_METHOD"] = method
        path, _, query = target.partition(b"?")
        environ["PATH_INFO"] = path_info(path)
        environ["QUERY_STRING"] = query.decode("latin-1")
        environ["REQUEST_URI"] = environ["RAW_URI"] = target.decode("latin-1")
        environ.update(map(self.__getitem__, headers))
        if len(environ) != known + len(headers):
            self._join(environ, headers)
        if environ.pop("HTTP_TRANSFER_ENCODING", ""):
            # A content in chunked coding is collected, out of its coding, and has a length like any other, be it none:
            # most frameworks read nothing without one.
            environ["CONTENT_LENGTH"] = "0"
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


def path_info(path: bytes) -> str:
    """The path of a target of any form (RFC 9112 section 3.2), percent-decoded, as latin-1; empty for `*`."""
    if path == b"*":
        return ""
    if not path.startswith(b"/"):
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return unquote_to_bytes(path).decode("latin-1")
