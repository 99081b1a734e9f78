"""A function `handler(request, response)` as an ASGI 3 application.

    messages.py   what a handler sees, and what its response may say
    call.py       one call of it and what follows, in threads
    app.py        `HandlerApp`: from the one to the other

The threads are a pool of WSGI's (asgi/wsgi/pool.py); the rest is an ASGI application like any other.
"""

from palfrey.asgi.handler.app import HandlerApp
from palfrey.asgi.handler.call import Handler
from palfrey.asgi.handler.messages import Headers, Request, Response

__all__ = ["Handler", "HandlerApp", "Headers", "Request", "Response"]
