"""ASGI 2, as Channels 1 and 2 had it: called with the scope, it returns what is awaited with receive and send.

palfrey asgi2_app:application --app-dir examples
"""


class Application:
    """One object a request: what is known of it can be kept in attributes."""

    def __init__(self, scope):
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not served here")
        self.scope = scope

    async def __call__(self, receive, send):
        text = f"{self.scope['method']} {self.scope['path']}, by ASGI {self.scope['asgi']['version']}\n"
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})


application = Application
