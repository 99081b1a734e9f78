"""How an application is called, and how one that is called otherwise is made into an ASGI 3 application.

    asgi3   await app(scope, receive, send)
    asgi2   await app(scope)(receive, send)
    wsgi    app(environ, start_response) -> an iterable of bytes

One table, ADAPTERS: everything that serves knows ASGI 3 alone. `speaks` guesses by signatures, and only where those
leave no doubt: what can be called with three arguments, or hides what it wants, is ASGI 3.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from palfrey.asgi.wsgi import WsgiApp

if TYPE_CHECKING:
    from palfrey.config.settings import Settings
    from palfrey.types import ASGIApp, Receive, Scope, Send


def adapt(app: Any, settings: Settings, shared: bool = False) -> ASGIApp:
    """The application as Palfrey calls it. To be made inside the running loop, once, before lifespan startup.

    `shared`: other processes may run it at the same time.
    """
    interface = settings.interface if settings.interface != "auto" else speaks(app) or "asgi3"
    return ADAPTERS[interface](app, settings, shared)


def speaks(app: Any) -> str | None:
    """Which interface a callable's signature shows; None where it is none of them."""
    if takes(app, 3) is not False:
        return "asgi3"
    if _is_double(app):
        return "asgi2"
    if is_wsgi(app):
        return "wsgi"
    return None


def is_wsgi(app: Any) -> bool:
    """Whether it surely takes environ and start_response: two arguments, not three, and there is nothing to await."""
    if takes(app, 3) is not False or takes(app, 2) is not True:
        return False
    if inspect.isclass(app):  # whose instances are the results (PEP 3333, "The Application/Framework Side")
        return hasattr(app, "__iter__")
    called = app if inspect.isroutine(app) else inspect.getattr_static(type(app), "__call__", None)
    return not inspect.iscoroutinefunction(called) and not inspect.isasyncgenfunction(called)


def _is_double(app: Any) -> bool:
    """Whether it takes a scope and makes what takes receive and send: surely so for a class; a function or an object
    that is called with one argument can be nothing else that is served."""
    if inspect.isclass(app):
        # `__call__` of the class, with a place for `self`.
        call = inspect.getattr_static(app, "__call__", None)
        return takes(app, 1) is True and inspect.isroutine(call) and takes(call, 3) is True and not takes(call, 4)
    called = app if inspect.isroutine(app) else inspect.getattr_static(type(app), "__call__", None)
    return takes(app, 1) is True and takes(app, 0) is False and not inspect.iscoroutinefunction(called)


def takes(function: Callable[..., Any], count: int) -> bool | None:
    """Whether it can be called with `count` positional arguments; None where that cannot be known."""
    found = signature(function)
    if found is None:
        return None
    try:
        found.bind(*range(count))
    except TypeError:
        return False
    return True


def signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """None where there is none to be had."""
    try:
        if sys.version_info >= (3, 14):
            # Names under `if TYPE_CHECKING:` would raise NameError.
            from annotationlib import Format

            return inspect.signature(function, annotation_format=Format.FORWARDREF)
        return inspect.signature(function)
    except Exception:  # made in C, or a property of the user's that raises
        return None


# The adapters -------------------------------------------------------------------------------------------------------


def _asgi3(app: Any, _: Settings, __: bool) -> ASGIApp:
    found: ASGIApp = app
    return found


def _asgi2(app: Any, _: Settings, __: bool) -> ASGIApp:
    """A double callable. One that has no lifespan raises when it is called with that scope, as one of ASGI 3 does."""

    async def double(scope: Scope, receive: Receive, send: Send) -> None:
        scope["asgi"] = {**scope["asgi"], "version": "2.0"}
        await app(scope)(receive, send)

    return double


def _wsgi(app: Any, settings: Settings, shared: bool) -> ASGIApp:
    return WsgiApp(app, settings.threads, shared)


ADAPTERS: dict[str, Callable[[Any, Settings, bool], ASGIApp]] = {"asgi3": _asgi3, "asgi2": _asgi2, "wsgi": _wsgi}
"""By the setting `interface`, `auto` apart. Each is given the application, the settings of its server, and whether
other processes may run it, too."""
