"""Where settings come from: defaults < configuration file < environment < command line, each with its provenance.

`resolve` reads each source into a layer of raw values, lets the highest layer win setting by setting (the addresses
to listen on are one group, which wins whole), parses the winners, makes paths absolute and hands the result to
`checks.py`. It reads files and executes the configuration file, but changes nothing: not the environment, not the
working directory. A reload calls it again with the same arguments.

None means "not set" in every source, as it does in Gunicorn's and uvicorn's own; `accesslog = None` alone says
something, that there shall be no access log.
"""

from __future__ import annotations

import difflib
import enum
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from palfrey.config import checks, configfile
from palfrey.config.configfile import Notice
from palfrey.config.development import develop
from palfrey.config.foreign import FOREIGN
from palfrey.config.settings import BIND_GROUP, NEEDS, ROWS, Row, Settings, canonical
from palfrey.errors import ConfigError, UsageError

__all__ = ["Kind", "Notice", "Origin", "Resolved", "from_arguments", "resolve"]

ENV_PREFIX: Final = "PALFREY_"
CONFIG_VARIABLE: Final = "PALFREY_CONFIG"
"""Names the configuration file where `-c` does not."""
_RESERVED: Final = frozenset({CONFIG_VARIABLE, "PALFREY_GENERATION", "PALFREY_WORKER", "PALFREY_VENV"})
"""Not settings: set for applications by the workers, or read by the scripts of Palfrey's repository."""
_SERVICE_LINK: Final = re.compile(r"PALFREY_(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")


class Kind(enum.IntEnum):
    """The sources, the stronger the higher."""

    DEFAULT = 0
    FILE = 1
    ENVIRONMENT = 2
    COMMAND_LINE = 3
    ARGUMENT = 4
    """A keyword argument of `palfrey.run()`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: the source, its name there, and the line in a file."""

    kind: Kind
    label: str = "default"
    line: int | None = None

    def __str__(self) -> str:
        return self.label if self.line is None else f"{self.label}, line {self.line}"


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings of one start or reload, and all there is to say about how they came to be."""

    settings: Settings
    origins: dict[str, Origin]
    """By canonical name, for every setting."""
    notices: tuple[Notice, ...]
    environment: dict[str, str]
    """For the workers' environment: from env_file what the real environment does not have, and all of raw_env."""
    config_file: str | None
    """The path of the file that was executed, or None."""


@dataclass(frozen=True, slots=True)
class _Given:
    """A value before it is parsed."""

    called: str
    """The name that the source uses."""
    value: object
    origin: Origin


_Layer = dict[str, _Given]


def resolve(
    command_line: Mapping[str, object], environ: Mapping[str, str], cwd: str, *, need_app: bool = True
) -> Resolved:
    """The settings that these sources make together.

    `command_line` holds what was given there, by canonical name (or a name of `foreign.py`) as text, a list of text,
    or a bool; `config` in it names the configuration file. `cwd` is the directory of the start, absolute. Raises
    ConfigError, and UsageError where `need_app` and there is no application.
    """
    line, notices = _from_command_line(command_line)
    named = command_line.get("config") or environ.get(CONFIG_VARIABLE)
    file = configfile.read(str(named) if named else None, cwd)
    below: _Layer = {}
    if file is not None:
        below = _from_file(file)
        notices += file.notices
    dotenv = _dotenv([below, _from_environment(environ, {}, []), line], environ, cwd)
    layers = [below, _from_environment(environ, dotenv, notices), line]
    settings, origins, overruled = _build(_merge(layers), cwd)
    notices += overruled
    notices += _worker_class_notice(settings, origins)
    if need_app and settings.app is None:
        raise UsageError("no application: name one, as in `palfrey main:app`, or set app in palfrey.conf.py")
    return Resolved(settings, origins, tuple(notices), _environment(dotenv, settings), file.path if file else None)


def from_arguments(values: Mapping[str, object], cwd: str, environ: Mapping[str, str] | None = None) -> Resolved:
    """The settings that keyword arguments make, for embedding: by canonical name or alias, no other source read.

    `environ` is what the variables of env_file would join; without it that file is not read. Raises ConfigError, with
    the name that was probably meant where one is unknown.
    """
    layer: _Layer = {}
    notices: list[Notice] = []
    for name, value in values.items():
        setting = canonical(name)
        if setting is not None:
            layer[setting] = _Given(name, value, Origin(Kind.ARGUMENT, "argument"))
        elif name in FOREIGN:
            notices.append(Notice(f"{name} has no effect: {FOREIGN[name].reason}"))
        else:
            likely = configfile.near(name)
            raise ConfigError(f"{name} is not a setting" + (f": did you mean {likely}?" if likely else ""))
    settings, origins, overruled = _build(_merge([layer]), cwd)
    notices += overruled
    dotenv = {} if environ is None else _dotenv([layer], environ, cwd)
    return Resolved(settings, origins, tuple(notices), _environment(dotenv, settings), None)


