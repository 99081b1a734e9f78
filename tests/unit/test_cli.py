"""The palfrey command: what it prints, what it exits with, and what it starts."""

from __future__ import annotations

import dataclasses
import datetime
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
import trustme

from palfrey import cli
from palfrey.config.settings import ROWS
from palfrey.config.sources import Resolved
from palfrey.errors import BindError, BootError
from palfrey.system.invocation import Invocation

Shell = Callable[..., subprocess.CompletedProcess[str]]


class FakeArbiter:
    """Stands in for palfrey.arbiter: keeps what it was made with, and ends as a test wants it to."""

    made: ClassVar[list[FakeArbiter]] = []
    outcome: ClassVar[int | BaseException] = 0

    def __init__(self, load: Callable[[], Resolved], resolved: Resolved, invocation: Invocation) -> None:
        self.load = load
        self.resolved = resolved
        self.made.append(self)

    def run(self) -> int:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def arbiter(monkeypatch: pytest.MonkeyPatch) -> type[FakeArbiter]:
    module = ModuleType("palfrey.arbiter")
    module.Arbiter = FakeArbiter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "palfrey.arbiter", module)
    monkeypatch.setattr(FakeArbiter, "made", [])
    monkeypatch.setattr(FakeArbiter, "outcome", 0)
    return FakeArbiter


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to start in, and no variables that are settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PWD", str(tmp_path))
    for row in ROWS.values():
        for variable in row.env:
            monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.fixture
def shell(place: Path) -> Shell:
    """Runs the command as a process of its own."""

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "palfrey", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **environ}, timeout=60
        )

    return run


# To the arbiter -----------------------------------------------------------------------------------------------------


def test_it_starts_the_arbiter_with_settings_and_a_way_to_load_them_again(
    arbiter: type[FakeArbiter], place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "palfrey.conf.py").write_text("workers = 2\n")
    assert cli.run(["main:app", "--timeout", "7"]) == 0
    (made,) = arbiter.made
    settings = made.resolved.settings
    assert (settings.app, settings.timeout, settings.workers) == ("main:app", 7.0, 2)
    (place / "palfrey.conf.py").write_text("workers = 3\n")
    os.chdir("/")
    assert made.load().settings == dataclasses.replace(settings, workers=3)
    assert capfd.readouterr() == ("", "")


def test_a_config_file_is_named_with_c(arbiter: type[FakeArbiter], place: Path) -> None:
    (place / "conf").mkdir()
    (place / "conf/site.py").write_text("app = 'site:app'\n")
    assert cli.run(["-c", "conf/site.py"]) == 0
    assert arbiter.made[0].resolved.settings.app == "site:app"


