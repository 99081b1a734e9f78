"""Every name of Gunicorn 27 and uvicorn 0.54 is a setting, has no effect for a reason, or is refused on purpose.

So is what Hypercorn 0.18 and Granian 2.8 call their settings of HTTP/2.
"""

from __future__ import annotations

from palfrey.config.foreign import FOREIGN
from palfrey.config.parsers import Shape
from palfrey.config.settings import ROWS, canonical

GUNICORN_SETTINGS = """
config wsgi_app bind backlog workers worker_class threads worker_connections max_requests max_requests_jitter timeout
graceful_timeout keepalive limit_request_line limit_request_fields limit_request_field_size reload reload_engine
reload_extra_files spew check_config print_config preload_app sendfile reuse_port chdir daemon raw_env pidfile
worker_tmp_dir user group umask initgroups tmp_upload_dir secure_scheme_headers forwarded_allow_ips accesslog
disable_redirect_access_to_syslog access_log_format errorlog loglevel capture_output logger_class logconfig
logconfig_dict logconfig_json syslog_addr syslog syslog_prefix syslog_facility enable_stdio_inheritance statsd_host
dogstatsd_tags statsd_prefix enable_backlog_metric proc_name default_proc_name pythonpath paste on_starting on_reload
when_ready pre_fork post_fork post_worker_init worker_int worker_abort pre_exec pre_request post_request child_exit
worker_exit nworkers_changed on_exit ssl_context proxy_protocol proxy_allow_ips protocol uwsgi_allow_ips keyfile
certfile ssl_version cert_reqs ca_certs suppress_ragged_eofs do_handshake_on_connect ciphers http_protocols
http2_cleartext http2_max_concurrent_streams http2_initial_window_size http2_max_frame_size
http2_max_header_list_size raw_paste_global_conf permit_obsolete_folding strip_header_spaces
permit_unconventional_http_method permit_unconventional_http_version casefold_http_method forwarder_headers header_map
asgi_loop asgi_lifespan asgi_disconnect_grace_period websocket_max_message_size http_parser root_path dirty_apps
dirty_workers dirty_timeout dirty_threads dirty_graceful_timeout on_dirty_starting dirty_post_fork dirty_worker_init
dirty_worker_exit control_socket control_socket_mode control_socket_disable
"""

GUNICORN_FLAGS = """
-c --config -b --bind --backlog -w --workers -k --worker-class --threads --worker-connections --max-requests
--max-requests-jitter -t --timeout --graceful-timeout --keep-alive --limit-request-line --limit-request-fields
--limit-request-field_size --spew --check-config --print-config --preload --no-sendfile --reuse-port --chdir -D
--daemon -e --env -p --pid --worker-tmp-dir -u --user -g --group -m --umask --initgroups --forwarded-allow-ips
--access-logfile --disable-redirect-access-to-syslog --access-logformat --error-logfile --log-file --log-level
--capture-output --logger-class --log-config --log-config-json --log-syslog-to --log-syslog --log-syslog-prefix
--log-syslog-facility -R --enable-stdio-inheritance --statsd-host --dogstatsd-tags --statsd-prefix
--enable-backlog-metric -n --name --pythonpath --keyfile --certfile --ssl-version --cert-reqs --ca-certs
--suppress-ragged-eofs --do-handshake-on-connect --ciphers --forwarder-headers --header-map --asgi-loop
--asgi-lifespan --asgi-disconnect-grace-period --http-parser --root-path --control-socket --control-socket-mode
--no-control-socket --reload --reload-engine --reload-extra-file --websocket-max-message-size --http-protocols
--http2-max-concurrent-streams --http2-initial-window-size --http2-max-frame-size --http2-max-header-list-size
"""

UVICORN_FLAGS = """
--host --port --uds --fd --workers --loop --http --lifespan --env-file --log-config --log-level --access-log
--no-access-log --use-colors --no-use-colors --proxy-headers --no-proxy-headers --server-header --no-server-header
--date-header --no-date-header --forwarded-allow-ips --root-path --limit-concurrency --backlog --limit-max-requests
--limit-max-requests-jitter --timeout-keep-alive --timeout-graceful-shutdown --timeout-worker-healthcheck
--ssl-keyfile --ssl-certfile --ssl-keyfile-password --ssl-version --ssl-cert-reqs --ssl-ca-certs --ssl-ciphers
--header --version --app-dir --h11-max-incomplete-event-size --reset-contextvars --factory --help
--reload --reload-dir --reload-include --reload-exclude --reload-delay --interface
--ws --ws-max-size --ws-max-queue --ws-ping-interval --ws-ping-timeout --ws-per-message-deflate
"""

HYPERCORN_SETTINGS = "alpn_protocols h2_max_concurrent_streams h2_max_header_list_size h2_max_inbound_frame_size"

GRANIAN_FLAGS = """
--http --http2-adaptive-window --http2-initial-connection-window-size --http2-initial-stream-window-size
--http2-keep-alive-interval --http2-keep-alive-timeout --http2-max-concurrent-streams --http2-max-frame-size
--http2-max-headers-size --http2-max-send-buffer-size
"""

REFUSED = """
--http2
--paste --paster --paste-global --proxy-protocol --proxy-allow-from --protocol --uwsgi-allow-from
--http2-cleartext --permit-obsolete-folding --strip-header-spaces --dirty-app --dirty-workers
"""
"""Asking for what Palfrey cannot do (yet) must not pass as if it could."""

OWN_FLAGS = {"-c", "--config", "--check-config", "--print-config", "--version", "-h", "--help"}


def accepted_flags() -> set[str]:
    found = set(OWN_FLAGS)
    for row in ROWS.values():
        for flag in (*row.flags, *row.also):
            found |= {flag, f"--no-{flag[2:]}"} if row.parser.shape is Shape.SWITCH else {flag}
    return found | {flag for foreign in FOREIGN.values() for flag in foreign.flags}


def test_every_gunicorn_setting_is_treated() -> None:
    names = f"{GUNICORN_SETTINGS} {HYPERCORN_SETTINGS}".split()
    assert [name for name in names if canonical(name) is None and name not in FOREIGN] == []


def test_every_flag_is_accepted_or_refused_on_purpose() -> None:
    accepted = accepted_flags()
    assert [flag for flag in f"{GUNICORN_FLAGS} {UVICORN_FLAGS} {GRANIAN_FLAGS}".split() if flag not in accepted] == []
    assert [flag for flag in REFUSED.split() if flag in accepted] == []


def test_each_reason_is_a_phrase() -> None:
    for foreign in FOREIGN.values():
        assert foreign.reason
        assert not foreign.reason.endswith(".")
        assert all(flag.startswith("-") for flag in foreign.flags)
