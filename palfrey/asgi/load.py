"""From an import string to the application: `module:attribute`, dotted attributes, `module` alone, factories.

Runs in a worker, never in the arbiter. Every failure is an AppLoadError, and three kinds are worded apart, because
their cures differ: the module does not exist (a wrong name or directory), its import failed (the user's code: the
error's `detail` is its traceback, without the frames of Palfrey and importlib), the attribute is missing (the message
names what the module has). What a callable is called with is judged by its signature, and only where that is sure.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from palfrey.asgi.interface import signature, speaks, takes
from palfrey.errors import AppLoadError

DEFAULT_ATTRIBUTES = ("app", "application")
"""Tried in this order when the import string names a module alone (Gunicorn's and Django's name is the second)."""

Say = Callable[..., str]
"""How a setting (and its value, if it is not a switch) is written by whoever reads the message."""

_OURS = (os.path.dirname(os.path.dirname(os.path.abspath(__file__))), os.path.dirname(importlib.__file__))
_FROZEN = "<frozen importlib"
_MOST_NAMES = 8
"""Names listed in a message."""


def load_app(spec: str, factory: bool = False, app_dir: str | None = None, interface: str = "auto") -> Any:
    """Import the application that `spec` names and, with `factory`, call it to get the application.

    It is returned as it is: `asgi/interface.py` makes ASGI 3 of it, where it is to be served.

    `app_dir` (None: the working directory) is put first on sys.path, as its real path: should a symlink on the way
    be switched to another release, what this process imports later still comes from the release it began with.
    Raises AppLoadError; its message is one line, its detail the user's traceback if there is one.
    """
    module_name, attribute = _split(spec)
    place = _put_on_path(app_dir)
    module = _import(module_name, place)
    if attribute is None:
        attribute = next((name for name in DEFAULT_ATTRIBUTES if _has(module, name)), None)
        if attribute is None:
            tried = " nor ".join(repr(name) for name in DEFAULT_ATTRIBUTES)
            raise AppLoadError(f"module {module_name!r} has no {tried}; {_what_it_has(module, module_name, 'app')}")
    return make_app(_walk(module, module_name, attribute), f"{module_name}:{attribute}", factory, interface)


def make_app(found: Any, name: str = "", factory: bool = False, interface: str = "auto") -> Any:
    """The application that `found` is, or with `factory` makes. Without a `name` it was handed over by the program.

    Raises AppLoadError.
    """
    say = _on_the_line if name else _in_python
    name = name or f"the application {getattr(found, '__qualname__', None) or type(found).__name__}"
    if factory:
        found = _call_factory(found, name, say)
        name = f"{name}()"
    return _checked(found, name, factory, interface, say)


# The import string --------------------------------------------------------------------------------------------------


def _split(spec: str) -> tuple[str, str | None]:
    """Take `module:attribute` apart, and see through the usual slips."""
    module, colon, attribute = spec.strip().partition(":")
    if "/" in module or "\\" in module or module.endswith(".py"):
        folder, _, file = module.replace("\\", "/").rpartition("/")
        better = file.removesuffix(".py") + colon + attribute
        if folder and folder != ".":
            raise AppLoadError(f"{spec!r} is a path, not a module; write `--app-dir {folder} {better}`")
        raise AppLoadError(f"{spec!r} is a file, not a module; write `{better}`")
    if "(" in attribute:
        raise AppLoadError(f"{spec!r}: write `{module}:{attribute.partition('(')[0]} --factory` to have it called")
    if not all(module.split(".")):
        raise AppLoadError(f"{spec!r} names no module; write `module:attribute`, such as `main:app`")
    if colon and (":" in attribute or not all(attribute.split("."))):
        raise AppLoadError(f"{spec!r} names no attribute; write `module:attribute`, such as `{module}:app`")
    return module, attribute if colon else None


def _put_on_path(app_dir: str | None) -> str:
    place = os.path.realpath(app_dir or os.curdir)
    if not os.path.isdir(place):
        raise AppLoadError(f"the application's directory {app_dir!r} (app_dir) does not exist; it would be {place}")
    if sys.path[:1] != [place]:
        sys.path.insert(0, place)
    return place


# The module ---------------------------------------------------------------------------------------------------------


def _import(name: str, place: str) -> ModuleType:
    importlib.invalidate_caches()  # the arbiter, forked from, may have listed this directory before a deployment
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        # The same error from inside the user's code (a package that imports its absent part) leaves frames.
        if missing and f"{name}.".startswith(f"{missing}.") and not _has_frames(error):
            raise AppLoadError(_missing_module(name, missing, place)) from None
        reason = f"importing {name!r} failed: {_one_line(error)}{_hint(error)}"
        raise AppLoadError(reason, cut_traceback(error)) from None


def _missing_module(name: str, missing: str, place: str) -> str:
    parent, _, last = missing.rpartition(".")
    if parent:
        holder = sys.modules.get(parent)
        if holder is not None and not hasattr(holder, "__path__"):
            return (
                f"there is no module {missing!r}: {parent!r} is no package; for its attribute write `{parent}:{last}`"
            )
        folders = list(getattr(holder, "__path__", ()))
        where = f"in the package {parent!r}"
    else:
        folders = [place]
        where = f"in {place} or on the import path"
    text = f"there is no module {missing!r} {where}" + (f" (for {name!r})" if missing != name else "")
    near = difflib.get_close_matches(last, _modules_in(folders), n=1)
    if near:
        return f"{text}; did you mean `{f'{parent}.' if parent else ''}{near[0]}`?"
    if not parent and os.path.exists(os.path.join(place, "src", f"{last}.py")):
        return f"{text}; src/{last}.py exists: add `--app-dir src`"
    return f"{text}; check the name, or name its directory with --app-dir"


def _modules_in(folders: Iterable[str]) -> list[str]:
    """The modules and packages that lie in these directories, by their last names."""
    return sorted({name for _, name, _ in pkgutil.iter_modules(list(folders))})


def _hint(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return " (it ends the process; put that below `if __name__ == '__main__':`)"
    if isinstance(error, ModuleNotFoundError):
        return f" (is it installed in {sys.prefix}?)"
    return ""


# The attribute ------------------------------------------------------------------------------------------------------


def _walk(module: ModuleType, module_name: str, attribute: str) -> Any:
    found: Any = module
    reached = ""
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except Exception as error:
            # An AttributeError about something else comes from the user's code: a property, a module's __getattr__.
            if isinstance(error, AttributeError) and error.name == part and error.obj is found:
                holder = f"{module_name}:{reached}" if reached else f"module {module_name!r}"
                has = _what_it_has(found, module_name, part, reached)
                raise AppLoadError(f"{holder} has no attribute {part!r}; {has}") from None
            reason = f"reading {module_name}:{attribute} failed: {_one_line(error)}"
            raise AppLoadError(reason, cut_traceback(error)) from None
        reached = f"{reached}.{part}" if reached else part
    return found


def _has(module: ModuleType, name: str) -> bool:
    try:
        return hasattr(module, name)
    except Exception:  # it is there and fails; reading it tells why
        return True


def _what_it_has(holder: Any, module_name: str, wanted: str, reached: str = "") -> str:
    """The end of a message about a missing attribute: the likeliest candidates among those that are there."""
    if inspect.ismodule(holder) and getattr(holder, "__file__", None) is None and hasattr(holder, "__path__"):
        return f"it is a directory without an __init__.py ({', '.join(holder.__path__)}); name a module in it"
    names = [name for name in dir(holder) if not name.startswith("_")]
    values = {name: inspect.getattr_static(holder, name, None) for name in names}
    prefix = f"{module_name}:{reached}." if reached else f"{module_name}:"
    apps = [name for name in names if _is_asgi_app(values[name])]
    if apps:
        return "it has the ASGI application" + ("s " if apps[1:] else " ") + _join(apps, prefix)
    if inspect.ismodule(holder) and wanted in _modules_in(getattr(holder, "__path__", ())):
        return f"{wanted!r} is a module in that package; write `{holder.__name__}.{wanted}:app`"
    near = difflib.get_close_matches(wanted, names, n=3)
    if near:
        return f"did you mean {_join(near, prefix)}?"
    factories = [name for name in names if "app" in name.lower() and inspect.isfunction(values[name])]
    if factories:
        return f"it has {_join(factories, prefix)}, to be called with --factory if that makes the application"
    own = [name for name in names if not inspect.ismodule(values[name])]
    return f"it has {_join(own)}" if own else "it has no public names at all"


def _join(names: list[str], prefix: str = "") -> str:
    text = ", ".join(f"`{prefix}{name}`" for name in names[:_MOST_NAMES])
    return f"{text} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else text


def _is_asgi_app(value: Any) -> bool:
    """Surely an ASGI 3 application: a coroutine function, or an object whose __call__ is one, of three arguments."""
    if inspect.isclass(value) or not callable(value):
        return False
    call = value if inspect.isfunction(value) else inspect.getattr_static(type(value), "__call__", None)
    return inspect.iscoroutinefunction(call) and takes(value, 3) is True


# The callable -------------------------------------------------------------------------------------------------------


def _call_factory(factory: Any, name: str, say: Say) -> Any:
    if not callable(factory):
        raise AppLoadError(f"{name} is no factory: {_kind(factory)} cannot be called; leave {say('factory')} out?")
    if takes(factory, 0) is False:
        raise AppLoadError(
            f"{name} cannot be a factory, it wants arguments: {name.rpartition(':')[2]}{signature(factory)}; "
            + (f"it looks like the application itself, leave {say('factory')} out" if takes(factory, 3) else "wrap it")
        )
    try:
        made = factory()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise AppLoadError(f"the factory {name} failed: {_one_line(error)}", cut_traceback(error)) from None
    if inspect.iscoroutine(made):
        made.close()
        raise AppLoadError(f"the factory {name} is `async def` and would have to be awaited; make it a plain `def`")
    return made


def _checked(app: Any, name: str, from_factory: bool, interface: str, say: Say) -> Any:
    if not callable(app):
        verb = "returned" if from_factory else "is"
        cure = f"write `{app.__name__}:app`" if inspect.ismodule(app) else "an ASGI application is a callable"
        raise AppLoadError(f"{name} {verb} {_kind(app)}, which cannot be called; {cure}")
    if interface != "auto" or speaks(app) is not None:
        return app
    if takes(app, 0) and inspect.isroutine(app):
        meant = f"{name} {say('factory')}" if say is _on_the_line else say("factory")
        raise AppLoadError(f"{name} is a function without arguments; did you mean `{meant}`?")
    if takes(app, 2):
        raise AppLoadError(
            f"{name} takes two arguments as a WSGI application does (environ, start_response), but "
            + ("is a class" if inspect.isclass(app) else "is async")
            + f"; if it is one all the same, say so with {say('interface', 'wsgi')}"
        )
    if inspect.isclass(app):
        raise AppLoadError(f"{name} is a class; name an instance of it, or add {say('factory')} to have one made")
    raise AppLoadError(f"{name} cannot be called with (scope, receive, send), as ASGI 3 does: it is {signature(app)}")


def _on_the_line(setting: str, value: str = "") -> str:
    return f"--{setting} {value}".rstrip()


def _in_python(setting: str, value: str = "") -> str:
    return f'{setting}="{value}"' if value else f"{setting}=True"


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if inspect.ismodule(value):
        return f"the module {value.__name__!r}"
    word = type(value).__name__
    return f"{'an' if re.match('[aeiou]', word, re.IGNORECASE) else 'a'} {word}"


# Tracebacks ---------------------------------------------------------------------------------------------------------


def cut_traceback(error: BaseException) -> str:
    """The traceback of an exception from the user's code, causes included, without the frames that led there."""
    whole = traceback.TracebackException.from_exception(error)
    _cut(whole)
    return "".join(whole.format()).rstrip("\n")


def _cut(part: traceback.TracebackException) -> None:
    frames = [frame for frame in part.stack if not frame.filename.startswith(_FROZEN)]
    while frames and _is_ours(frames[0].filename):
        frames.pop(0)
    part.stack = traceback.StackSummary.from_list(frames)
    for other in (part.__cause__, part.__context__, *(part.exceptions or ())):
        if other is not None:
            _cut(other)


def _has_frames(error: BaseException) -> bool:
    """Whether any of the user's code was running when it was raised."""
    return not all(
        frame.filename.startswith(_FROZEN) or _is_ours(frame.filename)
        for frame in traceback.extract_tb(error.__traceback__)
    )


def _is_ours(filename: str) -> bool:
    return filename.startswith(tuple(place + os.sep for place in _OURS))


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
