"""Gunicorn's configuration -> Settings, and what of it has no effect. One table each. TLS is in gunicorn_tls.py.

What Gunicorn's arbiter does itself (workers, bind, user, pidfile, reload, logs ...) is not here. Gunicorn's defaults
hold where its settings do: an operator reads Gunicorn's documentation.
"""

from __future__ import annotations

import os
from typing import Any

from palfrey.config.foreign import FOREIGN
from palfrey.config.settings import Settings
from palfrey.config.sources import from_arguments

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
    *("proxy_protocol", "protocol", "http2_cleartext", "http2_max_header_list_size", "ssl_version"),
)
"""Gunicorn's settings for its own workers that these do not heed. The reasons are in config/foreign.py."""

UNLIMITED = {"limit_request_line": 65536, "limit_request_fields": 32768, "limit_request_field_size": 65536}
"""What Gunicorn's 0 comes to here, where the head as a whole has a limit anyway."""

SHUTDOWN = 2.0
"""Seconds of graceful_timeout, at most, that are kept for the lifespan's shutdown: Gunicorn kills when it is over."""


def settings_of(cfg: Any, own: dict[str, Any]) -> Settings:
    """Gunicorn's `cfg`, and `own` settings by Palfrey's names, which win. Raises ConfigError."""
    values: dict[str, Any] = {ours: getattr(cfg, theirs) for ours, theirs in SAME.items() if hasattr(cfg, theirs)}
    for name, most in UNLIMITED.items():
        values[name] = values[name] or most
    graceful = float(values["graceful_timeout"])
    values["graceful_timeout"] = graceful - min(SHUTDOWN, graceful / 4)
    values["http"] = "h2" if _speaks_h2(cfg) else cfg.http_parser
    trusted = ",".join(map(str, cfg.forwarded_allow_ips))
    # Gunicorn believes whoever comes over a UNIX socket, too.
    values["forwarded_allow_ips"] = "*" if "*" in trusted else f"{trusted},unix".lstrip(",")
    return from_arguments({**values, **own}, os.getcwd()).settings


def ineffective(cfg: Any) -> list[str]:
    """A line for each setting that somebody has set to no effect."""
    found = []
    for name in INEFFECTIVE:
        setting = cfg.settings.get(name)
        if setting is not None and setting.get() != type(setting)().get():
            found.append(f"{name} has no effect with Palfrey's workers: {FOREIGN[name].reason}")
    return found


def _speaks_h2(cfg: Any) -> bool:
    return "h2" in getattr(cfg, "http_protocols", ())
