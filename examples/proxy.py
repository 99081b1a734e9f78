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
memory, heads = Memory(), ResponseHeads()


def head_for_origin(request, client):
    """The request's head, written anew (RFC 9110 section 7.6)."""
    method, version = request.method.encode(), request.version.encode()
    lines = [b"%b %b HTTP/%b" % (method, request.origin_form, version), *map(b": ".join, request.end_to_end)]
    lines += [b"x-forwarded-for: " + client, b"via: %b toolkit" % version, b"connection: close"]
    if request.length is None:
        lines.append(b"transfer-encoding: chunked")
    return b"\r\n".join(lines) + b"\r\n\r\n"


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
    parser, answered, sending = RequestParser(memory=memory), False, None
    try:
        while parser.request is None:
            if not await feed(parser, reader):
                return None
        if parser.request.expects_continue:
            writer.write(CONTINUE)
        response, origin = await asyncio.open_connection(host, port)
        origin.write(head_for_origin(parser.request, writer.get_extra_info("peername")[0].encode()))
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
            origin.close()
    return None if answered else (502, "the origin did not answer")


async def serve(reader, writer, host, port):
    """One connection of a client's."""
    refusal = await relay(reader, writer, host, port)
    if refusal is not None:
        text = f"{refusal[1]}\n".encode()
        writer.write(heads.render(refusal[0], [(b"content-type", b"text/plain")], length=len(text)).data + text)
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
