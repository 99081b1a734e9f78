"""Precedence and provenance: which source wins, what is said about it, and what a source may hold."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palfrey.config.settings import BIND_GROUP, NEEDS, ROWS, Settings
from palfrey.config.sources import Kind, Resolved, from_arguments, resolve
from palfrey.errors import ConfigError, UsageError

Try = Callable[..., Resolved]


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def try_(tmp_path: Path) -> Try:
    """resolve() in a directory of its own, with the text of a configuration file if there is to be one."""

    def run(
        file: str | None = None, environ: Mapping[str, str] | None = None, need_app: bool = False, **line: object
    ) -> Resolved:
        if file is not None:
            (tmp_path / "palfrey.conf.py").write_text(textwrap.dedent(file), encoding="utf-8")
        return resolve(line, environ or {}, str(tmp_path), need_app=need_app)

    return run


def messages(resolved: Resolved) -> list[str]:
    return [notice.message for notice in resolved.notices]


# Precedence ---------------------------------------------------------------------------------------------------------


def test_defaults(try_: Try) -> None:
    resolved = try_()
    assert resolved.settings == Settings()
    assert {str(origin) for origin in resolved.origins.values()} == {"default"}
    assert list(resolved.origins) == list(ROWS)
    assert (resolved.notices, resolved.environment, resolved.config_file) == ((), {}, None)


def test_each_source_beats_the_one_below_and_says_so(try_: Try, tmp_path: Path) -> None:
    file, environ = "workers = 2\ntimeout = 2", {"WEB_CONCURRENCY": "3"}
    resolved = try_(file)
    assert resolved.settings.workers == 2
    assert str(resolved.origins["workers"]) == "palfrey.conf.py, line 1"
    assert resolved.config_file == str(tmp_path / "palfrey.conf.py")
    resolved = try_(file, environ)
    assert (resolved.settings.workers, str(resolved.origins["workers"])) == (3, "environment, WEB_CONCURRENCY")
    resolved = try_(file, environ | {"PALFREY_WORKERS": "4"})
    assert (resolved.settings.workers, str(resolved.origins["workers"])) == (4, "environment, PALFREY_WORKERS")
    resolved = try_(file, environ, workers="5")
    assert (resolved.settings.workers, str(resolved.origins["workers"])) == (5, "command line, --workers")
    assert resolved.settings.timeout == 2.0


VALUES: dict[str, tuple[Any, ...]] = {
    "bind": (("127.0.0.1:1",), ("127.0.0.1:2", "127.0.0.1:3")),
    "host": ("10.0.0.1", "::1"),
    "port": (81, 82),
    "uds": ("/run/a", "/run/b"),
    "fd": (5, 6),
    "workers": (2, 3),
    "log_level": ("debug", "error"),
}
PAIRS = [("bind",), ("host",), ("port",), ("host", "port"), ("uds",), ("fd",), ()]


@st.composite
def layers(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What a file, an environment and a command line set: each an allowed choice of addresses, and others."""
    found = []
    for _ in range(3):
        names = [*draw(st.sampled_from(PAIRS)), *draw(st.sets(st.sampled_from(["workers", "log_level"])))]
        found.append({name: draw(st.sampled_from(VALUES[name])) for name in names})
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=layers())
def test_the_highest_source_wins_and_addresses_win_whole(try_: Try, chosen: list[dict[str, Any]]) -> None:
    file, environment, line = chosen
    resolved = try_(
        "\n".join(f"{name} = {value!r}" for name, value in file.items()),
        {f"PALFREY_{name.upper()}": text(value) for name, value in environment.items()},
        **{name: list(value) if isinstance(value, tuple) else str(value) for name, value in line.items()},
    )
    expected: dict[str, Any] = {}
    for layer in chosen:
        if layer.keys() & set(BIND_GROUP):
            expected = {name: value for name, value in expected.items() if name not in BIND_GROUP}
        expected |= layer
    assert resolved.settings == Settings(**expected)
    kinds = (Kind.FILE, Kind.ENVIRONMENT, Kind.COMMAND_LINE)
    for name in VALUES:
        source = max((kind for kind, layer in zip(kinds, chosen, strict=True) if name in layer), default=Kind.DEFAULT)
        assert resolved.origins[name].kind == (source if name in expected else Kind.DEFAULT)


def text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def test_none_and_empty_variables_say_nothing(try_: Try) -> None:
    resolved = try_("workers = None\nuds = None\nport = 81\nbind = None", {"PALFREY_PORT": "", "PALFREY_HOST": ""})
    assert (resolved.settings.workers, resolved.settings.port) == (1, 81)


