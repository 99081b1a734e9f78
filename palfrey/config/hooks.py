"""The hooks of the configuration file: how they are called, and what they find in their arguments.

A hook is the user's code in the arbiter or in a worker, and Palfrey's life must not hang on it: one that raises
(SystemExit too) is reported with its name and its own traceback, and everything goes on. Hooks written for Gunicorn
expect its arbiter and worker objects; `ServerView` and `WorkerView` hold what such hooks read, and answer nothing
that Palfrey could not keep true. They are copies made for one call: changing them changes nothing.

`ssl_context` is no notification but a question: whoever makes the TLS context calls it and handles its errors.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from palfrey.config.foreign import FOREIGN
from palfrey.config.settings import ALIASES, ROWS, Settings, canonical


def call_hook(settings: Settings, name: str, *args: object, log: logging.Logger) -> None:
    """Runs the hook `name` if there is one. Returns whatever happens in it; what it raised is logged."""
    hook = getattr(settings, name)
    if hook is None:
        return
    try:
        hook(*args)
    except BaseException as error:
        theirs = error.__traceback__.tb_next if error.__traceback__ is not None else None
        lines = traceback.format_exception(type(error), error, theirs)
        log.error("the hook %s raised %s; going on\n%s", name, type(error).__name__, "".join(lines).rstrip())


class ConfigView:
    """`cfg`: the settings by Palfrey's and by Gunicorn's names, in the shapes that Gunicorn's users know."""

    __slots__ = ("_settings",)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __getattr__(self, name: str) -> Any:
        special = _SPECIAL.get(name)
        if special is not None:
            return special(self._settings)
        setting = canonical(name)
        if setting is not None:
            return getattr(self._settings, setting)
        if name in FOREIGN:  # without effect here, so never on
            return None
        raise AttributeError(f"cfg has no {name!r}: Palfrey has no setting of this name")

    def __dir__(self) -> list[str]:
        return sorted({*ROWS, *ALIASES, *_SPECIAL})

    @property
    def settings(self) -> Mapping[str, SettingView]:
        """Every setting by its canonical name and its aliases."""
        return {name: SettingView(name, getattr(self, name)) for name in (*ROWS, *ALIASES)}


_SPECIAL: dict[str, Callable[[Settings], Any]] = {
    "bind": lambda settings: list(settings.binds()),
    "address": lambda settings: list(settings.binds()),
    "env": lambda settings: dict(assignment.split("=", 1) for assignment in settings.raw_env),
    "raw_env": lambda settings: list(settings.raw_env),
    "is_ssl": lambda settings: settings.ssl_certfile is not None,
    "worker_class_str": lambda settings: settings.worker_class,
    "logconfig_dict": lambda settings: settings.log_config if isinstance(settings.log_config, dict) else {},
    "logconfig": lambda settings: settings.log_config if isinstance(settings.log_config, str) else None,
    "logconfig_json": lambda settings: settings.log_config if isinstance(settings.log_config, str) else None,
}
"""Names whose value is not the setting's own."""


@dataclass(frozen=True, slots=True)
class SettingView:
    """One entry of `cfg.settings`."""

    name: str
    value: Any

    def get(self) -> Any:
        """The value."""
        return self.value


@dataclass(slots=True, kw_only=True)
class ServerView:
    """The `server` argument: the arbiter, seen from a hook."""

    pid: int
    """The arbiter's, in a worker too."""
    log: logging.Logger = field(repr=False)
    settings: Settings = field(repr=False)
    address: tuple[str, ...] = ()
    """The addresses that are listened on, as people write them; before they are bound, as they were asked for."""
    num_workers: int = 0
    """How many workers are wanted now."""

    @property
    def cfg(self) -> ConfigView:
        """The settings."""
        return ConfigView(self.settings)

    @property
    def app_uri(self) -> str | None:
        """The application's import string."""
        return self.settings.app

    @property
    def proc_name(self) -> str | None:
        """What stands in brackets in the processes' titles."""
        return self.settings.proc_name or self.settings.app

    @property
    def timeout(self) -> float:
        """When a worker counts as stuck, in seconds."""
        return self.settings.timeout


@dataclass(slots=True, kw_only=True)
class WorkerView:
    """The `worker` argument: one worker, seen from a hook in the arbiter or in itself."""

    pid: int | None
    """None before the fork."""
    ppid: int
    """The arbiter's pid."""
    age: int
    """How many workers the arbiter had started when it started this one, itself included."""
    log: logging.Logger = field(repr=False)
    settings: Settings = field(repr=False)
    aborted: bool = False
    """Whether it was ended because it was stuck."""
    alive: bool = True
    """Whether it goes on serving."""
    booted: bool = False
    """Whether it has loaded the application."""
    nr: int = 0
    """How many requests it has served."""
    tmp: None = None
    """Gunicorn's heartbeat file; there is none."""

    @property
    def cfg(self) -> ConfigView:
        """The settings."""
        return ConfigView(self.settings)

    @property
    def timeout(self) -> float:
        """When it counts as stuck, in seconds."""
        return self.settings.timeout
