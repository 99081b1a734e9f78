"""The command line: both servers' flags, values left as text, help in groups."""

from __future__ import annotations

import shlex

import click
import pytest

from palfrey.config import commandline
from palfrey.config.foreign import FOREIGN
from palfrey.config.parsers import Shape
from palfrey.config.settings import GROUPS, HOOKS, ROWS

MODES = {"check_config": False, "print_config": False}


def parse(text: str) -> dict[str, object] | None:
    found = commandline.parse(shlex.split(text))
    assert found is not None
    assert {name: found.pop(name) for name in MODES} == MODES
    return found


def test_nothing_given_is_nothing() -> None:
    assert parse("") == {}


def test_uvicorns_command_line() -> None:
    assert parse(
        "main:app --host 0.0.0.0 --port 8000 --workers 4 --log-level info --proxy-headers --root-path /api "
        "--limit-concurrency 100 --timeout-keep-alive 5 --header X-A:b --no-server-header --no-date-header "
        "--app-dir src --factory"
    ) == {
        "app": "main:app",
        "host": "0.0.0.0",
        "port": "8000",
        "workers": "4",
        "log_level": "info",
        "proxy_headers": True,
        "root_path": "/api",
        "limit_concurrency": "100",
        "timeout_keep_alive": "5",
        "headers": ("X-A:b",),
        "server_header": False,
        "date_header": False,
        "app_dir": "src",
        "factory": True,
    }


def test_granians_command_line_of_http2() -> None:
    assert parse(
        "--http 2 --http2-max-concurrent-streams 200 --http2-initial-stream-window-size 1048576 "
        "--http2-initial-connection-window-size 2097152 --http2-max-frame-size 32768 --http2-max-headers-size 65536 "
        "--http2-adaptive-window main:app"
    ) == {
        "app": "main:app",
        "http": "2",
        "http2_max_concurrent_streams": "200",
        "http2_initial_window_size": "1048576",
        "http2_initial_connection_window_size": "2097152",
        "http2_max_frame_size": "32768",
        "http2_max_headers_size": "65536",
        "http2_adaptive_window": True,
    }


def test_what_would_turn_http2_on_elsewhere_is_told_how_it_is_here() -> None:
    with pytest.raises(click.UsageError, match="--http2: http = h2 serves HTTP/2"):
        parse("--http2 main:app")
    with pytest.raises(click.UsageError, match=r"--http2-cleartext: .* by prior knowledge, and Upgrade: h2c never"):
        parse("--http2-cleartext=both main:app")


def test_gunicorns_command_line() -> None:
    assert parse(
        "-w 4 -b 127.0.0.1:80 -b unix:/run/x -t 60 -k uvicorn.workers.UvicornWorker -n site -p site.pid -D -u www "
        "-g www -m 022 -e A=1 -e B=2 --chdir /srv --keep-alive 2 --access-logfile - --error-logfile e "
        "--access-logformat '%(h)s' --certfile c --keyfile k --preload --threads 2 --no-sendfile -c conf.py main:app"
    ) == {
        "app": "main:app",
        "workers": "4",
        "bind": ("127.0.0.1:80", "unix:/run/x"),
        "timeout": "60",
        "worker_class": "uvicorn.workers.UvicornWorker",
        "proc_name": "site",
        "pidfile": "site.pid",
        "daemon": True,
        "user": "www",
        "group": "www",
        "umask": "022",
        "raw_env": ("A=1", "B=2"),
        "chdir": "/srv",
        "timeout_keep_alive": "2",
        "accesslog": "-",
        "errorlog": "e",
        "access_log_format": "%(h)s",
        "ssl_certfile": "c",
        "ssl_keyfile": "k",
        "preload_app": True,
        "threads": "2",
        "sendfile": True,
        "config": "conf.py",
    }


@pytest.mark.parametrize("row", [row for row in ROWS.values() if row.flags], ids=lambda row: row.name)
def test_every_flag_of_the_table_sets_its_row(row: commandline.Row) -> None:
    for flag in (*row.flags, *row.also):
        if row.parser.shape is Shape.SWITCH:
            assert parse(flag) == {row.name: True}
            if flag.startswith("--"):
                assert parse(f"--no-{flag[2:]}") == {row.name: False}
        else:
            value = ("x",) if row.parser.shape is Shape.LIST else "x"
            assert parse(f"{flag} x") == {row.name: value}


def test_every_foreign_flag_is_accepted() -> None:
    for foreign in FOREIGN.values():
        for flag in foreign.flags:
            assert parse(flag if foreign.switch else f"{flag} x") == {foreign.name: True if foreign.switch else "x"}


@pytest.mark.parametrize(
    ("text", "meant"),
    [("--wrokers 3", "--workers"), ("--no-acess-log", "--no-access-log"), ("--certfiel x", "--ssl-certfile")],
)
def test_an_unknown_option_suggests_one_that_does_something(text: str, meant: str) -> None:
    with pytest.raises(click.NoSuchOption) as raised:
        parse(text)
    assert raised.value.exit_code == 2
    assert meant in raised.value.format_message()


def test_what_palfrey_cannot_do_is_refused_and_says_why() -> None:
    with pytest.raises(click.UsageError) as raised:
        parse("main:app --proxy-protocol")
    assert raised.value.exit_code == 2
    assert raised.value.format_message() == f"--proxy-protocol: {FOREIGN['proxy_protocol'].reason}."


def test_help_shows_each_setting_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert commandline.parse(["--help"]) is None
    shown = capsys.readouterr().out
    places = [shown.index(f"\n{group}:\n") for group in (*GROUPS[:-1], commandline.OWN)]
    assert GROUPS[-1] == HOOKS
    assert places == sorted(places)
    for row in ROWS.values():
        assert all(flag in shown for flag in row.flags)
    for flag in ("--check-config", "--print-config", "--version", "WEB_CONCURRENCY", "PALFREY_LOG_LEVEL"):
        assert flag in shown
    assert "--spew" not in shown
    assert "`" not in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert commandline.parse(["main:app", "--version"]) is None
    assert capsys.readouterr().out.startswith("palfrey ")
