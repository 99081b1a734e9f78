"""Names that Gunicorn, uvicorn and others know and Palfrey accepts without effect, each with the reason.

A configuration file or a command line that is moved over from another server must run unchanged, and its owner must
learn which lines of it no longer do anything: one line of warning for each, made from this table. What Palfrey *does*
know under another name is an alias in `settings.py`. A flag that is in neither table is a usage error: an option that
asks for what Palfrey cannot do (`--http2`, `--proxy-protocol`) must not pass as if it could.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Foreign:
    """One name of another server's."""

    name: str
    """In the configuration file."""
    reason: str
    """Continues "<name> has no effect: "."""
    flags: tuple[str, ...] = ()
    """On the command line; empty: not accepted there."""
    switch: bool = False
    """Whether the flag stands alone."""


_PER_REQUEST: Final = "Palfrey calls no hook for each request; ASGI middleware can do it"
_STRICT: Final = "Palfrey's parsers are always strict"
_SYSLOG: Final = "configure a SysLogHandler with log_config"
_STATSD: Final = "Palfrey does not send statsd metrics"
_DIRTY: Final = "Palfrey has no dirty arbiter"
_PASTE: Final = "Palfrey does not read Paste configurations; name the application with app"
_NOT_YET: Final = "this version of Palfrey does not do that"
_CONTROL: Final = "this version of Palfrey has no control socket"
_H2: Final = "http = h2 serves HTTP/2 beside HTTP/1.1"
_HEAD: Final = "limit_request_head is the limit"
_WINDOWS: Final = "http2_initial_window_size is what a request's body has, whatever the connection's pace"
_NO_PINGS: Final = "an idle HTTP/2 connection is not kept alive by pings; timeout_keep_alive closes it"
_FIXED_FLAG: Final = "it belongs on the command line"

_TABLE: Final = (
    # Processes
    Foreign("worker_tmp_dir", "heartbeats go through shared memory, not through files", ("--worker-tmp-dir",)),
    Foreign("reuse_port", "all workers share one listening socket", ("--reuse-port",), True),
    Foreign("initgroups", "workers always take the groups of their user", ("--initgroups",), True),
    Foreign("default_proc_name", "name the processes with proc_name"),
    Foreign("spew", "use a profiler or a debugger", ("--spew",), True),
    Foreign(
        "enable_stdio_inheritance", "stdout and stderr are always inherited", ("-R", "--enable-stdio-inheritance"), True
    ),
    Foreign("config", _FIXED_FLAG),
    Foreign("check_config", _FIXED_FLAG),
    Foreign("print_config", _FIXED_FLAG),
    Foreign("control_socket", _CONTROL, ("--control-socket",)),
    Foreign("control_socket_mode", _CONTROL, ("--control-socket-mode",)),
    Foreign("control_socket_disable", _CONTROL, ("--no-control-socket",), True),
    # Requests
    Foreign("sendfile", "files are sent in the way that suits the connection", ("--no-sendfile",), True),
    Foreign("tmp_upload_dir", "a WSGI request's content beyond 512 KB is spooled to the directory that TMPDIR names"),
    Foreign("pre_request", _PER_REQUEST),
    Foreign("post_request", _PER_REQUEST),
    Foreign("secure_scheme_headers", "name the fields that are believed with forwarded_fields"),
    Foreign("forwarder_headers", "name the fields that are believed with forwarded_fields", ("--forwarder-headers",)),
    Foreign("permit_obsolete_folding", _STRICT),
    Foreign("strip_header_spaces", _STRICT),
    Foreign("permit_unconventional_http_method", _STRICT),
    Foreign("permit_unconventional_http_version", _STRICT),
    Foreign("casefold_http_method", _STRICT),
    Foreign("h11_max_incomplete_event_size", _HEAD, ("--h11-max-incomplete-event-size",)),
    Foreign("reset_contextvars", "each request has a context of its own", ("--reset-contextvars",), True),
    Foreign(
        "asgi_disconnect_grace_period",
        "an application learns of a disconnect at once",
        ("--asgi-disconnect-grace-period",),
    ),
    Foreign("proxy_protocol", _NOT_YET),
    Foreign("proxy_allow_ips", _NOT_YET),
    Foreign("protocol", "Palfrey speaks HTTP"),
    Foreign("uwsgi_allow_ips", "Palfrey does not speak uwsgi"),
    # HTTP/2: Gunicorn's, Hypercorn's and Granian's
    Foreign("http2", _H2),
    Foreign("alpn_protocols", _H2),
    Foreign("http2_cleartext", f"{_H2}; without TLS it takes HTTP/2 by prior knowledge, and Upgrade: h2c never"),
    Foreign("http2_max_header_list_size", _HEAD, ("--http2-max-header-list-size",)),
    Foreign("h2_max_header_list_size", _HEAD),
    Foreign("http2_max_headers_size", _HEAD, ("--http2-max-headers-size",)),
    Foreign("http2_adaptive_window", _WINDOWS, ("--http2-adaptive-window",), True),
    Foreign("http2_keep_alive_interval", _NO_PINGS, ("--http2-keep-alive-interval",)),
    Foreign("http2_keep_alive_timeout", _NO_PINGS, ("--http2-keep-alive-timeout",)),
    Foreign(
        "http2_max_send_buffer_size",
        "an application waits while its client takes no more",
        ("--http2-max-send-buffer-size",),
    ),
    # TLS
    Foreign(
        "ssl_version",
        "Palfrey negotiates the newest version that the client knows; ssl_min_version sets the oldest",
        ("--ssl-version",),
    ),
    Foreign("suppress_ragged_eofs", "connections are not blocking sockets here", ("--suppress-ragged-eofs",), True),
    Foreign(
        "do_handshake_on_connect", "connections are not blocking sockets here", ("--do-handshake-on-connect",), True
    ),
    # Logging
    Foreign("capture_output", "redirect the process's stdout and stderr instead", ("--capture-output",), True),
    Foreign("logger_class", "configure loggers with log_config", ("--logger-class",)),
    Foreign("disable_redirect_access_to_syslog", _SYSLOG, ("--disable-redirect-access-to-syslog",), True),
    Foreign("syslog", _SYSLOG, ("--log-syslog",), True),
    Foreign("syslog_addr", _SYSLOG, ("--log-syslog-to",)),
    Foreign("syslog_prefix", _SYSLOG, ("--log-syslog-prefix",)),
    Foreign("syslog_facility", _SYSLOG, ("--log-syslog-facility",)),
    Foreign("statsd_host", _STATSD, ("--statsd-host",)),
    Foreign("statsd_prefix", _STATSD, ("--statsd-prefix",)),
    Foreign("dogstatsd_tags", _STATSD, ("--dogstatsd-tags",)),
    Foreign("enable_backlog_metric", _STATSD, ("--enable-backlog-metric",), True),
    # Paste and Gunicorn's dirty arbiter
    Foreign("paste", _PASTE),
    Foreign("raw_paste_global_conf", _PASTE),
    Foreign("dirty_apps", _DIRTY),
    Foreign("dirty_workers", _DIRTY),
    Foreign("dirty_timeout", _DIRTY),
    Foreign("dirty_threads", _DIRTY),
    Foreign("dirty_graceful_timeout", _DIRTY),
    Foreign("on_dirty_starting", _DIRTY),
    Foreign("dirty_post_fork", _DIRTY),
    Foreign("dirty_worker_init", _DIRTY),
    Foreign("dirty_worker_exit", _DIRTY),
)

FOREIGN: Final[dict[str, Foreign]] = {foreign.name: foreign for foreign in _TABLE}
