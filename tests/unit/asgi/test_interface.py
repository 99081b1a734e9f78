"""Which interface an application speaks, and ASGI 2's double callables as Palfrey serves them."""

from __future__ import annotations

import functools

import pytest

from palfrey.asgi.interface import speaks
from palfrey.errors import LifespanError
from tests.support.inprocess import logged, respond, serving

GET = b"GET /path HTTP/1.1\r\nHost: a\r\n\r\n"


async def whole(scope, receive, send):
    pass


def double(scope):
    async def instance(receive, send):
        await respond(send, f"{scope['type']} {scope['path']} {scope['asgi']['version']}".encode())

    assert scope["type"] == "http"
    return instance


class Double:
    """As Channels 1 and 2 had them."""

    def __init__(self, scope, extra=None):
        self.scope = scope

    async def __call__(self, receive, send):
        await double(self.scope)(receive, send)


class Router:
    def __call__(self, scope):
        return double(scope)


class Whole:
    def __init__(self, debug=False):
        pass

    async def __call__(self, scope, receive, send):
        pass


class Awaitable:
    def __init__(self, scope, receive, send):
        pass

    def __await__(self):
        yield


def positional(*args):
    pass


async def half(scope):
    pass


class Consumer(Double):
    """Channels' WebsocketConsumer hides what it wants."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class Endpoint:
    """Starlette's HTTPEndpoint, with a subclass's initializer."""

    def __init__(self, *args):
        pass

    def __await__(self):
        yield


class Forgotten(Whole):
    """It is its instances that are applications."""

    def __init__(self, *args):
        pass


class Singleton(Whole):
    def __new__(cls, *args):
        return args[0]


class Meta(type):
    def __call__(cls, *args):
        pass


class OfMeta(metaclass=Meta):
    pass


def passing_on(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@functools.wraps(double)
async def made_whole(scope, receive, send):
    pass


@functools.wraps(whole)
def made_double(scope):
    pass


class Decorated:
    """A decorator that is an object."""

    def __init__(self, function):
        functools.update_wrapper(self, function)

    def __call__(self, *args):
        return self.__wrapped__(*args)


def middleware(inner, scope):
    return inner(scope)


async def hidden(first, scope):
    pass


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        *((app, "asgi3") for app in (whole, Whole(), Awaitable, functools.partial(whole), positional)),
        *((app, "asgi2") for app in (double, Double, Router(), functools.partial(double), Router().__call__)),
        *(
            (app, "asgi2")
            for app in (Consumer, functools.partial(Double, extra=1), functools.partial(middleware, double))
        ),
        *((app, "asgi2") for app in (passing_on(double), made_double, Decorated(double), passing_on(Double))),
        *((app, "asgi3") for app in (passing_on(whole), made_whole, Decorated(whole), Whole().__call__)),
        *((app, "asgi3") for app in (Endpoint, Singleton, OfMeta, functools.partial(positional, 1))),
        *((app, None) for app in (Whole, half, lambda: None, lambda a, b, c, d: None)),
        *((app, None) for app in (Forgotten, functools.partial(hidden, 1), passing_on(lambda: None))),
    ],
)
def test_what_signatures_tell(app, interface):
    assert speaks(app) == interface


@pytest.mark.parametrize("app", [double, Double, Router(), Consumer, functools.partial(middleware, Double)])
@pytest.mark.parametrize("interface", ["auto", "asgi2"])
def test_a_double_callable_is_served(app, interface):
    with serving(app, interface=interface) as server, server.client() as client:
        for _ in range(2):
            assert client.request(GET).body == b"http /path 2.0"


def test_an_interface_that_is_named_is_believed():
    def app(*args):
        (scope,) = args
        return double(scope)

    with serving(app, interface="asgi2") as server, server.client() as client:
        assert client.request(GET).status == 200
    with serving(app) as server, server.client() as client, logged() as records:
        assert client.request(GET).status == 500
        assert "too many values to unpack" in records.errors[0]


def test_the_lifespan_of_a_double_callable():
    said = []

    def app(scope):
        async def instance(receive, send):
            if scope["type"] == "http":
                await respond(send, scope["state"]["made"])
                return
            scope["state"]["made"] = b"at startup"
            for word in ("startup", "shutdown"):
                said.append((await receive())["type"])
                await send({"type": f"lifespan.{word}.complete"})

        return instance

    with serving(app) as server:
        with server.client() as client:
            assert client.request(GET).body == b"at startup"
        server.begin_stop()
        server.join()
    assert said == ["lifespan.startup", "lifespan.shutdown"]


def test_a_double_callable_without_a_lifespan_that_is_insisted_on():
    with pytest.raises(LifespanError, match="AssertionError") as caught, serving(double, lifespan="on"):
        pass
    assert "in double" in caught.value.detail
    assert "asgi/interface.py" not in caught.value.detail


def test_the_traceback_is_the_applications():
    def app(scope):
        raise ValueError("on the first call")

    with serving(app) as server, server.client() as client, logged() as records:
        assert client.request(GET).status == 500
        assert "on the first call" in records.errors[0]
        assert "asgi/interface.py" not in records.errors[0]
        assert "exchange.py" not in records.errors[0]


# WSGI ---------------------------------------------------------------------------------------------------------------


class Wsgi:
    def __call__(self, environ, start_response):
        return []


class WsgiResult:
    """PEP 3333's second example: an instance is the result."""

    def __init__(self, environ, start_response):
        pass

    def __iter__(self):
        return iter([])


async def awaited(environ, start_response):
    pass


async def awaited_with(site, environ, start_response):
    pass


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (lambda environ, start_response: [], "wsgi"),
        (Wsgi(), "wsgi"),
        (Wsgi().__call__, "wsgi"),
        (functools.partial(lambda site, environ, start_response: [], "site"), "wsgi"),
        (WsgiResult, "wsgi"),
        (passing_on(lambda environ, start_response: []), "wsgi"),
        (functools.partial(awaited_with, "site"), None),
        (Wsgi, None),
        (awaited, None),
        (lambda *args: [], "asgi3"),
        (lambda environ, start_response, more=None: [], "asgi3"),
    ],
)
def test_what_takes_two_arguments_and_is_not_async_is_wsgi(app, interface):
    assert speaks(app) == interface


def test_what_frameworks_make():
    from asgiref.compatibility import double_to_single_callable
    from asgiref.wsgi import WsgiToAsgi
    from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
    from channels.routing import ProtocolTypeRouter, URLRouter
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler
    from fastapi import FastAPI
    from flask import Flask
    from starlette.applications import Starlette
    from starlette.endpoints import HTTPEndpoint
    from starlette.middleware.gzip import GZipMiddleware
    from werkzeug.debug import DebuggedApplication

    flask = Flask("test")
    asgi = (
        *(Starlette(), FastAPI(), GZipMiddleware(Starlette()), HTTPEndpoint, WsgiToAsgi(flask)),
        *(ProtocolTypeRouter({}), URLRouter([]), WebsocketConsumer.as_asgi(), AsyncWebsocketConsumer.as_asgi()),
        *(double_to_single_callable(Double), double_to_single_callable(double)),
    )
    assert {speaks(app) for app in asgi} == {"asgi3"}
    assert {speaks(app) for app in (flask, flask.wsgi_app, DebuggedApplication(flask))} == {"wsgi"}
    # Their initializers want Django's settings.
    assert [speaks(made.__new__(made)) for made in (ASGIHandler, WSGIHandler)] == ["asgi3", "wsgi"]