# The sources --------------------------------------------------------------------------------------------------------


def _from_command_line(given: Mapping[str, object]) -> tuple[_Layer, list[Notice]]:
    layer: _Layer = {}
    notices: list[Notice] = []
    for name, value in given.items():
        row = ROWS.get(name)
        if row is not None:
            flag = row.flags[-1] if row.flags else "argument"
            if value is False and flag.startswith("--"):
                flag = "--no-" + flag.removeprefix("--")
            layer[name] = _Given(name, value, Origin(Kind.COMMAND_LINE, f"command line, {flag}"))
        elif name in FOREIGN and FOREIGN[name].flags:
            notices.append(Notice(f"{FOREIGN[name].flags[-1]} has no effect: {FOREIGN[name].reason}"))
    return layer, notices


def _from_file(file: configfile.ConfigFile) -> _Layer:
    return {
        name: _Given(assigned.written, assigned.value, Origin(Kind.FILE, file.label, assigned.line))
        for name, assigned in file.assigned.items()
    }


_Dotenv = Mapping[str, tuple[str, str]]
"""Variables of a dotenv file that the real environment does not have: value, and the file as messages call it."""


def _from_environment(environ: Mapping[str, str], dotenv: _Dotenv, notices: list[Notice]) -> _Layer:
    """Reads the variables of the table; an empty one is one that is not set."""
    variables = {name: value for name, (value, _) in dotenv.items()} | dict(environ)
    present = {name: value for name, value in variables.items() if value and not _is_link(name, value)}
    layer: _Layer = {}
    # A setting's own variable comes last, so that it wins over WEB_CONCURRENCY and the like.
    known = {variable: row.name for row in ROWS.values() for variable in reversed(row.env)}
    for variable, name in known.items():
        if variable not in present or (variable == "PORT" and not _port_counts(present)):
            continue
        origin = Origin(Kind.ENVIRONMENT, f"{dotenv[variable][1] if variable in dotenv else 'environment'}, {variable}")
        layer[name] = _Given(name, present[variable], origin)
        if variable == "PORT" and "PALFREY_HOST" not in present:
            layer["host"] = _Given("host", "0.0.0.0", origin)
    unknown = {name for name in variables if name.startswith(ENV_PREFIX)} - known.keys() - _RESERVED
    notices += [_unknown_variable(name, known) for name in sorted(unknown) if not _is_link(name, "")]
    return layer


def _port_counts(present: Mapping[str, str]) -> bool:
    """PORT is the platform's; what names Palfrey in the same environment is more particular."""
    return not any(ENV_PREFIX + name in present for name in ("BIND", "PORT", "UDS", "FD"))


def _is_link(name: str, value: str) -> bool:
    """Whether Kubernetes set this variable, for a service that happens to be named palfrey."""
    return _SERVICE_LINK.fullmatch(name) is not None or (name == "PALFREY_PORT" and "://" in value)


def _unknown_variable(name: str, known: Iterable[str]) -> Notice:
    found = difflib.get_close_matches(name, [each for each in known if each.startswith(ENV_PREFIX)], n=1, cutoff=0.85)
    if found:
        return Notice(f"environment: {name} is not a setting: did you mean {found[0]}?", mistake=True)
    return Notice(f"environment: {name} has no effect: it is not a setting")


def _dotenv(layers: list[_Layer], environ: Mapping[str, str], cwd: str) -> dict[str, tuple[str, str]]:
    """The variables of the env_file that these layers name, less those that the real environment has."""
    named = _merge([{name: layer[name] for name in ("env_file", "chdir") if name in layer} for layer in layers])
    given = named.get("env_file")
    if given is None:
        return {}
    base = _absolute(_parse(ROWS["chdir"], named["chdir"]), cwd) if "chdir" in named else cwd
    path = _absolute(_parse(ROWS["env_file"], given), base)
    try:
        from dotenv import dotenv_values
    except ImportError:
        reason = "needs python-dotenv; pip install 'palfrey[dotenv]'"
        raise ConfigError(f"{_set_as(given, ROWS['env_file'])}: {reason}") from None
    try:
        with open(path, encoding="utf-8") as file:
            values = dotenv_values(stream=file)
    except (OSError, UnicodeDecodeError) as error:
        reason = f"{path}: " + (
            error.strerror or "cannot be read" if isinstance(error, OSError) else "is not UTF-8 text"
        )
        raise ConfigError(f"{_set_as(given, ROWS['env_file'])}: {reason}") from None
    label = os.path.basename(path)
    return {name: (value, label) for name, value in values.items() if value is not None and name not in environ}


