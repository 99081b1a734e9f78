"""How an application is called, and how one that is called otherwise is made into an ASGI 3 application.

    asgi3   await app(scope, receive, send)
    asgi2   await app(scope)(receive, send)
    wsgi    app(environ, start_response) -> an iterable of bytes

One table, ADAPTERS: everything that serves knows ASGI 3 alone. `speaks` guesses by signatures, and only where those
leave no doubt: what can be called with three arguments, or hides what it wants, is ASGI 3, unless it is a class whose
instances show otherwise.
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
    if inspect.isclass(app):
        return _class_speaks(app)
    if takes(app, 3) is not False:
        return "asgi3"
    if _is_async(app):
        return None
    if takes(app, 1) is True and takes(app, 0) is False:  # with one argument nothing else is served
        return "asgi2"
    return "wsgi" if takes(app, 2) is True else None


def _class_speaks(app: type) -> str | None:
    """By what can be done with the instances, as a class often hides what it wants (`*args`)."""
    found = inspect.getattr_static
    makes_instances = (found(app, "__new__"), found(type(app), "__call__")) == (object.__new__, type.__call__)
    if takes(app, 3) is not False and (hasattr(app, "__await__") or not makes_instances):
        return "asgi3"
    # `__call__` of the class, with a place for `self`.
    call = inspect.getattr_static(app, "__call__", None)
    if inspect.isroutine(call) and takes(app, 1) is True and takes(call, 3) is True and not takes(call, 4):
        return "asgi2"
    # An instance is the result (PEP 3333, "The Application/Framework Side").
    return "wsgi" if takes(app, 2) is True and hasattr(app, "__iter__") else None


def _is_async(app: Any) -> bool:
    """Whether calling it makes a coroutine, or something to be iterated over by a loop."""
    called = app if inspect.isroutine(app) else inspect.getattr_static(type(app), "__call__", None)
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in (app, called))


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
    """None where there is none to be had.

    A wrapper that passes on whatever it gets (`*args`) has that of the function that it wraps; one that has arguments
    of its own has these, whatever `functools.wraps` makes it show.
    """
    try:
        own = _signature(function, follow_wrapped=False)
        passes_on = any(each.kind is each.VAR_POSITIONAL for each in own.parameters.values())
        return _signature(function, follow_wrapped=True) if passes_on else own
    except Exception:  # made in C, or a property of the user's that raises
        return None


def _signature(function: Callable[..., Any], follow_wrapped: bool) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        # Names under `if TYPE_CHECKING:` would raise NameError.
        from annotationlib import Format

        return inspect.signature(function, follow_wrapped=follow_wrapped, annotation_format=Format.FORWARDREF)
    return inspect.signature(function, follow_wrapped=follow_wrapped)


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
