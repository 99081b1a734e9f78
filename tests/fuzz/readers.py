"""What h11 and llhttp, each by itself and with its own idea of framing, take a stream of requests for.

They stand for the proxies and gateways in front of a server. Whatever Palfrey serves, they have to read in the same
way or refuse: a request that two readers see differently is how requests are smuggled. What they take and Palfrey
refuses is no harm.
"""

from __future__ import annotations

from typing import NamedTuple

import h11
import httptools


class Message(NamedTuple):
    """One request that a reader has read to its end."""

    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes


def by_h11(stream: bytes) -> tuple[list[Message], bool]:
    """The messages that h11 finds, and whether it then refused, or went out of HTTP, rather than ran out of bytes."""
    messages: list[Message] = []
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    request: h11.Request | None = None
    body: list[bytes] = []
    try:
        connection.receive_data(stream)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, []
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                messages.append(Message(request.method, request.target, list(request.headers), b"".join(body)))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return messages, True
                connection.start_next_cycle()
            else:
                return messages, event is not h11.NEED_DATA
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        return messages, True


class _Recorder:
    def __init__(self) -> None:
        self.messages: list[Message] = []

    def on_message_begin(self) -> None:
        self.target, self.body = b"", b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.whole_head = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.whole_head:  # the others are trailers
            self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.whole_head = True
        self.method = self.parser.get_method()
        if self.parser.should_upgrade():
            # Its content, if it has some, llhttp does not read (docs/decisions/0001).
            raise _UpgradeError

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages.append(Message(self.method, self.target, self.fields, self.body))


class _UpgradeError(Exception):
    pass


def by_llhttp(stream: bytes) -> tuple[list[Message], bool]:
    """As `by_h11`."""
    recorder = _Recorder()
    recorder.parser = httptools.HttpRequestParser(recorder)
    try:
        recorder.parser.feed_data(stream)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return recorder.messages, True
    return recorder.messages, False
