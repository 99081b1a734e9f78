"""What a setting's value may be: one parser for each kind of value.

A `Parser` turns whatever a source holds (text from the command line or the environment, any object from the
configuration file) into the one type that `Settings` promises, or raises `ValueError` with words that continue
"<setting> = <value>: " and say what would fit. Parsers are pure: they look at the value and at nothing else, so
whether a file or a user exists is not their question (see `checks.py`).

`None` never reaches a parser: it means "not set" in every source but one, and `sources.py` deals with that one.
"""

from __future__ import annotations

import enum
import inspect
import ipaddress
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Hook = Callable[..., Any]


class Shape(enum.Enum):
    """How a setting is written on the command line."""

    VALUE = "value"
    """`--name VALUE`."""
    SWITCH = "switch"
    """`--name` and `--no-name`."""
    LIST = "list"
    """`--name VALUE`, any number of times."""
    CODE = "code"
    """Not at all: only the configuration file can hold a function."""


@dataclass(frozen=True, slots=True)
class Parser(Generic[T_co]):
    """One kind of value: how it is read, and how that is explained to people."""

    read: Callable[[object], T_co]
    expects: str
    """Words for the reference page: "a whole number, at least 1"."""
    metavar: str
    shape: Shape = Shape.VALUE
    choices: tuple[str, ...] = ()
    path: bool = False
    """The value names a file or directory, relative to the directory that the server works in."""
    arity: int = 0
    """How many arguments a hook is called with."""


def integer(minimum: int = 0, maximum: int | None = None, metavar: str = "N") -> Parser[int]:
    """A whole number between the two bounds, both included."""
    limits = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"

    def read(value: object) -> int:
        if isinstance(value, str):
            try:
                value = int(value.strip())
            except ValueError:
                raise ValueError(f"must be a whole number, {limits}") from None
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"must be a whole number, {limits}")
        if value < minimum or (maximum is not None and value > maximum):
            raise ValueError(f"must be {limits}")
        return int(value)

    return Parser(read, f"a whole number, {limits}", metavar)


