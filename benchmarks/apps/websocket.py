"""The applications of the WebSocket benchmarks: an echo, and a room in which everybody hears what one says."""

from lifespan import lifespan


async def echo(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        if text is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


ROOM = {}


async def room(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    own = object()
    ROOM[own] = send
    try:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            said = {"type": "websocket.send", "text": message["text"]}
            for each in list(ROOM.values()):
                try:
                    await each(said)
                except Exception:
                    pass  # it is leaving, and will say so itself
    finally:
        del ROOM[own]