def _environment(dotenv: Mapping[str, tuple[str, str]], settings: Settings) -> dict[str, str]:
    """See Resolved. `dotenv` is what `_dotenv` returned."""
    raw = dict(assignment.split("=", 1) for assignment in settings.raw_env)
    return {name: value for name, (value, _) in dotenv.items()} | raw


# The result ---------------------------------------------------------------------------------------------------------


def _merge(layers: list[_Layer]) -> _Layer:
    """The winners; the layers come weakest first. A value that says nothing (None) beats none that does."""
    winners: _Layer = {}
    for layer in layers:
        speaking = {name: given for name, given in layer.items() if given.value is not None or name == "accesslog"}
        if not speaking.keys().isdisjoint(BIND_GROUP):
            for name in BIND_GROUP:
                winners.pop(name, None)
        winners |= speaking
    return winners


def _build(winners: _Layer, cwd: str) -> tuple[Settings, dict[str, Origin], list[Notice]]:
    origins = {name: winners[name].origin if name in winners else Origin(Kind.DEFAULT) for name in ROWS}
    values: dict[str, Any] = {}
    for name, given in winners.items():
        values[name] = None if given.value is None else _parse(ROWS[name], given)
    base = cwd
    if "chdir" in values:
        base = values["chdir"] = _absolute(values["chdir"], cwd)
    for name, value in values.items():
        if ROWS[name].parser.path and isinstance(value, str) and value != "-":
            values[name] = _absolute(value, base)
    _settle_access_log(values, origins)
    overruled = [Notice(f"{_set_as(winners[name], ROWS[name])}: {reason}") for name, reason in develop(values)]
    settings = Settings(**values)
    checks.check(settings, {name: _set_as(given, ROWS[name]) for name, given in winners.items()}, base)
    return settings, origins, overruled + _dormant(settings, winners)


def _parse(row: Row, given: _Given) -> Any:
    try:
        return row.parser.read(given.value)
    except ValueError as error:
        raise ConfigError(f"{_set_as(given, row)}: {error}") from None


def _absolute(path: str, base: str) -> str:
    """Against the working directory, as its user calls it: symbolic links stay, so that a reload follows them anew."""
    return os.path.normpath(os.path.join(base, path))


def _settle_access_log(values: dict[str, Any], origins: dict[str, Origin]) -> None:
    """`accesslog = None` turns the access log off, unless a stronger source turns it on: then it goes to stdout."""
    if values.get("accesslog", "") is not None:
        return
    del values["accesslog"]
    if values.get("access_log") and origins["access_log"].kind > origins["accesslog"].kind:
        origins["accesslog"] = Origin(Kind.DEFAULT)
        return
    values["access_log"] = False
    values["accesslog"] = None
    origins["access_log"] = origins["accesslog"]


def _worker_class_notice(settings: Settings, origins: Mapping[str, Origin]) -> list[Notice]:
    origin = origins["worker_class"]
    if origin.kind is Kind.DEFAULT:
        return []
    return [Notice(f"{origin}: worker_class has no effect: Palfrey has one kind of worker, and it serves ASGI")]


def _dormant(settings: Settings, winners: _Layer) -> list[Notice]:
    """Of settings that would change something if another one let them."""
    notices = []
    for name, given in winners.items():
        row = ROWS[name]
        if row.group in NEEDS and getattr(settings, name) != row.default:
            needed, value = NEEDS[row.group]
            if getattr(settings, needed) != value:
                notices.append(Notice(f"{_set_as(given, row)}: has no effect without {needed} = {value}"))
    return notices


def _set_as(given: _Given, row: Row) -> str:
    """How a setting was set, for an error message: the value is cut to a length that leaves room for the reason."""
    if row.secret:
        text = "***"
    elif given.origin.kind in (Kind.FILE, Kind.ARGUMENT):
        text = repr(given.value)
    else:
        text = ", ".join(map(str, given.value)) if isinstance(given.value, (list, tuple)) else str(given.value)
    text = " ".join(text.split())
    return f"{given.called} = {text if len(text) <= 60 else text[:57] + '...'} ({given.origin})"
