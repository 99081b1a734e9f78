"""What becomes of Gunicorn's configuration, and of requests in its hooks' eyes. tests/process has a real one."""

from __future__ import annotations

import datetime
import logging
import ssl
import subprocess
import sys
from typing import ClassVar

import pytest
import trustme

pytest.importorskip("gunicorn")

from gunicorn.config import Config

import palfrey.workers
from palfrey.config.foreign import FOREIGN
from palfrey.config.settings import ROWS
from palfrey.errors import ConfigError
from palfrey.workers import PalfreyH11Worker, PalfreyWorker, gunicorn_board
from palfrey.workers.gunicorn_board import Board
from palfrey.workers.gunicorn_requests import LoggerAccess, RequestView, ResponseView
from palfrey.workers.gunicorn_settings import IMPOSSIBLE, INEFFECTIVE, SAME, UNUSABLE, ineffective, settings_of
from palfrey.workers.gunicorn_tls import Contexts, tls_of

GUNICORNS = (
    *("config", "wsgi_app", "bind", "workers", "worker_class", "reload", "reload_engine", "reload_extra_files", "spew"),
    *("check_config", "print_config", "preload_app", "reuse_port", "chdir", "daemon", "raw_env", "pidfile"),
    *("worker_tmp_dir", "user", "group", "umask", "initgroups", "disable_redirect_access_to_syslog", "errorlog"),
    *("loglevel", "capture_output", "logconfig", "logconfig_dict", "logconfig_json", "syslog", "syslog_addr"),
    *("syslog_prefix", "syslog_facility", "enable_stdio_inheritance", "statsd_host", "dogstatsd_tags", "statsd_prefix"),
    *("enable_backlog_metric", "proc_name", "default_proc_name", "pythonpath", "paste", "raw_paste_global_conf"),
    *("on_starting", "on_reload", "when_ready", "pre_fork", "post_fork", "pre_exec", "child_exit", "nworkers_changed"),
    *("on_exit", "control_socket", "control_socket_mode", "control_socket_disable", "dirty_apps", "dirty_workers"),
    *("dirty_timeout", "dirty_threads", "dirty_graceful_timeout", "on_dirty_starting", "dirty_post_fork"),
    *("dirty_worker_init", "dirty_worker_exit"),
)
"""Settings that are the affair of Gunicorn's arbiter, logger and worker base class alone."""


def configured(**values: object) -> Config:
    cfg = Config()
    for name, value in values.items():
        cfg.set(name, value)
    return cfg


def test_the_tables_know_what_they_speak_of():
    cfg = Config()
    assert SAME.keys() <= ROWS.keys()
    assert set(SAME.values()) <= cfg.settings.keys()
    assert {*INEFFECTIVE, *IMPOSSIBLE} <= cfg.settings.keys() & FOREIGN.keys()
    assert ROWS.keys() >= UNUSABLE


def test_each_setting_of_gunicorns_is_known():
    """Heeded, by Gunicorn's arbiter or by us, or said to have no effect: a new one is to be thought about."""
    read = {"asgi_loop", "http_parser", "http_protocols", "forwarded_allow_ips", "max_requests", "max_requests_jitter"}
    hooks = {
        "post_worker_init",
        "worker_int",
        "worker_abort",
        "pre_request",
        "post_request",
        "worker_exit",
        "ssl_context",
    }
    logs = {"access_log_format", "logger_class", "accesslog"}
    tls = {"certfile", "keyfile", "ca_certs", "cert_reqs", "ciphers"}
    ours = {*tls, *SAME.values(), *INEFFECTIVE, *IMPOSSIBLE, *read, *hooks, *logs}
    assert sorted(Config().settings.keys() - ours) == sorted(GUNICORNS)


def test_gunicorns_defaults():
    settings = settings_of(Config(), {})
    assert (settings.timeout_keep_alive, settings.limit_request_line, settings.worker_connections) == (2, 4094, 1000)
    assert (settings.header_map, settings.http, settings.loop, settings.lifespan) == ("drop", "auto", "auto", "auto")
    assert settings.forwarded_allow_ips == "127.0.0.1,::1,unix"


