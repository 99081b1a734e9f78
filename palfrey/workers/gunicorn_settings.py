"""Gunicorn's configuration -> Settings, and what of it has no effect. One table each. TLS is in gunicorn_tls.py.

What Gunicorn's arbiter does itself (workers, bind, user, pidfile, reload, logs ...) is not here. Gunicorn's defaults
hold where its settings do: an operator reads Gunicorn's documentation.
"""

from __future__ import annotations

from typing import Any

from palfrey.config.foreign import FOREIGN
from palfrey.config.settings import ARBITERS, Settings, canonical
from palfrey.config.sources import from_arguments
from palfrey.errors import ConfigError

SAME = {
    "backlog": "backlog",
    "graceful_timeout": "graceful_timeout",
    "header_map": "header_map",
    "http2_initial_window_size": "http2_initial_window_size",
    "http2_max_concurrent_streams": "http2_max_concurrent_streams",
    "http2_max_frame_size": "http2_max_frame_size",
    "lifespan": "asgi_lifespan",
    "limit_request_field_size": "limit_request_field_size",
    "limit_request_fields": "limit_request_fields",
    "limit_request_line": "limit_request_line",
    "loop": "asgi_loop",
    "root_path": "root_path",
    "threads": "threads",
    "timeout": "timeout",
    "timeout_keep_alive": "keepalive",
    "worker_connections": "worker_connections",
    "ws_max_size": "websocket_max_message_size",
}
"""Palfrey's name -> Gunicorn's, where both mean the same."""

INEFFECTIVE = (
    *("permit_obsolete_folding", "strip_header_spaces", "casefold_http_method"),
    *("permit_unconventional_http_method", "permit_unconventional_http_version"),
    *("secure_scheme_headers", "forwarder_headers", "asgi_disconnect_grace_period", "tmp_upload_dir"),
    *("proxy_allow_ips", "uwsgi_allow_ips", "http2_cleartext", "http2_max_header_list_size", "ssl_version"),
    *("sendfile", "suppress_ragged_eofs", "do_handshake_on_connect"),
)
"""Gunicorn's settings for its own workers that these do not heed. The reasons are in config/foreign.py."""

IMPOSSIBLE = {"proxy_protocol": ("off", False), "protocol": ("http",)}
"""Settings by which clients speak something else than HTTP, and what they have to be, in each version of Gunicorn."""

UNUSABLE = frozenset(
    (
        *ARBITERS,
        *("app", "factory", "app_dir", "env_file", "raw_env", "bind", "host", "port", "uds", "fd"),
        *("socket_mode", "socket_owner", "worker_class", "preload_app", "timeout", "boot_timeout"),
        *("max_surge", "upgrade", "max_requests_jitter", "max_lifetime_jitter"),
        *("reload_dirs", "reload_include", "reload_exclude", "reload_delay", "reload_engine", "reload_extra_files"),
        *("log_level", "log_config", "access_log", "accesslog", "errorlog", "access_log_format", "use_colors"),
        "ssl_context",
    )
)
"""Palfrey's settings that are of no use in a worker class: for Palfrey's arbiter, or ones that Gunicorn has itself."""

HEAD = 65536
"""Bytes of a whole head, at least."""

UNLIMITED = {"limit_request_line": HEAD, "limit_request_fields": 32768, "limit_request_field_size": HEAD}
"""What Gunicorn's 0 comes to here, where the head as a whole has a limit anyway."""

SHUTDOWN = 2.0
"""Seconds of graceful_timeout, at most, that are kept for the lifespan's shutdown: Gunicorn kills when it is over."""


def settings_of(cfg: Any, own: dict[str, Any]) -> Settings:
    """Gunicorn's `cfg`, and a worker class's `own` settings by Palfrey's names, which win. Raises ConfigError."""
    values: dict[str, Any] = {ours: getattr(cfg, theirs) for ours, theirs in SAME.items() if hasattr(cfg, theirs)}
    # Gunicorn has no limit for a head as a whole; ours must not undercut what it has.
    values["limit_request_head"] = max(HEAD, values["limit_request_line"] + values["limit_request_field_size"])
    for name, most in UNLIMITED.items():
        values[name] = values[name] or most
    graceful = float(values["graceful_timeout"])
    values["graceful_timeout"] = graceful - min(SHUTDOWN, graceful / 4)
    values["http"] = "h2" if speaks_h2(cfg) else getattr(cfg, "http_parser", "auto")
    trusted = ",".join(map(str, cfg.forwarded_allow_ips))
    # Gunicorn believes whoever comes over a UNIX socket, too.
    values["forwarded_allow_ips"] = "*" if "*" in trusted else f"{trusted},unix".lstrip(",")
    return from_arguments({**values, **own}, cfg.chdir).settings  # which is there still when the directory is gone


def check(cfg: Any) -> None:
    """Raises ConfigError for what no client could be served with."""
    for name, only in IMPOSSIBLE.items():
        if getattr(cfg, name, only[0]) not in only:
            raise ConfigError(f"{name} has to be {only[0]!r} with Palfrey's workers: {FOREIGN[name].reason}")


def ineffective(cfg: Any, own: dict[str, Any]) -> list[str]:
    """A line for each setting that somebody has set to no effect."""
    found = []
    for name in INEFFECTIVE:
        setting = cfg.settings.get(name)
        if setting is not None and setting.get() != type(setting)().get():
            found.append(f"{name} has no effect with Palfrey's workers: {FOREIGN[name].reason}")
    for name in own:
        if name in FOREIGN:
            found.append(f"{name} has no effect in a worker class: {FOREIGN[name].reason}")
        elif canonical(name) in UNUSABLE:
            found.append(f"{name} has no effect in a worker class: it is for Gunicorn's own configuration")
    return found


def speaks_h2(cfg: Any) -> bool:
    """Whether HTTP/2 is asked for."""
    return "h2" in getattr(cfg, "http_protocols", ())
