"""Gunicorn's atoms: `%(h)s "%(r)s" %(s)s %({user-agent}i)s` -> a function that makes such lines.

How it works. `compile_format` goes through the text once: what stands between atoms becomes a %-template, and each atom
a small function from the table `ATOMS`. Request fields, where a format has any, are looked up in one dictionary that
is made once a line.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable
from typing import Final

from palfrey.errors import ConfigError
from palfrey.observe.facts import (
    AccessFacts,
    Fields,
    Line,
    Memo,
    WebSocketFacts,
    duration,
    escape,
    escape_text,
    fields_of,
    time_stamp,
)

Atom = Callable[[AccessFacts, float, Fields], str]
"""(facts, when the request ended, its fields or nothing where the format has no use for them) -> text."""

texts = Memo(escape_text)
"""Methods, versions and hosts: few, and each seen again."""
values = Memo(escape)
"""Header values, which browsers repeat."""
_stamp = time_stamp()


def user_of(authorization: bytes) -> str:
    """Who logs in by the Basic scheme, or `-`."""
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return "-"
    try:
        user = base64.b64decode(credentials.strip(), validate=True).partition(b":")[0]
    except binascii.Error:
        return "-"
    return escape(user) or "-"


def _request(facts: AccessFacts, ended: float, fields: Fields) -> str:
    return f"{texts[facts.method]} {escape(facts.target)} HTTP/{texts[facts.http_version]}"


def _count(name: str) -> Atom:
    """One of a WebSocket's `Counts`."""

    def count(facts: AccessFacts, ended: float, fields: Fields) -> str:
        return str(getattr(facts.counts, name)) if isinstance(facts, WebSocketFacts) else "-"

    return count


def _request_field(name: str) -> Atom:
    key = name.lower().encode()
    return lambda facts, ended, fields: values[fields.get(key, b"")] or "-"


ATOMS: Final[dict[str, Atom]] = {
    "h": lambda facts, ended, fields: "-" if facts.client is None else texts[facts.client[0]] or "-",
    "l": lambda facts, ended, fields: "-",
    "u": lambda facts, ended, fields: user_of(fields.get(b"authorization", b"")),
    "t": lambda facts, ended, fields: _stamp(),
    "r": _request,
    "m": lambda facts, ended, fields: texts[facts.method],
    "U": lambda facts, ended, fields: escape(facts.target.partition(b"?")[0]),
    "q": lambda facts, ended, fields: escape(facts.target.partition(b"?")[2]),
    "H": lambda facts, ended, fields: f"HTTP/{texts[facts.http_version]}",
    "s": lambda facts, ended, fields: str(facts.status),
    "B": lambda facts, ended, fields: str(facts.body_bytes),
    "b": lambda facts, ended, fields: str(facts.body_bytes or "-"),
    "f": _request_field("referer"),
    "a": _request_field("user-agent"),
    "T": lambda facts, ended, fields: str(int(duration(facts, ended))),
    "M": lambda facts, ended, fields: str(int(duration(facts, ended) * 1_000)),
    "D": lambda facts, ended, fields: str(int(duration(facts, ended) * 1_000_000)),
    "L": lambda facts, ended, fields: f"{duration(facts, ended):.6f}",
    "p": lambda facts, ended, fields: f"<{os.getpid()}>",
    "request_id": lambda facts, ended, fields: facts.request_id or "-",
    **{name: _count(name) for name in ("messages_in", "messages_out", "bytes_in", "close_code")},
}
"""Gunicorn's atoms by name (its documentation of access_log_format), and some of ours."""

_CGI_NAMES: Final = {
    "REQUEST_METHOD": "m",
    "PATH_INFO": "U",
    "QUERY_STRING": "q",
    "SERVER_PROTOCOL": "H",
    "REMOTE_ADDR": "h",
}
"""What `%({name}e)s` finds in a WSGI environment under Gunicorn -> the atom that tells the same here."""


def _response_field(name: str) -> Atom:
    key = name.lower().encode()

    def field(facts: AccessFacts, ended: float, fields: Fields) -> str:
        # Unlike a request's, these names are the application's, in the case that it likes.
        found = [value for field, value in facts.response_headers if field.lower() == key]
        return values[b", ".join(found)] or "-"

    return field


def _variable(name: str) -> Atom:
    if name in _CGI_NAMES:
        return ATOMS[_CGI_NAMES[name]]
    if name.startswith("HTTP_"):
        return _request_field(name.removeprefix("HTTP_").replace("_", "-"))
    # Looked up when a line is written, since a worker's environment is completed after the format is compiled.
    return lambda facts, ended, fields: escape_text(os.environ.get(name, "-"))


_NAMED: Final[dict[str, Callable[[str], Atom]]] = {"i": _request_field, "o": _response_field, "e": _variable}
_WANTS_FIELDS: Final = re.compile(r"u|f|a|\{.*\}i|\{HTTP_.*\}e", re.DOTALL)
_TOKEN = re.compile(r"%(?:%|\((\{[^}]*\}.|[^)]*)\)([-0]?\d*(?:\.\d+)?)(.?))?", re.DOTALL)


def compile_format(text: str, *, setting: str = "access_log_format") -> Line:
    """A function that fills Gunicorn's atoms into `text`. ConfigError, naming `setting`, for what is no atom."""
    template: list[str] = []
    getters: list[Atom] = []
    wants_fields = False
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
            wants_fields = wants_fields or _WANTS_FIELDS.fullmatch(atom) is not None
            template.append(f"%{width}s")
    pattern = "".join(template) + text[end:]

    def line(facts: AccessFacts, ended: float) -> str:
        fields = fields_of(facts.request_headers) if wants_fields else {}
        return pattern % tuple([get(facts, ended, fields) for get in getters])

    return line


def _getter(atom: str, setting: str) -> Atom:
    if atom in ATOMS:
        return ATOMS[atom]
    if atom.startswith("{") and atom[-2:-1] == "}" and atom[-1] in _NAMED and len(atom) > 3:
        return _NAMED[atom[-1]](atom[1:-2])
    known = " ".join(f"%({name})s" for name in ATOMS)
    raise ConfigError(
        f"{setting}: there is no atom %({atom})s; known are {known} and %({{name}}i)s, %({{name}}o)s, %({{name}}e)s "
        "for a request header, a response header, a variable"
    )