@pytest.mark.parametrize(
    ("given", "name", "found"),
    [
        ({"keepalive": 75}, "timeout_keep_alive", 75),
        ({"timeout": 0}, "timeout", 0),
        ({"graceful_timeout": 30}, "graceful_timeout", 28),
        ({"graceful_timeout": 2}, "graceful_timeout", 1.5),
        ({"graceful_timeout": 0}, "graceful_timeout", 0),
        ({"limit_request_line": 0}, "limit_request_line", 65536),
        ({"limit_request_field_size": 0}, "limit_request_field_size", 65536),
        ({"limit_request_line": 0, "limit_request_field_size": 0}, "limit_request_head", 65536),
        ({"limit_request_field_size": 200_000}, "limit_request_head", 204_094),
        ({"http_parser": "python"}, "http", "h11"),
        ({"http_parser": "fast"}, "http", "httptools"),
        ({"http_protocols": "h2,h1"}, "http", "h2"),
        ({"header_map": "dangerous"}, "header_map", "keep"),
        ({"header_map": "refuse"}, "header_map", "refuse"),
        ({"forwarded_allow_ips": "*"}, "forwarded_allow_ips", "*"),
        ({"forwarded_allow_ips": "10.0.0.0/8"}, "forwarded_allow_ips", "10.0.0.0/8,unix"),
        ({"forwarded_allow_ips": ""}, "forwarded_allow_ips", "unix"),
        ({"root_path": "/a"}, "root_path", "/a"),
        ({"asgi_loop": "asyncio"}, "loop", "asyncio"),
        ({"asgi_lifespan": "off"}, "lifespan", "off"),
        ({"worker_connections": 5}, "worker_connections", 5),
    ],
)
def test_settings(given, name, found):
    assert getattr(settings_of(configured(**given), {}), name) == found


def test_settings_of_a_worker_class_win():
    assert settings_of(configured(http_parser="fast"), PalfreyH11Worker.settings).http == "h11"
    with pytest.raises(ConfigError, match="ssl_min_version"):
        settings_of(Config(), {"ssl_min_version": "1.0"})


def test_what_does_not_fit_is_told_to_the_arbiter():
    class Mine(PalfreyWorker):
        settings: ClassVar = {"keep_alive": 1}

    with pytest.raises(RuntimeError, match="keep_alive is not a setting"):
        Mine.check_config(Config(), logging.getLogger("palfrey.error"))


def test_what_has_no_effect():
    assert ineffective(Config(), {}) == []
    (line,) = ineffective(configured(permit_obsolete_folding=True), {"server_header": False})
    assert line.startswith("permit_obsolete_folding has no effect with Palfrey's workers: ")
    (ours, foreign) = ineffective(Config(), {"limit_max_requests": 9, "h11_max_incomplete_event_size": 9})
    assert ours == "limit_max_requests has no effect in a worker class: it is for Gunicorn's own configuration"
    assert foreign.startswith("h11_max_incomplete_event_size has no effect in a worker class: ")


@pytest.mark.parametrize(("name", "value"), [("proxy_protocol", "v1"), ("protocol", "uwsgi")])
def test_what_is_not_spoken_is_refused(name, value):
    with pytest.raises(RuntimeError, match=f"^{name} has to be 'off|http' with Palfrey's workers: "):
        PalfreyWorker.check_config(configured(**{name: value}), logging.getLogger("palfrey.error"))


def test_a_subclass_of_uvicorns_worker_may_change_its_base():
    class Mine(PalfreyWorker):
        CONFIG_KWARGS: ClassVar = {
            "loop": "asyncio",
            "http": "h11",
            "ws": "wsproto",
            "lifespan": "off",
            "log_level": "info",
        }
        settings: ClassVar = {"http": "httptools"}

    said = Said()
    Mine.check_config(Config(), said)
    assert said == ["log_level has no effect in a worker class: it is for Gunicorn's own configuration"]


def test_http2_is_not_for_h11():
    said = Said()
    PalfreyH11Worker.check_config(configured(http_protocols="h2,h1"), said)
    assert said == ["http_protocols: there is no h2, since PalfreyH11Worker has http = h11"]


@pytest.fixture
def certified(tmp_path):
    """A configuration with TLS."""
    put_certificate(tmp_path)
    return configured(certfile=str(tmp_path / "cert.pem"), keyfile=str(tmp_path / "key.pem"))


def put_certificate(directory, **more):
    leaf = trustme.CA().issue_cert("app.test", **more)
    leaf.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    leaf.private_key_pem.write_to_path(directory / "key.pem")
    return leaf


def test_tls(certified, tmp_path):
    assert tls_of(Config(), settings_of(Config(), {})) is None
    tls = tls_of(certified, settings_of(certified, {}))
    assert tls is not None
    assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert (tmp_path / "cert.pem").read_text().startswith(tls.certificate)
    certified.set("keyfile", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="cannot read"):
        tls_of(certified, settings_of(certified, {}))
    own = {"ssl_certfile": str(tmp_path / "cert.pem"), "ssl_keyfile": str(tmp_path / "key.pem")}
    assert tls_of(certified, settings_of(certified, own)) is not None  # what a worker class sets wins
    assert tls_of(Config(), settings_of(certified, own)) is not None


