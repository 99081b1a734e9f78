"""A reverse proxy for HTTP/1.1, made of Palfrey's protocol toolkit (docs/toolkit.md) and asyncio's streams.

Run: python examples/proxy.py 127.0.0.1:8080 127.0.0.1:8000

It reads requests as strictly as Palfrey does, refuses what Palfrey refuses, and writes anew what it has read, so that
nothing that two readers could see differently gets past it. Content passes in both directions as it comes, at the pace
of whoever takes it, and is never in memory as a whole. Each request has a connection to the origin for itself, whose
end ends the client's connection, too; the response is passed on as it is.
"""

import asyncio
import contextlib
import sys

from palfrey.http import CONTINUE, Memory, RequestError, RequestParser, ResponseHeads, chunk

PIECE = 65536
LINGER = 5.0  # seconds for a client that still sends to see its answer: closed at once, the connection would be reset
HOP_BY_HOP = {b"connection", b"expect", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}

memory = Memory()
heads = ResponseHeads()


def origin_head(request, client):
    """The request's head for the origin (RFC 9110 section 7.6)."""
    options = b",".join(value.lower() for name, value in request.headers if name == b"connection").split(b",")
    dropped = HOP_BY_HOP | {option.strip() for option in options} - {b"host", b"content-length"}
    fields = [field for field in request.headers if field[0] not in dropped]
    fields += [
        (b"x-forwarded-for", client),
        (b"via", request.version.encode() + b" toolkit"),
        (b"connection", b"close"),
    ]
    if request.length is None:
        fields.append((b"transfer-encoding", b"chunked"))
    path = request.uri.raw_path + (b"?" + request.uri.query if request.uri.query else b"")
    line = b"%b %b HTTP/%b\r\n" % (request.method.encode(), path, request.version.encode())
    return line + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n"


async def feed(parser, reader):
    """What the client sends next. False at its end; raises RequestError where that is no end, or for what it sent."""
    data = await reader.read(PIECE)
    parser.feed(data) if data else parser.feed_eof()
    return bool(data)


async def upload(parser, reader, origin):
    """The request's content, from the client to the origin."""
    request = parser.request
    try:
        while True:
            content = request.body.read()
            origin.write(content if request.length is not None else chunk(content, more=not parser.completed))
            await origin.drain()
            if parser.completed:
                return
            await feed(parser, reader)
    except RequestError:
        origin.transport.abort()  # it must not take the request for a whole one
        raise
    except ConnectionError:
        pass  # an origin that wants no more of it may have answered


async def relay(reader, writer, host, port):
    """One request and its response. Returns the status and the reason of a refusal, or None."""
    parser, answered, sending, origin = RequestParser(memory=memory), False, None, None
    try:
        while parser.request is None:
            if not await feed(parser, reader):
                return None
        if parser.request.expects_continue:
            writer.write(CONTINUE)
        response, origin = await asyncio.open_connection(host, port)
        origin.write(origin_head(parser.request, writer.get_extra_info("peername")[0].encode()))
        sending = asyncio.create_task(upload(parser, reader, origin))
        while data := await response.read(PIECE):
            answered = True
            writer.write(data)
            await writer.drain()
        if sending.done():
            sending.result()
    except RequestError as error:
        return None if answered else (error.status, str(error))
    except OSError as error:  # one of the two is gone: a response must not look whole that is not
        if answered:
            writer.transport.abort()
        return (502, str(error))
    finally:
        if sending is not None:
            sending.cancel()
            await asyncio.wait((sending,))
        if origin is not None:
            origin.close()
    return None if answered else (502, "the origin did not answer")


async def serve(reader, writer, host, port):
    """One connection of a client's."""
    refusal = await relay(reader, writer, host, port)
    if refusal is not None:
        text = f"{refusal[1]}\n".encode()
        writer.write(heads.render(refusal[0], [(b"content-type", b"text/plain")], length=len(text)).data + text)
    with contextlib.suppress(OSError, TimeoutError):
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(LINGER):
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