def test_notices_are_told_line_by_line(
    arbiter: type[FakeArbiter], place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "palfrey.conf.py").write_text("worker = 2\nreuse_port = True\n")
    assert cli.run(["main:app"]) == 0
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "palfrey: warning: palfrey.conf.py, line 1: worker is not a setting: did you mean workers?"
    assert lines[1].startswith("palfrey: warning: palfrey.conf.py, line 2: reuse_port has no effect: ")
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("outcome", "status", "err"),
    [
        (4, 4, ""),
        (BindError("127.0.0.1:80 is in use"), 1, "palfrey: 127.0.0.1:80 is in use\n"),
        (BootError("no such module", "Traceback\n  theirs\n"), 3, "palfrey: no such module\nTraceback\n  theirs\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_how_it_ends(
    arbiter: type[FakeArbiter],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    outcome: int | BaseException,
    status: int,
    err: str,
) -> None:
    monkeypatch.setattr(arbiter, "outcome", outcome)
    assert cli.run(["main:app"]) == status
    assert capfd.readouterr() == ("", err)


def test_main_exits_with_the_status(arbiter: type[FakeArbiter], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arbiter, "outcome", 5)
    with pytest.raises(SystemExit) as raised:
        cli.main(["main:app"])
    assert raised.value.code == 5


# Users' mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        ([], 2, "palfrey: no application: name one, as in `palfrey main:app`, or set app in palfrey.conf.py"),
        (
            ["main:app", "--workers", "0"],
            1,
            "palfrey: workers = 0 (command line, --workers): must be from 1 to 512, or auto",
        ),
        (["main:app", "-c", "no.py"], 1, "palfrey: configuration file no.py: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line(capfd: pytest.CaptureFixture[str], arguments: list[str], status: int, line: str) -> None:
    assert cli.run(arguments) == status
    assert capfd.readouterr() == ("", line + "\n")


@pytest.mark.parametrize("arguments", [["--wrokers", "2"], ["main:app", "other:app"], ["--workers"]])
def test_a_wrong_command_line_is_a_usage_error(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert cli.run(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "Error: " in err
    assert "Traceback" not in err


def test_a_mistake_in_the_file_shows_no_traceback(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "palfrey.conf.py").write_text("import os\nworkers = os.cpus\n")
    assert cli.run(["main:app"]) == 1
    assert capfd.readouterr().err == (
        "palfrey: palfrey.conf.py, line 2: AttributeError: module 'os' has no attribute 'cpus'\n"
    )


# --help, --version, --print-config ----------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--help", "-h", "--version"])
def test_help_and_version_need_nothing(place: Path, capfd: pytest.CaptureFixture[str], flag: str) -> None:
    (place / "palfrey.conf.py").write_text("1 / 0\n")
    assert cli.run([flag]) == 0
    out, err = capfd.readouterr()
    assert "palfrey" in out
    assert err == ""


def test_print_config_needs_no_application(
    arbiter: type[FakeArbiter], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    assert cli.run(["--print-config", "--port", "81"]) == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert ["workers", "=", "3", "#", "environment,", "WEB_CONCURRENCY"] in lines
    assert ["port", "=", "81", "#", "command", "line,", "--port"] in lines
    assert arbiter.made == []


def test_print_config_survives_a_reader_that_leaves(place: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "palfrey", "--print-config"]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


# --check-config -----------------------------------------------------------------------------------------------------

APP = "async def app(scope, receive, send): ...\n"


def test_check_config_says_ok(shell: Shell, place: Path) -> None:
    (place / "main.py").write_text(APP)
    (place / "palfrey.conf.py").write_text("app = 'main:app'\nbind = ['[::1]:0', 'unix:x.sock']\n")
    done = shell("--check-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"palfrey: OK: {place}/palfrey.conf.py is valid, main:app can be imported\n"


def test_check_config_imports_as_a_worker_would(shell: Shell, place: Path) -> None:
    (place / "site/src").mkdir(parents=True)
    (place / "site/src/main.py").write_text(
        "import os\n"
        "assert os.environ['MODE'] == 'test' and os.environ['PALFREY_WORKER'] == '1', os.environ\n"
        "assert os.path.basename(os.getcwd()) == 'site'\n"
        "def make():\n    async def app(scope, receive, send): ...\n    return app\n"
    )
    done = shell("main:make", "--factory", "--chdir", "site", "--app-dir", "src", "-e", "MODE=test", "--check-config")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("source", "app", "reason"),
    [
        (APP, "mian:app", "mian"),
        (APP, "main:application", "application"),
        ("import no_such_module_here\n" + APP, "main:app", "no_such_module_here"),
        ("raise SystemExit(0)\n", "main:app", "main"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", "main:app", "ended with SIGKILL"),
    ],
)
def test_check_config_says_why_the_application_cannot_be_imported(
    shell: Shell, place: Path, source: str, app: str, reason: str
) -> None:
    (place / "main.py").write_text(source)
    done = shell(app, "--check-config")
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith("palfrey: ")
    assert reason in done.stderr
    assert "palfrey/cli.py" not in done.stderr


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("worker = 2", "palfrey: palfrey.conf.py, line 1: worker is not a setting: did you mean workers?\n"),
        ("bind = '127.0.0.1:x'", "palfrey: bind = 127.0.0.1:x (palfrey.conf.py, line 1): "),
        ("workers = -1", "palfrey: workers = -1 (palfrey.conf.py, line 1): must be from 1 to 512, or auto\n"),
    ],
)
def test_check_config_refuses_what_a_start_would_only_warn_about(
    shell: Shell, place: Path, file: str, message: str
) -> None:
    (place / "main.py").write_text(APP)
    (place / "palfrey.conf.py").write_text(file)
    done = shell("main:app", "--check-config")
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stdout == ""


def test_check_config_makes_what_tls_needs(shell: Shell, place: Path) -> None:
    (place / "main.py").write_text(APP)
    past = datetime.datetime(2020, 3, 4, 5, 6, tzinfo=datetime.UTC)
    leaf, other = (trustme.CA().issue_cert("app.test", not_after=past) for _ in range(2))
    leaf.cert_chain_pems[0].write_to_path(place / "cert.pem")
    leaf.private_key_pem.write_to_path(place / "key.pem")
    other.private_key_pem.write_to_path(place / "other.pem")
    tls = ("main:app", "--check-config", "--ssl-certfile", "cert.pem", "--ssl-keyfile")
    done = shell(*tls, "other.pem")
    assert done.returncode == 1
    assert done.stderr.startswith(f"palfrey: ssl_keyfile {place}/other.pem does not belong to the first certificate")
    done = shell(*tls, "key.pem")
    assert done.returncode == 0
    assert done.stderr.startswith(f"palfrey: warning: ssl_certfile {place}/cert.pem expired on 2020-03-04 05:06 UTC")


def test_check_config_needs_an_application(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--check-config"]) == 2
    assert "no application" in capfd.readouterr().err


# What the arbiter grows from ----------------------------------------------------------------------------------------


def test_the_command_loads_no_event_loop() -> None:
    code = "import sys, palfrey.cli; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "palfrey.cli" in modules
    assert not {"asyncio", "uvloop", "ssl", "palfrey.asgi", "palfrey.protocols", "palfrey.workers"} & set(modules)


def test_resolving_loads_no_event_loop_either(place: Path) -> None:
    (place / ".env").write_text("A=1\n")
    (place / "palfrey.conf.py").write_text("env_file = '.env'\nworker_class = 'asgi'\ndef on_exit(server): ...\n")
    code = "import sys, palfrey.cli as c; s = c.run(['--print-config']); print(*sys.modules); sys.exit(s)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "dotenv" in modules
    assert not {"asyncio", "uvloop"} & set(modules)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("option", ["--help", "--version", "--print-config"])
def test_output_that_cannot_be_written_is_one_line(option: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "palfrey", option], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "palfrey: cannot write to the standard output: No space left on device\n"
