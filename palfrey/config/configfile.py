"""The configuration file: found, executed, and sorted into settings and the user's own names.

The file is Python, so that it can count processors and define hooks. It is executed anew for every `read()`, in a
module of its own. The modules that it imports from its own directory or the working directory stay imported, since a
hook may set something up there that the application finds; the next reading imports them anew, or the workers of a
reload would inherit old code.

What a name in the file is:

- a setting's name, canonical or alias, holds that setting (a module, function or class that merely shares the name,
  as after `import http`, is the user's own, unless it was assigned);
- a name that another server knows and Palfrey does not need gets one line of notice (`foreign.py`);
- modules, functions, classes, and private or upper-case names are the user's own;
- any other plain value does nothing, which is said once, with the setting that was probably meant.

Whatever goes wrong in the user's code is one `ConfigError` with the file and line of it.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Final

from palfrey.config.foreign import FOREIGN
from palfrey.config.parsers import Shape
from palfrey.config.settings import ALIASES, ROWS, canonical
from palfrey.errors import ConfigError

DEFAULT_NAME: Final = "palfrey.conf.py"
"""Looked for in the working directory when no file is named."""

_MODULE_NAME: Final = "__config__"
_PLAIN: Final = (str, bytes, bool, int, float, type(None), list, tuple, dict, set, frozenset)
_NEAR: Final = 0.8
"""How alike (by difflib) a name must be to a setting's to be taken for a slip: `worker`, `keep_alive`, `error_log`."""
_NEAR_HOOK: Final = 0.88
"""The same for functions: a helper's name may resemble a hook's by chance."""
_INSTALLED: Final = tuple(os.path.join(path, "") for path in sysconfig.get_paths().values())

_neighbours: frozenset[str] = frozenset()
"""The modules that the last reading imported from beside the file."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One line for the user."""

    message: str
    mistake: bool = False
    """Probably not what was meant: an error for --check-config."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """A setting as the file has it."""

    written: str
    """The name that the file uses for it."""
    value: object
    line: int | None


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What one reading of the file gave."""

    label: str
    """What messages call it."""
    path: str | None
    assigned: dict[str, Assigned] = field(default_factory=dict)
    """By canonical name."""
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class _Binding:
    """Where a top-level name was last bound, and whether by an assignment."""

    line: int
    assignment: bool


def near(name: str, *, cutoff: float = _NEAR) -> str | None:
    """The setting that `name` is probably a slip for, or None."""
    squeezed = {known.replace("_", ""): known for known in (*FOREIGN, *ALIASES, *ROWS)}
    found = difflib.get_close_matches(name.lower().replace("_", ""), squeezed, n=1, cutoff=cutoff)
    return squeezed[found[0]] if found else None


def read(named: str | None, cwd: str) -> ConfigFile | None:
    """Executes the file that `named` means: a path, `file:PATH`, `python:MODULE`, or None for the default if it exists.

    Paths are relative to `cwd`. Raises `ConfigError`.
    """
    if named is not None and named.startswith("python:"):
        module, label = _import(named.removeprefix("python:"), cwd), named
        path = getattr(module, "__file__", None)
    else:
        label = DEFAULT_NAME if named is None else named.removeprefix("file:")
        path = os.path.join(cwd, label)
        if named is None and not os.path.lexists(path):
            return None
        module = _execute(path, label, cwd)
    return _sort(module, label, path)


def _execute(path: str, label: str, cwd: str) -> ModuleType:
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise ConfigError(f"configuration file {label}: {error.strerror}") from None
    module = ModuleType(_MODULE_NAME)
    module.__file__ = path
    with _importing_from(os.path.dirname(path), cwd), _blaming(path, label):
        code = compile(source, path, "exec", dont_inherit=True)
        sys.modules[_MODULE_NAME] = module  # dataclasses and pickle look their module up
        try:
            exec(code, module.__dict__)
        finally:
            del sys.modules[_MODULE_NAME]
    return module


def _import(name: str, cwd: str) -> ModuleType:
    label = f"python:{name}"
    sys.modules.pop(name, None)
    with _importing_from(cwd), _blaming(None, label):
        importlib.invalidate_caches()
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{name}.".startswith(f"{error.name}."):
                raise ConfigError(f"configuration {label}: there is no module {error.name}") from None
            raise


@contextmanager
def _importing_from(*directories: str) -> Iterator[None]:
    """The directories are first on sys.path inside; afterwards last, so that hooks can still import from them.

    What the last reading imported from them is forgotten first, and is back if this reading fails.
    """
    global _neighbours  # noqa: PLW0603 - as sys.modules is
    places = list(dict.fromkeys(os.path.abspath(directory) for directory in directories))
    old = {name: sys.modules.pop(name) for name in _neighbours if name in sys.modules}
    before = set(sys.modules)
    sys.path[:0] = places
    try:
        yield
    except BaseException:
        for name in _local_modules(before, places):
            del sys.modules[name]
        sys.modules.update(old)
        raise
    else:
        _neighbours = _local_modules(before, places)
    finally:
        for place in places:
            sys.path.remove(place)  # the first one is ours, unless the file itself put it in front once more
        sys.path += [place for place in places if place not in sys.path]


