"""The floor for Python: a uvloop protocol that answers every read with one constant, and looks at nothing.

No server in Python on uvloop can be faster than this. Its answer has the size of Palfrey's. Run as
`python -m benchmarks.floor --port N [--bytes N] [--close] [--certificate FILE --key FILE]`; ends by SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import ssl
from typing import cast

import uvloop

HELLO = b"Hello, world!"


def answer(size: int, close: bool) -> bytes:
    """The constant: a whole response with `size` bytes of content."""
    content = HELLO if size == len(HELLO) else b"x" * size
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
        b"server: palfrey\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n%b\r\n%b"
        % (size, b"connection: close\r\n" if close else b"", content)
    )


class Constant(asyncio.Protocol):
    """See the module."""

    __slots__ = ("_answer", "_close", "_transport")

    def __init__(self, answer: bytes, close: bool) -> None:
        self._answer = answer
        self._close = close

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)
        if self._close:
            self._transport.close()


async def serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    context = None
    if options.certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.certificate, options.key)
    constant = answer(options.bytes, options.close)
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    await loop.create_server(lambda: Constant(constant, options.close), "127.0.0.1", options.port, ssl=context)
    await stopped.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bytes", type=int, default=len(HELLO))
    parser.add_argument("--close", action="store_true", help="close the connection after the first answer")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