def seconds(zero: str | None = None) -> Parser[float]:
    """A duration. `zero` says what 0 means; without it the duration must be longer than that."""
    fits = "a number of seconds" + (f" (0: {zero})" if zero else ", more than 0")

    def read(value: object) -> float:
        if isinstance(value, str):
            try:
                value = float(value.strip())
            except ValueError:
                raise ValueError(f"must be {fits}") from None
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ValueError(f"must be {fits}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or number < 0 or (number == 0 and zero is None):
            raise ValueError(f"must be {fits}")
        return number

    return Parser(read, fits, "SECONDS")


_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def size(zero: str) -> Parser[int]:
    """A number of bytes, or one with a unit: "512m" is 512 MiB. `zero` says what 0 means."""
    fits = f"a size such as 512m or 1.5g, in bytes without a unit (0: {zero})"

    def read(value: object) -> int:
        found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is not None:
            value = int(float(found[1]) * (1 << _UNITS[found[2].lower()]))
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 60:
            raise ValueError(f"must be {fits}")
        return int(value)

    return Parser(read, fits, "SIZE")


CountOrAuto = int | Literal["auto"]


def count_or_auto(minimum: int, maximum: int) -> Parser[CountOrAuto]:
    """A whole number within the bounds, or the word auto."""
    number = integer(minimum, maximum)

    def read(value: object) -> CountOrAuto:
        if isinstance(value, str) and value.strip().lower() == "auto":
            return "auto"
        try:
            return number.read(value)
        except ValueError as error:
            raise ValueError(f"{error}, or auto") from None

    return Parser(read, f"{number.expects}, or auto", "N|auto")


_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _read_boolean(value: object) -> bool:
    if isinstance(value, str):
        value = _WORDS.get(value.strip().lower())
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError("must be true or false (also: yes, no, on, off, 1, 0)")


boolean: Parser[bool] = Parser(_read_boolean, "true or false", "", Shape.SWITCH)
truth: Parser[bool] = Parser(_read_boolean, "true or false", "BOOLEAN")
"""The same where another server's flag takes a value."""


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    if "\0" in value:
        raise ValueError("must not contain a NUL byte")
    return value


def text(metavar: str = "TEXT", expects: str = "text", empty: bool = False) -> Parser[str]:
    """Any text; the empty one only where it says something."""

    def read(value: object) -> str:
        found = _read_text(value)
        if not found and not empty:
            raise ValueError(f"must be {expects}, not empty")
        return found

    return Parser(read, expects, metavar)


def path(metavar: str = "FILE", expects: str = "a path") -> Parser[str]:
    """A file or directory; an `os.PathLike` in the configuration file is taken too."""

    def read(value: object) -> str:
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        found = _read_text(value)
        if not found:
            raise ValueError(f"must be {expects}, not empty")
        return found

    return Parser(read, expects, metavar, path=True)


def _read_directory(value: object) -> str:
    found = path("DIR", "a directory").read(value)
    if "," in found and not os.path.isdir(found):
        raise ValueError("must be one directory; further ones go into PYTHONPATH")
    return found


directory: Parser[str] = Parser(_read_directory, "a directory", "DIR", path=True)


def choice(*choices: str, synonyms: Mapping[str, str] | None = None) -> Parser[str]:
    """One of a few words, whatever their case; `synonyms` are words of other servers for some of them."""
    listed = ", ".join(choices[:-1]) + " or " + choices[-1]
    known = {word: word for word in choices} | dict(synonyms or {})

    def read(value: object) -> str:
        found = known.get(value.strip().lower()) if isinstance(value, str) else None
        if found is None:
            raise ValueError(f"must be {listed}")
        return found

    return Parser(read, listed, "|".join(choices), choices=choices)


def numbered(*words: str) -> Parser[int]:
    """One of a few words that count from 0, or its number."""
    listed = ", ".join(f"{word} ({number})" for number, word in enumerate(words))
    known = {word: number for number, word in enumerate(words)} | {str(number): number for number in range(len(words))}

    def read(value: object) -> int:
        found = known.get(value.strip().lower()) if isinstance(value, str) else value
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < len(words):
            raise ValueError(f"must be one of: {listed}")
        return int(found)

    return Parser(read, f"one of: {listed}", "|".join(words))


def octal(expects: str, maximum: int) -> Parser[int]:
    """Permission bits. Text is always read as octal (`027`, `27` and `0o27` are the same); a number is itself."""
    fits = f"{expects} in octal, from 0 to {maximum:o}"

    def read(value: object) -> int:
        if isinstance(value, str):
            try:
                value = int(value.strip(), 8)
            except ValueError:
                raise ValueError(f"must be {fits}") from None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
            raise ValueError(f"must be {fits}")
        return int(value)

    return Parser(read, fits, "OCTAL")


def _read_account(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise ValueError("must be a name or a number")


def account(metavar: str) -> Parser[str]:
    """A user or group, by name or number. Whether it exists is asked later."""
    return Parser(_read_account, "a name or a number", metavar)


TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""The name of a field (RFC 9110, section 5.6.2), of a subprotocol (RFC 6455, section 4.1)."""


_TAKEN = """
connection content-encoding content-length content-range content-type cookie date expect forwarded host keep-alive
location proxy-connection server set-cookie te trailer transfer-encoding upgrade vary
"""
"""Headers that mean something else, to the connection or to nearly every client."""


def _read_free_field_name(value: object) -> str:
    if not isinstance(value, str) or not TOKEN.fullmatch(value.strip()):
        raise ValueError("must be the name of a header: letters, digits and !#$%&'*+-.^_`|~ only")
    name = value.strip().lower()
    if name in _TAKEN.split():
        raise ValueError(f"must be a header of its own, such as x-request-id: {name} has a meaning already")
    return name


free_field_name: Parser[str] = Parser(_read_free_field_name, "the name of a header", "HEADER")


_FRAMING = ("connection", "content-length", "keep-alive", "transfer-encoding")
"""Headers that each response has, or has not, for reasons of its own."""


def _read_header(value: object) -> tuple[str, str]:
    if isinstance(value, str):
        name, colon, content = value.partition(":")
        if not colon:
            raise ValueError("must be NAME:VALUE")
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        name, content = (part.decode("latin-1") if isinstance(part, bytes) else part for part in value)
        if not isinstance(name, str) or not isinstance(content, str):
            raise ValueError("must be a pair of text, (name, value)")
    else:
        raise ValueError("must be NAME:VALUE or a pair (name, value)")
    name, content = name.strip(" \t"), content.strip(" \t")
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not a header name: letters, digits and !#$%&'*+-.^_`|~ only")
    if name.lower() in _FRAMING:
        raise ValueError(f"{name} cannot be the same in all responses: it says how each one ends")
    if any(character in content for character in "\r\n\0"):
        raise ValueError(f"the value of {name} must not contain a line break or a NUL byte (RFC 9110, section 5.5)")
    try:
        content.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"the value of {name} must be latin-1 text") from None
    return name, content


header: Parser[tuple[str, str]] = Parser(_read_header, "NAME:VALUE", "NAME:VALUE")


def _read_peers(value: object) -> str:
    words = value if isinstance(value, (list, tuple)) else _read_text(value).split(",")
    words = [_read_text(word).strip() for word in words]
    for word in words:
        if word in ("", "*", "unix") or word.removeprefix("unix:").startswith("/"):
            continue
        try:
            ipaddress.ip_network(word, strict=False)
        except ValueError:
            raise ValueError(
                f"{word!r} is no address (names are not looked up), network, path of a UNIX socket, unix or *"
            ) from None
    return ",".join(word for word in words if word)


peers: Parser[str] = Parser(
    _read_peers, "a list of addresses, networks, paths of UNIX sockets, unix for all of these; or *", "LIST"
)


def _read_assignment(value: object) -> str:
    found = _read_text(value)
    name, equals, _ = found.partition("=")
    if not equals or not name.strip():
        raise ValueError("must be NAME=VALUE")
    return found


assignment: Parser[str] = Parser(_read_assignment, "NAME=VALUE", "NAME=VALUE")


def many(item: Parser[T], separator: str | None = ",") -> Parser[tuple[T, ...]]:
    """Any number of items: repeated on the command line, a list in the file, or one text split at `separator`.

    None as separator: text is one item, or several on lines of their own. The items of a list are never split.
    A mapping is read as its pairs.
    """

    def read(value: object) -> tuple[T, ...]:
        items: Iterable[object]
        if isinstance(value, str):
            pieces = value.split(separator) if separator else value.splitlines()
            items = [piece.strip() for piece in pieces if piece.strip()]
        elif isinstance(value, Mapping):
            items = list(value.items())
        elif isinstance(value, (list, tuple, set, frozenset)):
            items = value
        else:
            raise ValueError(f"must be a list, each {item.expects}")
        return tuple(item.read(each) for each in items)

    between = f"separated by {separator!r}" if separator else "one a line"
    return Parser(read, f"a list, each {item.expects}; or text, {between}", item.metavar, Shape.LIST)


def some(*choices: str) -> Parser[tuple[str, ...]]:
    """Any of a few words: a list, or text with commas between them, each item of a list included."""
    word = choice(*choices)

    def read(value: object) -> tuple[str, ...]:
        if isinstance(value, (list, tuple)):
            value = ",".join(_read_text(item) for item in value)
        return tuple(word.read(item) for item in _read_text(value).split(",") if item.strip())

    return Parser(read, f"any of {word.expects}, separated by commas", "LIST", Shape.LIST)


def _read_log_config(value: object) -> str | dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (str, os.PathLike)):
        return path().read(value)
    raise ValueError("must be a file (.json, .yaml, .ini) or a dictionary for logging.config.dictConfig")


logging_configuration: Parser[str | dict[str, Any]] = Parser(
    _read_log_config, "a file (.json, .yaml, .ini), or in the configuration file a dictionary", "FILE", path=True
)

_OURS = re.compile(r"asgi|sync|gthread|uvicorn|uvicorn(\.workers|_worker)\.\w+|palfrey\.workers\.\w+")


def _read_worker_class(value: object) -> str:
    if isinstance(value, type):
        value = f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, str) and _OURS.fullmatch(value.strip()):
        return value.strip()
    raise ValueError(
        "Palfrey serves applications with workers of its own; leave this setting out "
        '(or "asgi", "gthread", "sync", or "uvicorn.workers.UvicornWorker")'
    )


worker_class_name: Parser[str] = Parser(
    _read_worker_class, '"asgi", "gthread", "sync" or a name of uvicorn\'s workers', "NAME"
)


def hook(*arguments: str) -> Parser[Hook]:
    """A function of the configuration file that can be called with these arguments, by position."""
    call = f"({', '.join(arguments)})"
    count = len(arguments)

    def read(value: object) -> Hook:
        if not callable(value):
            raise ValueError(f"must be a function of {call}")
        try:
            _signature(value).bind(*arguments)
        except TypeError:
            raise ValueError(f"must be callable as {call}") from None
        except ValueError:  # a C function without a signature: calling it will show
            pass
        return value

    return Parser(read, f"a function of {call}", call, Shape.CODE, arity=count)


def _signature(function: Hook) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        # Annotations are evaluated late there, and names under `if TYPE_CHECKING:` would raise NameError.
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)
