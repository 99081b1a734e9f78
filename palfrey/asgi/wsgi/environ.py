"""A request's scope -> environ (PEP 3333, "environ Variables").

Strings in environ are bytes, decoded as latin-1. What is the same for every request of a listener is made once and
copied; header fields are looked up as pairs, since clients send the same ones over and over. Names with an underscore
are dropped: in an environ nobody could tell `X_User` from `X-User`, which a proxy may have taken care of.
"""

from __future__ import annotations

import logging
import threading
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

CREDENTIALS = frozenset((b"authorization", b"cookie", b"proxy-authorization"))
"""Never remembered."""

DROPPED: Final = ("wsgi.version", (1, 0))
"""Stands for a field that is left out; putting it into an environ changes nothing."""
_CONTENT: Final = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
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
        self._bases: dict[tuple[HostPort | None, str, str, str], Environ] = {}

    def make(self, scope: Scope) -> Environ:
        """All of an environ but `wsgi.input` and the client-gone check."""
        root_path: str = scope["root_path"]
        key = (scope["server"], scope["scheme"], scope["http_version"], root_path)
        environ = (self._bases.get(key) or self._base(*key)).copy()
        size = len(environ)
        environ["REQUEST_METHOD"] = scope["method"]
        raw_path: bytes = scope["raw_path"]
        query: bytes = scope["query_string"]
        environ["QUERY_STRING"] = query.decode("latin-1") if query else ""
        if root_path or b"%" in raw_path or raw_path == b"*":
            environ["PATH_INFO"] = path_info(raw_path, root_path)
        else:
            environ["PATH_INFO"] = scope["path"]
        environ["REQUEST_URI"] = environ["RAW_URI"] = (raw_path + b"?" + query if query else raw_path).decode("latin-1")
        client: HostPort | None = scope["client"]
        if client is not None:
            environ["REMOTE_ADDR"], port = client
            environ["REMOTE_PORT"] = str(port) if port else ""
        else:
            environ["REMOTE_ADDR"] = environ["REMOTE_PORT"] = ""
        headers: list[Header] = scope["headers"]
        environ.update(map(self.__getitem__, headers))
        if len(environ) != size + _OWN + len(headers):
            self._join(environ, headers)
        return environ

    def complete(self, environ: Environ, content: Any, size: int, client_gone: Callable[[], bool]) -> None:
        """Adds what belongs to one exchange. `size` is the content's where all of it is there, 0 where not.

        A content in chunked coding has a length then, like any other: most frameworks read none without.
        """
        if size:
            environ["CONTENT_LENGTH"] = str(size)
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        environ["wsgi.input"] = content
        environ["waitress.client_disconnected"] = environ["palfrey.client_disconnected"] = client_gone

    def _base(self, server: HostPort | None, scheme: str, version: str, root_path: str) -> Environ:
        """What all requests have in common that come in by this address."""
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
        if len(self._bases) >= BASES:
            self._bases.clear()
        self._bases[server, scheme, version, root_path] = base
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
            key, value = self[field]
            if key in seen:
                value = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + value
            seen.add(key)
            environ[key] = value


_OWN = len(("REQUEST_METHOD", "QUERY_STRING", "PATH_INFO", "REQUEST_URI", "RAW_URI", "REMOTE_ADDR", "REMOTE_PORT"))
"""How many keys `make` adds beside those of fields."""


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
