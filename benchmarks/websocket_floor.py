"""The floor for WebSockets: picows, a WebSocket server in C under uvloop, without any ASGI.

Run as `python -m benchmarks.websocket_floor --port N [--room]`: it echoes, or gives each message to everybody; ends by
SIGTERM. picows asks nothing of an application in between, so this is what frames cost where no application is awaited.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from typing import ClassVar

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

DATA = (WSMsgType.TEXT, WSMsgType.BINARY)


class Echo(WSListener):
    """Sends back what it gets."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type in DATA:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


class Room(WSListener):
    """Sends everybody what one says."""

    everybody: ClassVar[set[WSTransport]] = set()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.everybody.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.everybody.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type in DATA:
            payload = frame.get_payload_as_bytes()
            for each in self.everybody:
                each.send(frame.msg_type, payload)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


async def serve(port: int, room: bool) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

    def listener(request: WSUpgradeRequest) -> WSListener:
        return Room() if room else Echo()

    await ws_create_server(listener, "127.0.0.1", port)
    await stopped.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.websocket_floor")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--room", action="store_true")
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.room))


if __name__ == "__main__":
    main()
