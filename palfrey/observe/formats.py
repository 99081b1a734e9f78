"""The access log's formats: from the facts of a finished request to the text of its line.

How it works. A format is compiled once to a `Line`, a function that reads what it needs off the facts. There are
uvicorn's look (the default, unrolled because it runs for every request) and Gunicorn's atoms, of which each is a
small function in the table `ATOMS`.

Everything that a client may choose (method, target, header values, its address behind a proxy) passes through
`escape()`: a control character, a quote, a backslash or a byte beyond ASCII is written as \\xNN, so that a
request can neither forge a line nor close a quoted field. What repeats (client, method, status) is remembered as
ready text in small bounded caches.

Pure text: lines are collected and written by palfrey/observe/access.py.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Protocol, TypeVar

from palfrey.errors import ConfigError
from palfrey.types import Header, HostPort

MEMO_ENTRIES, MEMO_LENGTH = 1024, 200
"""Bounds of each cache of ready text, which clients must not be able to fill with memory."""


class AccessFacts(Protocol):
    """What is read of a finished request. An Exchange is one; attribute reads are all it costs."""

    @property
    def client(self) -> HostPort | None: ...
    @property
    def method(self) -> str: ...
    @property
    def target(self) -> bytes:
        """The request target as it was sent, query included."""

    @property
    def http_version(self) -> str:
        """ "1.1", "2" …"""

    @property
    def status(self) -> int: ...
    @property
    def body_bytes(self) -> int:
        """Octets of response content sent, without framing."""

    @property
    def started(self) -> float:
        """When the request began, on time.monotonic()."""

    @property
    def request_headers(self) -> Iterable[Header]:
        """Names in lower case."""

    @property
    def response_headers(self) -> Iterable[Header]: ...


Line = Callable[[AccessFacts, float], str]
"""(facts, when it ended on time.monotonic()) -> the line, without its newline."""
_Key = TypeVar("_Key")

# --- text that a client chose -----------------------------------------------------------------------------------

_SAFE = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_ESCAPED = [chr(byte) if byte in _SAFE else f"\\x{byte:02x}" for byte in range(256)]


def escape(data: bytes) -> str:
    """`data` as printable ASCII without quotes and backslashes, other bytes as \\xNN."""
    if not data.translate(None, _SAFE):
        return data.decode("ascii")
    return "".join([_ESCAPED[byte] for byte in data])


def escape_text(text: str) -> str:
    """The same for text, by its UTF-8 bytes. Lone surrogates are no reason to fail."""
    return escape(text.encode("utf-8", "backslashreplace"))


class _Memo(dict[_Key, str]):
    """key -> text, made on first use. Bounded: it is emptied when full, and long texts are not remembered."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[_Key], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: _Key) -> str:
        text = self._make(key)
        if len(text) <= MEMO_LENGTH:
            if len(self) >= MEMO_ENTRIES:
                self.clear()
            self[key] = text
        return text


def client_text(client: HostPort | None) -> str:
    """`127.0.0.1:53412`, `[::1]:53412`, the path of a UNIX socket's client, or `-`."""
    if client is None:
        return "-"
    host, port = client
    host = escape_text(host)
    if port is None:
        return host or "unix"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def status_text(status: int) -> str:
    """`200 OK`, or the number alone where it has no name."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


# --- uvicorn's look ---------------------------------------------------------------------------------------------

_STATUS_COLORS = {1: "97", 2: "32", 3: "33", 4: "31", 5: "91"}
"""First digit of the status -> SGR colour, as uvicorn paints them."""


def uvicorn_line(*, colors: bool = False) -> Line:
    """`INFO:     127.0.0.1:53412 - "GET /path?query HTTP/1.1" 200 OK`."""
    level, bold, plain = ("\x1b[32mINFO\x1b[0m", "\x1b[1m", "\x1b[0m") if colors else ("INFO", "", "")

    def make_head(client: HostPort | None) -> str:
        return f'{level}:     {client_text(client)} - "{bold}'

    def make_tail(key: tuple[str, int]) -> str:
        version, status = key
        color = _STATUS_COLORS.get(status // 100, "0") if colors else ""
        text = f"\x1b[{color}m{status_text(status)}\x1b[0m" if colors else status_text(status)
        return f' HTTP/{escape_text(version)}{plain}" {text}'

    heads, methods, tails = _Memo(make_head), _Memo(escape_text), _Memo(make_tail)
    safe = _SAFE

    def line(facts: AccessFacts, ended: float) -> str:
        target = facts.target
        # escape(), unrolled: the call would be a tenth of the whole.
        text = escape(target) if target.translate(None, safe) else target.decode("ascii")
        tail = tails[facts.http_version, facts.status]
        return f"{heads[facts.client]}{methods[facts.method]} {text}{tail}"

    return line


# --- Gunicorn's atoms -------------------------------------------------------------------------------------------


_texts = _Memo(escape_text)
"""Methods, versions and hosts: few, and each seen again."""
_values = _Memo(escape)
"""Header values, which browsers repeat."""


def _host(facts: AccessFacts, ended: float) -> str:
    return "-" if facts.client is None else _texts[facts.client[0]] or "-"


def _user(facts: AccessFacts, ended: float) -> str:
    scheme, _, credentials = _joined(facts.request_headers, b"authorization").partition(b" ")
    if scheme.lower() != b"basic":
        return "-"
    try:
        user = base64.b64decode(credentials.strip(), validate=True).partition(b":")[0]
    except binascii.Error:
        return "-"
    return escape(user) or "-"


def _request(facts: AccessFacts, ended: float) -> str:
    return f"{_texts[facts.method]} {escape(facts.target)} HTTP/{_texts[facts.http_version]}"


def _seconds(facts: AccessFacts, ended: float) -> float:
    return max(ended - facts.started, 0.0)


def _joined(headers: Iterable[Header], name: bytes) -> bytes:
    """The values of a field, joined as RFC 9110 section 5.3 does; empty when it is not there."""
    found = [value for key, value in headers if key == name]
    return found[0] if len(found) == 1 else b", ".join(found)


def _time_stamp() -> Line:
    """`[20/Nov/2026:06:44:21 +0000]`, made once a second."""
    month = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    known = (0, "")

    def stamp(facts: AccessFacts, ended: float) -> str:
        nonlocal known
        now = int(time.time())
        if known[0] != now:
            # strftime's %b follows the locale; the log's readers do not.
            local = time.localtime(now)
            known = (now, time.strftime(f"[%d/{month[local.tm_mon]}/%Y:%H:%M:%S %z]", local))
        return known[1]

    return stamp


ATOMS: dict[str, Line] = {
    "h": _host,
    "l": lambda facts, ended: "-",
    "u": _user,
    "t": _time_stamp(),
    "r": _request,
    "m": lambda facts, ended: _texts[facts.method],
    "U": lambda facts, ended: escape(facts.target.partition(b"?")[0]),
    "q": lambda facts, ended: escape(facts.target.partition(b"?")[2]),
    "H": lambda facts, ended: f"HTTP/{_texts[facts.http_version]}",
    "s": lambda facts, ended: str(facts.status),
    "B": lambda facts, ended: str(facts.body_bytes),
    "b": lambda facts, ended: str(facts.body_bytes or "-"),
    "f": lambda facts, ended: _values[_joined(facts.request_headers, b"referer")] or "-",
    "a": lambda facts, ended: _values[_joined(facts.request_headers, b"user-agent")] or "-",
    "T": lambda facts, ended: str(int(_seconds(facts, ended))),
    "M": lambda facts, ended: str(int(_seconds(facts, ended) * 1_000)),
    "D": lambda facts, ended: str(int(_seconds(facts, ended) * 1_000_000)),
    "L": lambda facts, ended: f"{_seconds(facts, ended):.6f}",
    "p": lambda facts, ended: f"<{os.getpid()}>",
}
"""Gunicorn's atoms by name (its documentation of access_log_format)."""