def test_the_hook_ssl_context(certified):
    settings = settings_of(certified, {})
    asked = []

    def context(conf, default):
        asked.append(conf)
        return default()

    certified.set("ssl_context", context)
    tls = tls_of(certified, settings)
    assert tls is not None
    assert asked == [certified]
    assert tls.certificate is None  # who knows
    certified.set("ssl_context", lambda conf, default: None)
    with pytest.raises(ConfigError, match="the hook ssl_context returned NoneType"):
        tls_of(certified, settings)
    certified.set("ssl_context", lambda conf, default: 1 // 0)
    with pytest.raises(ConfigError, match="the hook ssl_context raised ZeroDivisionError"):
        tls_of(certified, settings)
    certified.set("ssl_context", lambda conf, default: sys.exit(4))
    with pytest.raises(ConfigError, match="the hook ssl_context raised SystemExit: 4"):
        tls_of(certified, settings)


class Said(list):
    """A logger's messages."""

    def error(self, text, *values):
        self.append(text % values)

    warning = error


def test_workers_share_a_context_while_it_is_good(certified, tmp_path):
    said, contexts = Said(), Contexts()

    def give(cfg):
        return contexts.give(cfg, settings_of(cfg, {}), said)

    assert give(Config()) is None
    first = give(certified)
    assert give(certified) is first
    (tmp_path / "key.pem").write_text("half of a renewal")
    assert give(certified) is first
    assert give(certified) is first
    (line,) = said
    assert "key.pem" in line
    assert line.endswith("The TLS context from before serves on")
    put_certificate(tmp_path, not_after=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    second = give(certified)
    assert second is not first
    assert "expired on 2020" in said.pop()
    again = configured(certfile=str(tmp_path / "cert.pem"), keyfile=str(tmp_path / "key.pem"))
    assert give(again) is not second  # a HUP
    assert give(Config()) is None
    (tmp_path / "key.pem").unlink()
    with pytest.raises(ConfigError):
        give(certified)


def test_rows_of_the_board(tmp_path):
    board = Board()
    beats = [open(tmp_path / str(number), "w") for number in range(3)]  # noqa: SIM115
    assert [board.give(beat) for beat in beats] == [0, 1, 2]
    board.scoreboard.row(1).admits = 5
    beats[1].close()
    assert board.give(beats[1]) == 1
    assert board.scoreboard.row(1).admits == 0
    assert board.give(beats[0]) == 1  # closed still
    assert board.give(beats[0]) == 3
    assert board.scoreboard.reach == 4
    for beat in beats:
        beat.close()


def test_a_board_may_be_full(monkeypatch, tmp_path):
    monkeypatch.setattr(gunicorn_board, "ROWS", 1)
    board = Board()
    with open(tmp_path / "beat", "w") as beat:
        assert board.give(beat) == 0
        assert board.give(beat) is None


def test_views():
    request = RequestView("GET", b"/a?b=c", "1.1", [(b"host", b"h"), (b"content-type", b"t")], ("192.0.2.1", 5))
    assert (request.uri, request.path, request.query, request.version) == ("/a?b=c", "/a", "b=c", (1, 1))
    assert request.headers == [("HOST", "h"), ("CONTENT-TYPE", "t")]
    assert request.environ() == {
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/a?b=c",
        "PATH_INFO": "/a",
        "QUERY_STRING": "b=c",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "HTTP_HOST": "h",
        "CONTENT_TYPE": "t",
    }
    assert RequestView("GET", b"/", "2", [], None).environ()["SERVER_PROTOCOL"] == "HTTP/2.0"
    assert (ResponseView(404).status, ResponseView(799).status, ResponseView().status) == ("404 Not Found", "799", "")


def test_a_logger_that_fails_fails_no_request():
    class Broken:
        failed = 0

        def access(self, *_):
            raise RuntimeError

        def exception(self, *_):
            self.failed += 1

    class Facts:
        method, target, http_version, client, status = "GET", b"/", "1.1", None, 200
        request_headers = response_headers = ()
        body_bytes, started = 0, 0.0

    log = Broken()
    access = LoggerAccess(log)
    access.log(Facts(), 1.0)
    assert (access.enabled, access.failures, log.failed) == (True, 1, 1)


def test_names():
    assert dir(palfrey.workers) == ["PalfreyH11Worker", "PalfreyWorker"]
    assert issubclass(palfrey.workers.PalfreyH11Worker, palfrey.workers.PalfreyWorker)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        palfrey.workers.nothing  # noqa: B018


def test_importing_the_package_is_cheap_and_needs_no_gunicorn():
    check = (
        "import sys; sys.modules['gunicorn'] = None; import palfrey.workers, palfrey.workers.worker;"
        "assert 'palfrey.workers.gunicorn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
    check = (
        "import sys, palfrey.workers; assert not {'asyncio', 'gunicorn', 'uvloop', 'httptools'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_what_the_arbiter_imports_is_no_server():
    check = (
        "import sys; from palfrey.workers import PalfreyWorker;"
        "assert not {'uvloop', 'httptools', 'palfrey.workers.serving', 'palfrey.asgi'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