# Addresses ----------------------------------------------------------------------------------------------------------


def test_port_alone_means_every_address(try_: Try) -> None:
    resolved = try_("bind = '127.0.0.1:1'", {"PORT": "5000"})
    assert resolved.settings.binds() == ("0.0.0.0:5000",)
    assert str(resolved.origins["host"]) == "environment, PORT"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PALFREY_HOST": "::1"}, "[::1]:5000"),
        ({"PALFREY_PORT": "81"}, "127.0.0.1:81"),
        ({"PALFREY_BIND": "unix:/run/a"}, "unix:/run/a"),
        ({"PALFREY_UDS": "/run/a"}, "unix:/run/a"),
        ({"PALFREY_FD": "3"}, "fd://3"),
    ],
)
def test_variables_of_palfreys_own_are_more_particular_than_port(
    try_: Try, environ: dict[str, str], expected: str
) -> None:
    assert try_(None, environ | {"PORT": "5000"}).settings.binds() == (expected,)


def test_port_yields_to_the_command_line_whole(try_: Try) -> None:
    assert try_(None, {"PORT": "5000"}, host="10.0.0.1").settings.binds() == ("10.0.0.1:8000",)


@pytest.mark.parametrize("other", ["host", "port", "uds", "fd"])
def test_one_source_must_not_leave_a_choice(try_: Try, other: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{other} = .* \(command line, --{other}\): cannot be combined with bind"):
        try_(None, bind=["a:1"], **{other: "7"})


# The environment ----------------------------------------------------------------------------------------------------


def test_an_unknown_variable_is_told_with_the_one_that_was_meant(try_: Try) -> None:
    resolved = try_(None, {"PALFREY_WORKRES": "2", "PALFREY_COLOUR": "red", "OTHER": "x"})
    assert messages(resolved) == [
        "environment: PALFREY_COLOUR has no effect: it is not a setting",
        "environment: PALFREY_WORKRES is not a setting: did you mean PALFREY_WORKERS?",
    ]
    assert [notice.mistake for notice in resolved.notices] == [False, True]


def test_reserved_variables_and_service_links_are_not_settings(try_: Try) -> None:
    resolved = try_(
        None,
        {
            "PALFREY_GENERATION": "1",
            "PALFREY_WORKER": "1",
            "PALFREY_VENV": "x",
            # A Kubernetes service named palfrey:
            "PALFREY_PORT": "tcp://10.0.0.1:80",
            "PALFREY_SERVICE_HOST": "10.0.0.1",
            "PALFREY_SERVICE_PORT": "80",
            "PALFREY_SERVICE_PORT_HTTP": "80",
            "PALFREY_PORT_80_TCP": "tcp://10.0.0.1:80",
            "PALFREY_PORT_80_TCP_ADDR": "10.0.0.1",
        },
    )
    assert resolved.settings == Settings()
    assert resolved.notices == ()


def test_every_plain_setting_is_read_from_its_variable(try_: Try, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    samples = {"NUMBER": "2", "SECONDS": "2", "PORT": "81", "N": "2", "OCTAL": "22", "DIR": ".", "FILE": "file"}
    special = {"worker_class": "asgi", "raw_env": "A=1", "headers": "X-A: 1", "user": str(os.geteuid())}
    special |= {"group": str(os.getegid()), "socket_owner": "0", "env_file": "file", "limit_request_line": "99"}
    special |= {"limit_request_field_size": "99", "limit_request_head": "999", "ssl_cert_reqs": "1"}
    special |= {"forwarded_allow_ips": "*", "forwarded_fields": "forwarded", "request_id": "x-id"}
    special |= {"ws_deflate_window_bits": "9", "http2_initial_window_size": "99999"}
    special |= {"http2_initial_connection_window_size": "99999", "http2_max_frame_size": "99999"}
    for row in ROWS.values():
        if not row.env or row.name.startswith("ssl_"):
            continue
        value = special.get(row.name) or (row.choices[-1] if row.choices else samples.get(row.metavar, "1"))
        needed = dict([NEEDS[row.group]]) if row.group in NEEDS else {}
        resolved = try_(None, {row.env[0]: value}, **needed)
        assert str(resolved.origins[row.name]) == f"environment, {row.env[0]}"
        assert resolved.notices == () or row.name == "worker_class"


def test_the_file_can_be_named_by_a_variable(try_: Try, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("workers = 7")
    assert try_("workers = 2", {"PALFREY_CONFIG": "other.py"}).settings.workers == 7
    assert try_("workers = 2", {"PALFREY_CONFIG": "other.py"}, config="palfrey.conf.py").settings.workers == 2


# Dotenv files -------------------------------------------------------------------------------------------------------


def test_a_dotenv_file_is_environment_below_the_real_one(try_: Try, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PALFREY_WORKERS=3\nPALFREY_TIMEOUT=9\nDEBUG=1\nHOME=/nowhere\nBARE\n")
    before = dict(os.environ)
    resolved = try_("workers = 2", {"PALFREY_TIMEOUT": "7", "HOME": "/root"}, env_file=".env")
    assert (resolved.settings.workers, resolved.settings.timeout) == (3, 7.0)
    assert str(resolved.origins["workers"]) == ".env, PALFREY_WORKERS"
    assert resolved.environment == {"PALFREY_WORKERS": "3", "DEBUG": "1"}
    assert dict(os.environ) == before


def test_a_dotenv_file_can_be_named_in_the_file_and_lies_where_the_server_works(try_: Try, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/site.env").write_text("WEB_CONCURRENCY=4\n")
    resolved = try_("chdir = 'work'\nenv_file = 'site.env'")
    assert resolved.settings.workers == 4
    assert resolved.settings.env_file == str(tmp_path / "work/site.env")


def test_raw_env_wins_over_the_dotenv_file(try_: Try, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nB=1\n")
    assert try_("raw_env = ['A=2', 'URL=x=y']", env_file=".env").environment == {"A": "2", "B": "1", "URL": "x=y"}


def test_a_dotenv_file_that_cannot_be_read(try_: Try, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^env_file = no\.env \(command line, --env-file\): .*No such file"):
        try_(env_file="no.env")
    (tmp_path / "bad.env").write_bytes(b"A=\xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        try_(env_file="bad.env")
    monkeypatch.setitem(sys.modules, "dotenv", None)
    with pytest.raises(ConfigError, match=r"pip install 'palfrey\[dotenv\]'"):
        try_(env_file="bad.env")


# Values -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("\n\nworkers = 0", {}, "workers = 0 (palfrey.conf.py, line 3): must be from 1 to 512, or auto"),
        ("keepalive = 'x'", {}, "keepalive = 'x' (palfrey.conf.py, line 1): must be a number of seconds"),
        (None, {"workers": "0"}, "workers = 0 (command line, --workers): must be from 1 to 512, or auto"),
        (None, {"loop": "trio"}, "loop = trio (command line, --loop): must be auto, uvloop or asyncio"),
        ("worker_class = 'gevent'", {}, "worker_class = 'gevent' (palfrey.conf.py, line 1): Palfrey serves"),
        ("def pre_fork(server): ...", {}, "pre_fork = <function pre_fork at"),
        ("raw_env = ['SECRET']", {}, "raw_env = *** (palfrey.conf.py, line 1): must be NAME=VALUE"),
        ("bind = ['x' * 500, 3]", {}, "bind = ['xxxxxxxxxxxxxxx"),
    ],
)
def test_a_value_that_does_not_fit(try_: Try, file: str | None, line: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        try_(file, **line)
    assert str(raised.value).startswith(message)
    assert len(str(raised.value)) < 250
    assert "\n" not in str(raised.value)


def test_a_switch_is_named_as_it_was_written(try_: Try) -> None:
    resolved = try_(access_log=False, factory=True)
    assert str(resolved.origins["access_log"]) == "command line, --no-access-log"
    assert str(resolved.origins["factory"]) == "command line, --factory"


def test_paths_are_absolute_and_keep_their_symbolic_links(try_: Try, tmp_path: Path) -> None:
    for name in ("release", "release/src", "release/log"):
        (tmp_path / name).mkdir()
    (tmp_path / "current").symlink_to("release")
    resolved = try_("chdir = 'current'\napp_dir = 'src'\nerrorlog = 'log/e'\naccesslog = '-'\npidfile = '/tmp/x.pid'")
    values = resolved.settings
    assert (values.chdir, values.app_dir) == (str(tmp_path / "current"), str(tmp_path / "current/src"))
    assert (values.errorlog, values.accesslog) == (str(tmp_path / "current/log/e"), "-")
    assert values.pidfile == "/tmp/x.pid"


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("accesslog = None", {}, (False, None)),
        ("accesslog = None", {"access_log": True}, (True, "-")),
        ("accesslog = None\naccess_log = True", {}, (False, None)),
        ("accesslog = '-'", {}, (True, "-")),
        ("accesslog = '-'", {"access_log": False}, (False, "-")),
        ("accesslog = None", {"accesslog": "-"}, (True, "-")),
    ],
)
def test_accesslog_none_turns_the_access_log_off(
    try_: Try, file: str, line: dict[str, object], expected: tuple[bool, str | None]
) -> None:
    resolved = try_(file, **line)
    assert (resolved.settings.access_log, resolved.settings.accesslog) == expected


def test_names_without_effect_are_told_once_each(try_: Try) -> None:
    resolved = try_("worker_class = 'asgi'\nreuse_port = True", initgroups="true")
    assert [message.partition(":")[0] for message in messages(resolved)] == [
        "--initgroups has no effect",
        "palfrey.conf.py, line 2",
        "palfrey.conf.py, line 1",
    ]


def test_an_application_is_needed(try_: Try) -> None:
    with pytest.raises(UsageError, match="no application: name one, as in `palfrey main:app`"):
        try_(need_app=True)
    assert try_("app = 'main:app'", need_app=True).settings.app == "main:app"


def test_resolving_again_gives_the_same_and_sees_a_changed_file(try_: Try) -> None:
    first = try_("workers = 2\ndef on_exit(server): ...")
    again = try_()
    assert again.settings.on_exit is not first.settings.on_exit
    assert (again.settings.workers, again.origins, again.notices) == (2, first.origins, first.notices)
    assert try_("workers = 3").settings.workers == 3


EVERYDAY = """\
import multiprocessing

bind = "127.0.0.1:8000"
workers = multiprocessing.cpu_count() * 2 + 1
worker_class = "uvicorn.workers.UvicornWorker"
wsgi_app = "main:app"
worker_connections = 1000
timeout = 60
graceful_timeout = 30
keepalive = 5
max_requests = 1000
max_requests_jitter = 50
preload_app = True
proc_name = "site"
pidfile = "site.pid"
user = {user}
group = {group}
umask = 0o007
accesslog = "-"
errorlog = "-"
access_log_format = '%(h)s "%(r)s" %(s)s'
chdir = "."
raw_env = ["DJANGO_SETTINGS_MODULE=site.settings"]
forwarded_allow_ips = "*"
worker_tmp_dir = "/dev/shm"


def on_starting(server): ...
def on_reload(server): ...
def when_ready(server): ...
def pre_fork(server, worker): ...
def post_fork(server, worker): ...
def post_worker_init(worker): ...
def worker_int(worker): ...
def worker_abort(worker): ...
def pre_exec(server): ...
def child_exit(server, worker): ...
def worker_exit(server, worker): ...
def nworkers_changed(server, new_value, old_value): ...
def on_exit(server): ...
def ssl_context(config, default_ssl_context_factory): ...
"""


def test_an_everyday_gunicorn_file_runs_unchanged(try_: Try, tmp_path: Path) -> None:
    resolved = try_(EVERYDAY.format(user=os.geteuid(), group=os.getegid()), need_app=True)
    values = resolved.settings
    assert (values.app, values.timeout_keep_alive, values.umask) == ("main:app", 5.0, 0o7)
    assert (values.bind, values.worker_connections) == (("127.0.0.1:8000",), 1000)
    assert values.pidfile == str(tmp_path / "site.pid")
    assert resolved.environment == {"DJANGO_SETTINGS_MODULE": "site.settings"}
    assert [
        getattr(values, row.name) for row in ROWS.values() if row.group == "Hooks" and not getattr(values, row.name)
    ] == []
    assert sorted(message.split(" has no effect")[0].split(": ")[1] for message in messages(resolved)) == [
        "worker_class",
        "worker_tmp_dir",
    ]
    assert not any(notice.mistake for notice in resolved.notices)


# reload -------------------------------------------------------------------------------------------------------------


def test_reload_changes_defaults_but_not_what_was_set(try_: Try) -> None:
    settings = try_("graceful_timeout = 7", reload=True).settings
    assert (settings.timeout, settings.boot_timeout, settings.graceful_timeout) == (0.0, 0.0, 7.0)
    assert try_("reload = False").settings == Settings()


def test_reload_has_one_worker_and_says_so(try_: Try) -> None:
    resolved = try_("workers = 4", reload=True)
    assert resolved.settings.workers == 1
    assert messages(resolved) == [
        "workers = 4 (palfrey.conf.py, line 1): with reload one worker serves (SIGTTIN adds more)"
    ]
    assert messages(try_("workers = 1\npreload_app = False", reload=True)) == []
    resolved = try_("preload_app = True", reload=True)
    assert not resolved.settings.preload_app
    assert messages(resolved)[0].startswith(
        "preload_app = True (palfrey.conf.py, line 1): with reload the worker imports"
    )


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("daemon = True", "daemon = True .*: cannot be combined with reload, which is for a terminal"),
        ("reload_dirs = ['nowhere']", "reload_dirs = .*: there is no directory nowhere"),
        ("reload_engine = 'magic'", "reload_engine = 'magic' .*: must be auto, watchfiles or poll"),
    ],
)
def test_what_reload_cannot_do(try_: Try, file: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        try_(file, reload=True)


# Keyword arguments --------------------------------------------------------------------------------------------------


def test_keyword_arguments_by_any_name(tmp_path: Path) -> None:
    resolved = from_arguments(
        {"port": 81, "limit_max_requests": None, "keepalive": 2, "raw_env": ["A=1"]}, str(tmp_path)
    )
    assert resolved.settings == Settings(port=81, timeout_keep_alive=2.0, raw_env=("A=1",))
    assert resolved.environment == {"A": "1"}
    assert str(resolved.origins["port"]) == "argument"
    assert messages(from_arguments({"spew": True}, str(tmp_path)))[0].startswith("spew has no effect")


def test_keyword_arguments_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^worker is not a setting: did you mean workers\?$"):
        from_arguments({"worker": 1}, str(tmp_path))
    with pytest.raises(ConfigError, match=r"^port = '81x' \(argument\): must be a whole number"):
        from_arguments({"port": "81x"}, str(tmp_path))


# Settings that need another one ----------------------------------------------------------------------------------


def test_what_is_set_for_http2_without_http2(try_: Try, tmp_path: Path) -> None:
    file = """
    http2_max_resets = 50
    http2_max_frame_size = 16384  # the default
    h2_max_concurrent_streams = 50
    """
    assert messages(try_(file)) == [
        "http2_max_resets = 50 (palfrey.conf.py, line 2): has no effect without http = h2",
        "h2_max_concurrent_streams = 50 (palfrey.conf.py, line 4): has no effect without http = h2",
    ]
    assert not any(notice.mistake for notice in try_(file).notices)
    assert messages(try_(file + "http = 'h2'\n    ")) == []
    assert messages(try_("http2_max_resets = 50", {"PALFREY_HTTP": "h2"})) == []
    assert messages(try_("http = 'h2'", {"PALFREY_HTTP2_MAX_RESETS": "50", "PALFREY_HTTP": "auto"})) == [
        "http2_max_resets = 50 (environment, PALFREY_HTTP2_MAX_RESETS): has no effect without http = h2"
    ]
    assert messages(from_arguments({"http2_max_resets": 50, "http": "h11"}, str(tmp_path))) == [
        "http2_max_resets = 50 (argument): has no effect without http = h2"
    ]


# Files of other servers ---------------------------------------------------------------------------------------------


def test_gunicorns_file_that_turns_http2_on(try_: Try) -> None:
    file = """
    http_protocols = "h2,h1"
    http2_max_concurrent_streams = 250
    http2_initial_window_size = 65535
    http2_max_frame_size = 32768
    http2_max_header_list_size = 65536
    http2_cleartext = "off"
    """
    resolved = try_(file)
    assert resolved.settings == Settings(
        http="h2", http2_max_concurrent_streams=250, http2_initial_window_size=65535, http2_max_frame_size=32768
    )
    assert [message.partition(" has no effect")[0] for message in messages(resolved)] == [
        "palfrey.conf.py, line 6: http2_max_header_list_size",
        "palfrey.conf.py, line 7: http2_cleartext",
    ]


def test_hypercorns_names_of_http2(try_: Try) -> None:
    file = """
    http = "h2"
    alpn_protocols = ["h2", "http/1.1"]
    h2_max_concurrent_streams = 50
    h2_max_inbound_frame_size = 65536
    h2_max_header_list_size = 32768
    """
    resolved = try_(file)
    assert resolved.settings == Settings(http="h2", http2_max_concurrent_streams=50, http2_max_frame_size=65536)
    assert [message.partition(" has no effect")[0] for message in messages(resolved)] == [
        "palfrey.conf.py, line 3: alpn_protocols",
        "palfrey.conf.py, line 6: h2_max_header_list_size",
    ]


def test_the_parser_and_http2_are_one_setting(try_: Try) -> None:
    """Gunicorn has two: which of them is meant must not be a guess."""
    with pytest.raises(ConfigError, match="http_parser and http_protocols are the same setting; keep one of them"):
        try_('http_protocols = "h2,h1"\nhttp_parser = "fast"')
