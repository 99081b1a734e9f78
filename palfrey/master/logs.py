"""The settings that make the logs, handed to `palfrey.observe.logging`, which knows no settings."""

from __future__ import annotations

import os

from palfrey.config.settings import Settings
from palfrey.observe.logging import LogSetup, configure
from palfrey.system.process import resolve_group, resolve_user

FIELDS = ("log_level", "log_config", "access_log", "accesslog", "errorlog", "access_log_format", "use_colors")


def configure_logs(settings: Settings, label: str) -> LogSetup:
    """Set up this process's logs as `label` ("master", "worker 1"). Raises ConfigError and leaves them as they were.

    Log files are given to the workers' user, who has to open them again after a rotation.
    """
    owner = None
    if os.geteuid() == 0 and settings.user is not None:
        user = resolve_user(settings.user)
        gid = resolve_group(settings.group) if settings.group is not None else user.gid
        owner = (user.uid, gid if gid is not None else -1)
    return configure(
        level=settings.log_level,
        use_colors=settings.use_colors,
        errorlog=settings.errorlog,
        accesslog=settings.accesslog,
        access_log=settings.access_log,
        access_log_format=settings.access_log_format,
        log_config=settings.log_config,
        process_label=label,
        owner=owner,
    )


def same_logs(one: Settings, other: Settings) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in FIELDS)
