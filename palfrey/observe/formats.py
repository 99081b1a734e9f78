"""The access log's formats: from the facts of a finished request to the text of its line.

How it works. A format is compiled once to a `Line`, a function that reads what it needs off the facts
(palfrey/observe/facts.py). Those that have a name are in the table `NAMED`, and unrolled, because they run for every
request; any other text is one of Gunicorn's atoms (palfrey/observe/atoms.py).

Pure text: lines are collected and written by palfrey/observe/access.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quote  # C where there is any
from typing import Final

from palfrey.errors import ConfigError
from palfrey.observe.atoms import compile_format, user_of
from palfrey.observe.facts import (
    SAFE,
    AccessFacts,
    Line,
    Memo,
    WebSocketFacts,
    WebSocketLine,
    client_text,
    duration,
    escape,
    escape_text,
    fields_of,
    status_text,
    time_stamp,
)
from palfrey.types import HostPort

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

    heads, methods, tails = Memo(make_head), Memo(escape_text), Memo(make_tail)
    safe = SAFE

    def line(facts: AccessFacts, ended: float) -> str:
        target = facts.target
        # escape(), unrolled: the call would be a tenth of the whole.
        text = escape(target) if target.translate(None, safe) else target.decode("ascii")
        tail = tails[facts.http_version, facts.status]
        return f"{heads[facts.client]}{methods[facts.method]} {text}{tail}"

    return line


COMBINED: Final = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
"""The Combined Log Format of Apache and nginx, as Gunicorn's own default writes it."""


def combined_line() -> Line:
    """What COMBINED says, at half the price."""

    def make_host(client: HostPort | None) -> str:
        return "-" if client is None else escape_text(client[0]) or "-"

    def make_tail(key: tuple[str, int]) -> str:
        return f'HTTP/{escape_text(key[0])}" {key[1]}'

    hosts, methods, tails, values = Memo(make_host), Memo(escape_text), Memo(make_tail), Memo(escape)
    stamp, safe = time_stamp(), SAFE

    def line(facts: AccessFacts, ended: float) -> str:
        fields = fields_of(facts.request_headers)
        target = facts.target
        text = escape(target) if target.translate(None, safe) else target.decode("ascii")
        user = user_of(fields[b"authorization"]) if b"authorization" in fields else "-"
        referer = values[fields[b"referer"]] or "-" if b"referer" in fields else "-"
        agent = values[fields[b"user-agent"]] or "-" if b"user-agent" in fields else "-"
        return (
            f'{hosts[facts.client]} - {user} {stamp()} "{methods[facts.method]} {text} '
            f'{tails[facts.http_version, facts.status]} {facts.body_bytes or "-"} "{referer}" "{agent}"'
        )

    return line


def json_line() -> Line:
    """One JSON object: see docs/logging.md for its members. Bytes that are not UTF-8 are written as \\xNN."""

    def encode(data: bytes) -> str:
        return quote(data.decode("utf-8", "backslashreplace")).replace("\x7f", "\\u007f")

    def encode_text(text: str) -> str:
        return encode(text.encode("utf-8", "backslashreplace"))

    def make_client(client: HostPort | None) -> str:
        host, port = client or ("", None)
        return f'"client":{encode_text(host) if host else "null"},"client_port":{"null" if port is None else port}'

    def make_tail(key: tuple[str, int]) -> str:
        return f'"version":{encode_text(key[0])},"status":{key[1]}'

    clients, methods, tails, values = Memo(make_client), Memo(encode_text), Memo(make_tail), Memo(encode)
    stamp = _iso_stamp()

    def line(facts: AccessFacts, ended: float) -> str:
        fields = fields_of(facts.request_headers)
        host, referer, agent = fields.get(b"host"), fields.get(b"referer"), fields.get(b"user-agent")
        return (
            f'{{"time":"{stamp()}",{clients[facts.client]},"method":{methods[facts.method]},'
            f'"target":{encode(facts.target)},{tails[facts.http_version, facts.status]},"bytes":{facts.body_bytes},'
            f'"duration":{duration(facts, ended):.6f},'
            f'"request_id":{quote(facts.request_id) if facts.request_id else "null"},'
            f'"host":{"null" if host is None else values[host]},'
            f'"referer":{"null" if referer is None else values[referer]},'
            f'"user_agent":{"null" if agent is None else values[agent]}}}'
        )

    return line


def websocket_line(text: str, line: Line) -> WebSocketLine:
    """What the format `text`, whose lines `line` makes, says of a WebSocket that is over: the request that it began
    with, and behind that what went over it. Lines of atoms have those that the user wants."""
    return _WITH_COUNTS[text](line) if text in _WITH_COUNTS else line


def _with_words(before: str, behind: str) -> Callable[[Line], WebSocketLine]:
    def make(line: Line) -> WebSocketLine:
        def longer(facts: WebSocketFacts, ended: float) -> str:
            counts = facts.counts
            return (
                f"{line(facts, ended)}{before}{duration(facts, ended):.3f} s, "
                f"messages in {counts.messages_in} ({counts.bytes_in} bytes), "
                f"out {counts.messages_out} ({counts.bytes_out} bytes), closed with {counts.close_code}{behind}"
            )

        return longer

    return make


def _with_members(line: Line) -> WebSocketLine:
    def longer(facts: WebSocketFacts, ended: float) -> str:
        counts = facts.counts
        return (
            f'{line(facts, ended).removesuffix("}")},"messages_in":{counts.messages_in},'
            f'"messages_out":{counts.messages_out},"bytes_in":{counts.bytes_in},"close_code":{counts.close_code}}}'
        )

    return longer


_WITH_COUNTS: Final[dict[str, Callable[[Line], WebSocketLine]]] = {
    "uvicorn": _with_words(" - ", ""),
    "combined": _with_words(' "', '"'),
    "json": _with_members,
}


def _iso_stamp() -> Callable[[], str]:
    """A clock that says `2026-11-20T06:44:21.123Z` (RFC 3339); all but the milliseconds is made once a second."""
    known = (0, "")

    def stamp() -> str:
        nonlocal known
        now = time.time()
        second = int(now)
        if known[0] != second:
            known = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return f"{known[1]}.{int((now - second) * 1000):03d}Z"

    return stamp


NAMED: Final[dict[str, Callable[[], Line]]] = {
    "uvicorn": uvicorn_line,
    "combined": combined_line,
    "json": json_line,
    COMBINED: combined_line,
}
"""Formats that are known as a whole, by name or by their text."""


def line_for(text: str, *, setting: str = "access_log_format") -> Line:
    """The function that makes a format's lines. Raises ConfigError, naming `setting`, for what is no format."""
    if text in NAMED:
        return NAMED[text]()
    if "%" not in text:
        names = ", ".join(name for name in NAMED if "%" not in name)
        raise ConfigError(
            f"{setting}: there is no format {text!r}; known are {names}, and lines of Gunicorn's atoms such as "
            '%(h)s "%(r)s" %(s)s'
        )
    return compile_format(text, setting=setting)
