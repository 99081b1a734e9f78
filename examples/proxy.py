"""A reverse proxy for HTTP/1.1, made of Palfrey's protocol toolkit (docs/toolkit.md) and asyncio's streams.

Run: python examples/proxy.py 127.0.0.1:8080 127.0.0.1:8000

It reads requests as strictly as Palfrey does, refuses what Palfrey refuses, and writes anew what it has read, so that
nothing that two readers could see differently gets past it. Content passes in both directions as it comes, at the pace
of whoever takes it, and is never in memory as a whole. Each request has a connection to the origin for itself, whose
end ends the client's connection, too; the response is passed on as it is. A client that goes takes its request to the
origin with it. What is missing is time: nobody is ever too slow for it.
"""

import asyncio
import contextlib
import socket
import struct
import sys

from palfrey.http import CONTINUE, Limits, Memory, RequestError, RequestParser, ResponseHeads, chunk

PIECE = 65536
memory, heads, connections = Memory(Limits(header_map="drop")), ResponseHeads(), set()


def head_for_origin(request, client):
    """The request's head, written anew (RFC 9110 section 7.6)."""
    method, version = request.method.encode(), request.version.encode()
    lines = [b"%b %b HTTP/%b" % (method, request.origin_form, version), *map(b": ".join, request.end_to_end)]
    lines += [b"x-forwarded-for: " + client, b"via: %b toolkit" % version, b"connection: close"]
    lines += [b"transfer-encoding: chunked"] if request.length is None else []
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def feed(parser, reader):
    """What the client sends next. False at its end; raises RequestError where that is no end, or for what it sent."""
    data = await reader.read(PIECE)
    parser.feed(data) if data else parser.feed_eof()
    return bool(data)


async def upload(parser, reader, origin):
    """The request's content, from the client to the origin; and from then on, whether the client is still there."""
    request = parser.request
    with contextlib.suppress(ConnectionError):  # an origin that wants no more of it may have answered
        while True:
            content = request.body.read()
            origin.write(content if request.length is not None else chunk(content, more=not parser.completed))
            await origin.drain()
            if parser.completed:
                break
            await feed(parser, reader)
    while await reader.read(PIECE):  # which raises again what a client's end was
        pass


async def relay(parser, reader, writer, host, port):
    """One request and its response. Raises RequestErrors and OSErrors; who was answered by then sees a cut."""
    while parser.request is None:
        if not await feed(parser, reader):
            return
    if parser.request.expects_continue:
        writer.write(CONTINUE)
    client, answered = writer.get_extra_info("peername") or ["unknown"], False  # it may be gone already
    response, origin = await asyncio.open_connection(host, port)
    origin.write(head_for_origin(parser.request, client[0].encode()))
    try:
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(upload(parser, reader, origin))
            while data := await response.read(PIECE):
                answered = True
                writer.write(data)
                await writer.drain()
            if not answered:
                raise ConnectionError("the origin left without an answer")
            sending.cancel()
            origin.close()
    except* (RequestError, OSError):
        origin.transport.abort()  # it must not take the request for a whole one, nor work for nobody
        if answered and not writer.is_closing():  # what is cut must not look whole: a reset is no end
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        raise


async def serve(reader, writer, host, port):
    """One connection of a client's."""
    connections.add(task := asyncio.current_task())  # a loop does not keep alive what it runs
    task.add_done_callback(connections.discard)
    parser = RequestParser(memory=memory)
    try:
        await relay(parser, reader, writer, host, port)
    except* (RequestError, OSError) as errors:
        error = errors.exceptions[0]
        print(repr(error), file=sys.stderr)
        # An OSError is the origin's: a client's is nobody's answer.
        writer.write(heads.render(getattr(error, "status", 502), length=0).data)
    with contextlib.suppress(OSError):
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(5):  # who still sends is to see its answer: closed at once, it would be reset
            while await reader.read(PIECE):
                pass
    writer.close()


async def main(listen, origin):
    (here, port), (host, origin_port) = listen.rsplit(":", 1), origin.rsplit(":", 1)
    server = await asyncio.start_server(lambda *streams: serve(*streams, host, int(origin_port)), here, int(port))
    print("Listening on http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
