"""What one setting's parser cannot know: settings that exclude or need each other, and what must exist on the machine.

`check` looks and raises; it opens nothing for good and changes nothing. It runs at each start and reload, before
anything that serves is touched, so that a configuration that cannot work is refused with the name of the setting
and the place where it was set.
"""

from __future__ import annotations

import grp
import importlib.util
import os
import pwd
from collections.abc import Mapping
from typing import NoReturn

from palfrey.config.settings import ROWS, Settings
from palfrey.errors import ConfigError

FORWARDED_RIVALS = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port")
"""What RFC 7239's Forwarded took the place of; it has nothing for X-Forwarded-Prefix."""

Given = Mapping[str, str]
"""Of the settings that were set, how they were: `keepalive = -1 (palfrey.conf.py, line 3)`."""


def check(settings: Settings, given: Given, base: str) -> None:
    """Raises ConfigError for the first thing that cannot work. `base` is the directory that the server works in."""
    _check_addresses(given)
    _check_directories(settings, given, base)
    _check_files(settings, given)
    _check_tls(settings, given)
    _check_accounts(settings, given)
    _check_proxies(settings, given)
    _check_development(settings, given, base)


def _refuse(given: Given, name: str, reason: str) -> NoReturn:
    raise ConfigError(f"{given[name]}: {reason}")


def _check_addresses(given: Given) -> None:
    """One source holds them all (the group wins whole); which of them is meant must not be a guess."""
    for name, others in {
        "bind": ("host", "port", "uds", "fd"),
        "uds": ("host", "port", "fd"),
        "fd": ("host", "port"),
    }.items():
        for other in others:
            if name in given and other in given:
                _refuse(given, other, f"cannot be combined with {name}; give bind several addresses instead")


def _check_directories(settings: Settings, given: Given, base: str) -> None:
    if not os.path.isdir(base) and "chdir" in given:
        _refuse(given, "chdir", f"there is no directory {base}")
    if settings.app_dir is not None and not os.path.isdir(settings.app_dir):
        _refuse(given, "app_dir", f"there is no directory {settings.app_dir}")
    for name in ("pidfile", "errorlog", "accesslog"):
        path = getattr(settings, name)
        if path in (None, "-") or name not in given:
            continue
        if not os.path.isdir(os.path.dirname(path)):
            _refuse(given, name, f"there is no directory {os.path.dirname(path)}")
        if os.path.isdir(path):
            _refuse(given, name, "is a directory, not a file")


def _check_files(settings: Settings, given: Given) -> None:
    for name in ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs", "log_config"):
        path = getattr(settings, name)
        if not isinstance(path, str):
            continue
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            _refuse(given, name, f"{path}: {error.strerror}")


def _check_tls(settings: Settings, given: Given) -> None:
    if settings.ssl_certfile is None and settings.ssl_context is None:
        for name in (
            *("ssl_keyfile", "ssl_keyfile_password", "ssl_ca_certs", "ssl_cert_reqs", "ssl_ciphers"),
            *("ssl_min_version", "ssl_reload_interval"),
        ):
            if name in given and getattr(settings, name) != ROWS[name].default:
                _refuse(given, name, "needs ssl_certfile, which turns TLS on")
    if settings.ssl_cert_reqs and settings.ssl_ca_certs is None and settings.ssl_context is None:
        _refuse(given, "ssl_cert_reqs", "needs ssl_ca_certs, the authorities to check clients against")


def _check_accounts(settings: Settings, given: Given) -> None:
    if settings.user is not None:
        uid = _uid(settings.user)
        if uid is None:
            _refuse(given, "user", "there is no such user")
        if os.geteuid() not in (0, uid):
            _refuse(given, "user", "only root can run workers as another user; start as root or leave it out")
    if settings.group is not None:
        gid = _gid(settings.group)
        if gid is None:
            _refuse(given, "group", "there is no such group")
        if os.geteuid() != 0 and gid != os.getegid():
            _refuse(given, "group", "only root can run workers as another group; start as root or leave it out")
    if settings.socket_owner is not None:
        user, _, group = settings.socket_owner.partition(":")
        if (user and _uid(user) is None) or (group and _gid(group) is None):
            _refuse(given, "socket_owner", "there is no such user or group")


def _check_proxies(settings: Settings, given: Given) -> None:
    """A proxy sets one family of fields and passes the other on: to read both is to believe the client."""
    fields = settings.forwarded_fields
    rivals = [name for name in fields if name in FORWARDED_RIVALS]
    if "forwarded" in fields and rivals:
        _refuse(given, "forwarded_fields", f"forwarded says what {rivals[0]} says: name the one that your proxy sets")


def _check_development(settings: Settings, given: Given, base: str) -> None:
    for name in settings.reload_dirs:
        if not os.path.isdir(os.path.join(base, os.path.expanduser(name))):
            _refuse(given, "reload_dirs", f"there is no directory {name}")
    if not settings.reload:
        return
    if settings.daemon:
        _refuse(given, "daemon", "cannot be combined with reload, which is for a terminal")
    if settings.reload_engine == "watchfiles" and importlib.util.find_spec("watchfiles") is None:
        _refuse(given, "reload_engine", "needs watchfiles; pip install 'palfrey[reload]'")


def _uid(name: str) -> int | None:
    if name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _gid(name: str) -> int | None:
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