_CGI_NAMES = {
    "REQUEST_METHOD": "m",
    "PATH_INFO": "U",
    "QUERY_STRING": "q",
    "SERVER_PROTOCOL": "H",
    "REMOTE_ADDR": "h",
}
"""What `%({name}e)s` finds in a WSGI environment under Gunicorn -> the atom that tells the same here."""


def _request_field(name: str) -> Line:
    key = name.lower().encode()
    return lambda facts, ended: _values[_joined(facts.request_headers, key)] or "-"


def _response_field(name: str) -> Line:
    key = name.lower().encode()

    def field(facts: AccessFacts, ended: float) -> str:
        # Unlike a request's, these names are the application's, in the case that it likes.
        return _values[_joined([(name.lower(), value) for name, value in facts.response_headers], key)] or "-"

    return field


def _variable(name: str) -> Line:
    if name in _CGI_NAMES:
        return ATOMS[_CGI_NAMES[name]]
    if name.startswith("HTTP_"):
        return _request_field(name.removeprefix("HTTP_").replace("_", "-"))
    # Looked up when a line is written, since a worker's environment is completed after the format is compiled.
    return lambda facts, ended: escape_text(os.environ.get(name, "-"))


_NAMED: dict[str, Callable[[str], Line]] = {"i": _request_field, "o": _response_field, "e": _variable}
_TOKEN = re.compile(r"%(?:%|\((\{[^}]*\}.|[^)]*)\)([-0]?\d*(?:\.\d+)?)(.?))?", re.DOTALL)


def compile_format(text: str, *, setting: str = "access_log_format") -> Line:
    """A function that fills Gunicorn's atoms into `text`. ConfigError, naming `setting`, for what is no atom."""
    template: list[str] = []
    getters: list[Line] = []
    end = 0
    for token in _TOKEN.finditer(text):
        template.append(text[end : token.start()])
        end = token.end()
        atom, width, conversion = token.groups()
        if token[0] == "%%":
            template.append("%%")
        elif atom is None:
            raise ConfigError(f"{setting}: a lone % at character {token.start() + 1}: write %% for the sign itself")
        elif conversion != "s":
            raise ConfigError(f"{setting}: %({atom}){width}{conversion} has to end in s: write %({atom})s")
        else:
            getters.append(_getter(atom, setting))
            template.append(f"%{width}s")
    pattern = "".join(template) + text[end:]

    def line(facts: AccessFacts, ended: float) -> str:
        return pattern % tuple([get(facts, ended) for get in getters])

    return line


def _getter(atom: str, setting: str) -> Line:
    if atom in ATOMS:
        return ATOMS[atom]
    if atom.startswith("{") and atom[-2:-1] == "}" and atom[-1] in _NAMED and len(atom) > 3:
        return _NAMED[atom[-1]](atom[1:-2])
    known = " ".join(f"%({name})s" for name in ATOMS)
    raise ConfigError(
        f"{setting}: there is no atom %({atom})s; known are {known} and %({{name}}i)s, %({{name}}o)s, %({{name}}e)s "
        "for a request header, a response header, a variable"
    )