def _local_modules(before: set[str], places: list[str]) -> frozenset[str]:
    """The modules beyond `before` whose source is the user's own, below one of the places."""
    found = []
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        local = any(origin.startswith(os.path.join(place, "")) for place in places)
        installed = origin.startswith(_INSTALLED) or "-packages/" in origin or name.partition(".")[0] == "palfrey"
        if local and origin.endswith(".py") and not installed:
            found.append(name)
    return frozenset(found)


@contextmanager
def _blaming(path: str | None, label: str) -> Iterator[None]:
    """Turns whatever the user's code raises into one line that names the place."""
    try:
        yield
    except (ConfigError, KeyboardInterrupt):
        raise
    except SyntaxError as error:
        where = label if error.filename == path or error.filename is None else error.filename
        raise ConfigError(f"{where}, line {error.lineno}: {type(error).__name__}: {error.msg}") from None
    except BaseException as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        what = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        where = f"{label}, line {frames[-1].lineno}" if frames else _innermost(error, label)
        raise ConfigError(f"{where}: {what}") from None


def _innermost(error: BaseException, label: str) -> str:
    """The place in the user's code for a configuration that is a module, or code that could not be compiled."""
    ours = (os.path.dirname(__file__), os.path.dirname(importlib.__file__), "<frozen")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    return f"{label} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else label


def _bindings(path: str | None) -> dict[str, _Binding]:
    """Where each name is bound at the top level of the file, in `if`, `for`, `with` and `try` too."""
    try:
        with open(path or os.devnull, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return {}
    found: dict[str, _Binding] = {}
    pending: list[ast.AST] = list(reversed(tree.body))
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found[node.name] = _Binding(node.lineno, False)
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    found[(alias.asname or alias.name).partition(".")[0]] = _Binding(node.lineno, False)
            case ast.Name(ctx=ast.Store()):
                found[node.id] = _Binding(node.lineno, True)
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                pass
            case _:
                pending += reversed(list(ast.iter_child_nodes(node)))
    return found


def _sort(module: ModuleType, label: str, path: str | None) -> ConfigFile:
    bindings = _bindings(path)
    assigned: dict[str, Assigned] = {}
    notices: list[Notice] = []
    for name, value in vars(module).items():
        binding = bindings.get(name)
        line = binding.line if binding else None
        setting = canonical(name)
        if setting is not None:
            if _is_own(setting, value, binding):
                continue
            other = assigned.get(setting)
            if other is not None and value is not None and other.value is not None:
                raise ConfigError(
                    f"{_place(label, line)}: {name} and {other.written} are the same setting; keep one of them"
                )
            if other is None or value is not None:
                assigned[setting] = Assigned(name, value, line)
        elif (notice := _notice(name, value)) is not None:
            notices.append(Notice(f"{_place(label, line)}: {notice.message}", notice.mistake))
    return ConfigFile(label, path, assigned, tuple(notices))


def _place(label: str, line: int | None) -> str:
    return label if line is None else f"{label}, line {line}"


def _is_own(setting: str, value: object, binding: _Binding | None) -> bool:
    """Whether a value under a setting's name is the user's own thing all the same."""
    if isinstance(value, ModuleType):
        return True
    if ROWS[setting].parser.shape is Shape.CODE or setting == "worker_class" or (binding and binding.assignment):
        return False
    return callable(value)


def _notice(name: str, value: object) -> Notice | None:
    """What there is to say about a name that is no setting."""
    if name.startswith("_") or name.isupper() or isinstance(value, ModuleType):
        return None
    if name in FOREIGN:
        return Notice(f"{name} has no effect: {FOREIGN[name].reason}")
    plain = isinstance(value, _PLAIN)
    likely = _meant(name, value) if plain or callable(value) else None
    if likely:
        return Notice(f"{name} is not a setting: did you mean {likely}?", mistake=True)
    if plain and name == name.lower():
        return Notice(f"{name} has no effect: it is not a setting (begin your own names with an underscore)")
    return None


def _meant(name: str, value: object) -> str | None:
    """The setting that this name, plain value or callable, is probably a slip for."""
    if isinstance(value, _PLAIN):
        return near(name) if name == name.lower() else canonical(name.lower())
    likely = near(name, cutoff=_NEAR_HOOK)
    return likely if likely in ROWS and ROWS[likely].parser.shape is Shape.CODE else None
