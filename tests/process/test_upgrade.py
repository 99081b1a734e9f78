"""Binary upgrades with real processes: USR2, what follows when it goes well, and that nothing does when it does not."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.process.conftest import Start
from tests.process.test_no_request_lost import ANSWERS, check, loading, serving, wait_for_answers
from tests.support.processes import Server, finish, read_all
from tests.support.servicemanager import ServiceManager

ROOT = Path(__file__).parents[2]
QUICK = ("--timeout-keep-alive", "1")
MANUAL = (*QUICK, "--upgrade", "manual")
UNDER_LOAD = pytest.mark.xdist_group("load")


def begin_upgrade(server: Server) -> int:
    """Send USR2; the successor's pid."""
    server.signal(signal.SIGUSR2)
    return int(server.wait_for(r"Upgrading: process (\d+) executes")[1])


def upgrade(server: Server) -> int:
    """To its end: the successor has taken over and the predecessor is gone."""
    pid, before = begin_upgrade(server), server.pid
    server.wait_for(f"Process {pid} takes over")
    server.wait_for(f"Process {before} has left")
    server.follow(pid)
    return pid


def wait_until_gone(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(30)


# Without losing a request


@UNDER_LOAD
@pytest.mark.timeout(240)
def test_upgrades_in_a_row_under_load_lose_nothing(start: Callable[..., Server]) -> None:
    server = serving(start)
    with loading(server) as load:
        wait_for_answers(load, server, 1)
        for generation in range(2, 6):
            upgrade(server)
            wait_for_answers(load, server, generation)
        result = load.stop()
    check(result, server)
    assert set(result.generations) == {"1", "2", "3", "4", "5"}
    assert "Cut short" not in server.output


@UNDER_LOAD
@pytest.mark.timeout(240)
def test_a_service_that_is_taken_back_under_load_loses_nothing(start: Callable[..., Server]) -> None:
    """The successor is killed once it has taken over, while the old workers still drain."""
    server = serving(start)
    with loading(server) as load:
        wait_for_answers(load, server, 1)
        for turn in range(1, 4):
            successor = begin_upgrade(server)
            server.wait_for(f"Process {successor} takes over")
            os.kill(successor, signal.SIGKILL)
            server.wait_for(f"Process {successor} has ended, and was not told to; this one serves on")
            wait_for_answers(load, server, 1, (turn + 1) * 4 * ANSWERS)
        result = load.stop()
    check(result, server)
    assert "Cut short" not in server.output


@UNDER_LOAD
@pytest.mark.timeout(240)
def test_killed_arbiters_under_load_lose_nothing_either(start: Callable[..., Server]) -> None:
    """Of two that serve, whichever is killed: its workers finish what they have begun, the other one serves on."""
    server = serving(start, "--upgrade", "manual")
    with loading(server) as load:
        wait_for_answers(load, server, 1)
        successor = both(server)
        wait_for_answers(load, server, 2)
        os.kill(successor, signal.SIGKILL)
        server.wait_for(f"Process {successor} has ended, and was not told to; this one serves on")
        wait_for_answers(load, server, 1, 4 * ANSWERS)
        successor = both(server)
        server.signal(signal.SIGKILL)
        server.wait_for(rf"Process {server.pid} has gone without handing over; this one is the service now")
        server.follow(successor)
        wait_for_answers(load, server, 2, 8 * ANSWERS)
        result = load.stop()
    check(result, server)
    assert "Cut short" not in server.output


def test_the_old_workers_finish_what_they_have_begun(serve: Start) -> None:
    server = serve(*QUICK)
    with server.request_in_flight() as client:
        successor, before = begin_upgrade(server), server.pid
        server.wait_for(f"Process {successor} takes over")
        while server.get()[1] != "2":  # until the old workers have been told, they accept as well
            pass
        assert finish(client).startswith(b"HTTP/1.1 200")
    server.wait_for(f"Process {before} has left")
    server.follow(successor)
    assert server.get()[1] == "2"


def test_a_second_one_waits_until_the_first_is_over(serve: Start) -> None:
    server = serve(*QUICK)
    with server.request_in_flight() as client:
        first, before = begin_upgrade(server), server.pid
        server.wait_for(f"Process {first} takes over")
        os.kill(first, signal.SIGUSR2)
        server.wait_for(rf"Upgrading \(SIGUSR2\), once process {before} has left")
        assert finish(client).startswith(b"HTTP/1.1 200")
    second = int(server.wait_for(r"Process (\d+) takes over")[1])
    server.wait_for(f"Process {first} has left")
    server.follow(second)
    assert server.get()[1] == "3"


def test_the_number_of_workers_that_the_operator_has_set_stays(serve: Start) -> None:
    server = serve(*QUICK, workers=1)
    server.signal(signal.SIGTTIN)
    server.wait_for(r"Worker 2 \(\d+\) is ready")
    upgrade(server)
    assert len(server.workers()) == 2


def test_a_unix_socket_keeps_its_file_and_its_place(start: Start, site: Path) -> None:
    path = site / "palfrey.sock"
    server = start("--uds", "palfrey.sock", *QUICK, port="")
    server.wait_for_ready(1)
    inode = path.stat().st_ino
    upgrade(server)
    assert path.stat().st_ino == inode
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 200")
    server.signal(signal.SIGTERM)
    server.wait()
    assert not path.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="preloading is Linux's")
def test_with_a_mold(serve: Start, site: Path) -> None:
    # A mold is no worker, and the application there is many of them.
    (site / "main.py").write_text((site / "main.py").read_text().replace("environ['PALFREY_WORKER']", "name"))
    server = serve(*QUICK, "--preload")
    upgrade(server)
    assert server.get()[1] == "2"
    server.signal(signal.SIGHUP)
    server.wait_for_ready(2, generation=3)


def test_changed_binds_are_opened_and_closed(start: Start, site: Path) -> None:
    config = site / "palfrey.conf.py"
    config.write_text("bind = ['unix:one.sock', '127.0.0.1:0']\n")
    server = start(*QUICK, port="")
    server.wait_for_ready(1)
    port = server.port
    config.write_text("bind = ['unix:two.sock', '127.0.0.1:0']\n")
    upgrade(server)
    assert server.get(port=port)[1] == "2", "the port that was any is the same"
    assert not (site / "one.sock").exists()
    assert (site / "two.sock").exists()


# What is executed


def release(place: Path, version: str) -> Path:
    """An environment with a Palfrey of that version and an application that tells it."""
    environment = place / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (package := place / "package").mkdir()
    shutil.copytree(ROOT / "palfrey", package / "palfrey", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "palfrey" / "version.py").write_text(f'__version__ = "{version}"\n')
    python = environment / "bin" / "python"
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "palfrey.pth").write_text(f"{package}\n{sysconfig.get_path('purelib')}\n")
    script = environment / "bin" / "palfrey"
    script.write_text(f"#!{python}\nimport sys\nfrom palfrey.cli import main\nif __name__ == '__main__':\n    main()\n")
    script.chmod(0o755)
    (place / "main.py").write_text(
        "import os\nfrom palfrey import __version__\n"
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    body = f'{os.getpid()} {__version__}'.encode()\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': body})\n"
    )
    return place


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("releases")
    for name in ("one", "two"):
        (place / name).mkdir()
        release(place / name, f"0.0.{name}")
    return place


@pytest.fixture
def current(releases: Path, tmp_path: Path) -> Path:
    link = tmp_path / "current"
    link.symlink_to(releases / "one")
    return link


def switch(link: Path, to: str) -> None:
    target = link.resolve().parent / to
    other = link.with_name("next")
    other.symlink_to(target)
    other.rename(link)


@pytest.mark.xdist_group("releases")
@pytest.mark.parametrize("how", ["module", "script", "script in PATH", "relative script", "module in PATH"])
def test_a_switched_symlink_brings_another_version(current: Path, how: str) -> None:
    command, path = {
        "module": ((str(current / "venv/bin/python"), "-m", "palfrey"), ""),
        "script": ((str(current / "venv/bin/palfrey"),), ""),
        "relative script": (("venv/bin/palfrey",), ""),
        "script in PATH": (("palfrey",), str(current / "venv/bin")),
        "module in PATH": (("python", "-m", "palfrey"), str(current / "venv/bin")),
    }[how]
    # As a shell would: PATH is looked up where the command starts, and is what it inherits.
    env = {"PYTHONPATH": "", "PWD": str(current), "PATH": f"{path}:{os.environ['PATH']}".lstrip(":")}
    if path:
        command = ("/bin/sh", "-c", 'exec "$@"', "sh", *command)
    with Server("main:app", "--port", "0", *QUICK, cwd=current, env=env, command=command) as server:
        server.wait_for_ready(1)
        assert server.get()[1] == "0.0.one"
        switch(current, "two")
        before, successor = server.pid, begin_upgrade(server)
        server.wait_for(rf"Process {successor} is ready, Palfrey 0.0.two \(this is 0.0.one\)")
        server.wait_for(f"Process {before} has left")
        server.follow(successor)
        assert server.get()[1] == "0.0.two"


def test_a_program_of_the_users(site: Path) -> None:
    (site / "serve.py").write_text(
        "import palfrey\nif __name__ == '__main__':\n    palfrey.run('main:app', port=0, timeout_keep_alive=1)\n"
    )
    with Server("serve.py", cwd=site, command=(sys.executable,)) as server:
        server.wait_for_ready(1)
        upgrade(server)
        assert server.get()[1] == "2"
        (site / "serve.py").write_text("import palfrey\npalfrey.run('main:app', port='many')\n")
        before = server.pid
        server.signal(signal.SIGUSR2)
        server.wait_for("Upgrade failed: ")
        server.wait_for("port")
        assert server.pid == before


def test_the_environment_is_the_first_ones(start: Start, site: Path) -> None:
    (site / "palfrey.conf.py").write_text(
        "import os\nos.environ['SEEN'] = os.environ.get('SEEN', '') + 'x'\nraw_env = ['COLOUR=blue']\numask = 0o27\n"
        "def pre_exec(server):\n    os.write(2, f'pre_exec {server.pid}\\n'.encode())\n"
    )
    (site / "main.py").write_text(
        (site / "main.py").read_text()
        + "\nprevious = os.umask(0)\nos.umask(previous)\n"
        + "ME += f\" {os.environ['SEEN']} {os.environ.get('PALFREY_INHERIT')} {previous:o}\"\n"
    )
    server = start(*QUICK)
    server.wait_for_ready(1)
    before = server.pid
    upgrade(server)
    assert server.get()[4:] == ["x", "None", "27"]
    assert server.output.count(f"pre_exec {before}") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("mode", [(), ("--preload",)], ids=["plain", "preload"])
def test_the_successor_is_not_its_predecessors_child(serve: Start, site: Path, mode: tuple[str, ...]) -> None:
    """At the hand-over systemd has to be its parent. With a mold, the predecessor adopts orphans; not this one."""
    (site / "main.py").write_text((site / "main.py").read_text().replace("environ['PALFREY_WORKER']", "name"))
    server = serve(*MANUAL, *mode)
    successor = both(server)
    assert psutil.Process(successor).ppid() != server.pid
    for pid in server.workers()[-1:]:
        os.kill(pid, signal.SIGKILL)  # and workers are its children as before
    server.wait_for_each(r"was killed by SIGKILL", r"is ready, generation 1")
    os.kill(successor, signal.SIGQUIT)
    server.wait_for(f"Process {successor} has ended, as it was told to")


def test_the_successor_has_nothing_of_its_predecessor(serve: Start) -> None:
    server = serve(*QUICK)
    before = _open_files(server.pid)
    upgrade(server)
    server.get()
    assert len(_open_files(server.pid)) == len(before)
    listeners = set(_open_files(server.pid)).intersection(*(_open_files(pid) for pid in server.workers()))
    assert len([name for name in listeners if name.startswith("socket:")]) == 1


def _open_files(pid: int) -> list[str]:
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


# systemd


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
@pytest.mark.parametrize("manner", ["auto", "manual"])
def test_under_systemd(site: Path, manner: str) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        systemd = stack.enter_context(ServiceManager(site, watchdog=2.0, sockets=[("web", listener)]))
        server = stack.enter_context(
            Server(
                *("main:app", "--bind", "systemd:web", "--upgrade", manner, *QUICK),
                cwd=site,
                env=systemd.environment,
                command=systemd.command,
                pass_fds=systemd.fds,
            )
        )
        systemd.wait_for_state("active")
        before, successor = server.pid, begin_upgrade(server)
        assert systemd.main_pid == before
        if manner == "manual":
            server.wait_for("Both serve now")
            server.signal(signal.SIGWINCH)
            server.wait_for("retires")
            systemd.wait_for("WATCHDOG=1")
            assert systemd.main_pid == before
            server.signal(signal.SIGQUIT)
        systemd.wait_for(f"MAINPID={successor}")
        assert systemd.main_pid == successor
        server.wait_for(f"Process {before} has left")
        server.follow(successor)
        systemd.wait_for("READY=1")
        systemd.wait_for("WATCHDOG=1")
        assert server.get()[1] == "2"
        assert not any("STOPPING" in message.values for message in systemd.messages)
        systemd.stop()
        systemd.wait_for_state("deactivating")
        server.wait()
        assert systemd.ignored == [], "only one of them speaks at a time, and it is the one that is heard"


# A successor that fails


def fails(server: Server, reason: str) -> None:
    """It did, the reason was said, and the old one serves on."""
    server.wait_for(f"Upgrade failed: .*{reason}")
    server.wait_for(rf"This process \({server.pid}\) serves on as before")
    assert server.get()[1] == "1"
    assert psutil.Process(server.pid).children() == [psutil.Process(pid) for pid in server.workers()]


def test_an_application_that_cannot_be_loaded(serve: Start, site: Path) -> None:
    server = serve(*QUICK, "--pid", "palfrey.pid")
    (site / "main.py").write_text("import nothing_of_this_name\n")
    begin_upgrade(server)
    fails(server, "nothing_of_this_name")
    assert "import nothing_of_this_name" in server.output
    assert (site / "palfrey.pid").read_text() == f"{server.pid}\n"
    assert not (site / "palfrey.pid.2").exists()


def test_a_setting_that_does_not_fit(serve: Start, site: Path) -> None:
    server = serve(*QUICK)
    (site / "palfrey.conf.py").write_text("backlog = 'many'\n")
    begin_upgrade(server)
    fails(server, "backlog")


def test_an_address_in_use_and_a_socket_file_that_stays(start: Start, site: Path) -> None:
    config = site / "palfrey.conf.py"
    config.write_text("bind = ['unix:one.sock', '127.0.0.1:0']\n")
    server = start(*QUICK, port="")
    server.wait_for_ready(1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        config.write_text(f"bind = ['unix:one.sock', '127.0.0.1:{other.getsockname()[1]}']\n")
        begin_upgrade(server)
        fails(server, "another")
    assert (site / "one.sock").exists()


def test_a_command_that_is_no_longer_there_or_broken(site: Path) -> None:
    python = site / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    link = site / "palfrey"
    link.write_text(f"#!{sys.executable}\nfrom palfrey.cli import main\nmain()\n")
    link.chmod(0o755)
    with Server("main:app", "--port", "0", *QUICK, cwd=site, command=(str(link),)) as server:
        server.wait_for_ready(1)
        link.rename(site / "gone")
        begin_upgrade(server)
        fails(server, f"cannot execute {link}: No such file")
        link.write_text("#!/bin/sh\necho the disk is full >&2\nexit 9\n")
        link.chmod(0o755)
        begin_upgrade(server)
        server.wait_for(r"Upgrade failed: process \d+ ended before it was ready")
        server.wait_for("the disk is full")
        (site / "gone").rename(link)
        upgrade(server)
        assert server.get()[1] == "2"


def gate(site: Path) -> Path:
    """An application whose import waits, the second time, until the gate is opened for writing."""
    os.mkfifo(site / "gate")
    (site / "main.py").write_text(
        (site / "main.py").read_text() + "\nif os.environ['PALFREY_GENERATION'] != '1':\n"
        "    say('at the gate')\n    exec(open('gate').read())\n"
    )
    return site / "gate"


def let_go(way: Path) -> None:
    """Of a worker whose arbiter was killed: where it was not killed with that, it sees it now and goes."""
    with contextlib.suppress(OSError):  # nobody is there
        os.close(os.open(way, os.O_WRONLY | os.O_NONBLOCK))


def test_a_successor_that_is_killed_before_it_is_ready(serve: Start, site: Path) -> None:
    server = serve(*QUICK, workers=1)
    way = gate(site)
    successor = begin_upgrade(server)
    server.wait_for("at the gate")
    os.kill(successor, signal.SIGKILL)
    server.wait_for(rf"Upgrade failed: process {successor} ended before it was ready")
    assert server.get()[1] == "1"
    let_go(way)


@pytest.mark.parametrize("how", ["killed", "broken"])
def test_recycling_waits_for_an_upgrade_and_goes_on_when_it_has_failed(serve: Start, site: Path, how: str) -> None:
    server = serve(*QUICK, "--max-requests", "4", workers=1)
    app = (site / "main.py").read_text()
    way = gate(site)
    (worker,) = server.workers()
    successor = begin_upgrade(server)
    server.wait_for("at the gate")
    for _ in range(6):
        assert int(server.get()[0]) == worker
    server.wait_for("asks to be replaced")
    server.signal(signal.SIGWINCH)  # means nothing, and shows that the loop has turned
    server.signal(signal.SIGHUP)
    server.wait_for("Not reloaded: an upgrade is under way")
    assert server.workers() == [worker]
    if how == "broken":
        (site / "main.py").write_text(app)
        way.write_text("raise OSError('no database')")
        server.wait_for("Upgrade failed: .*no database")
        server.wait_for("Workers that serve are not replaced until a reload succeeds: .*max_requests")
        assert int(server.get()[0]) == worker
        server.signal(signal.SIGHUP)
        server.wait_for("Generation 2 is fit to serve")
    else:
        os.kill(successor, signal.SIGKILL)
        (site / "main.py").write_text(app)
        server.wait_for(rf"Upgrade failed: process {successor} ended before it was ready")
    server.wait_for(rf"Worker 1 \({worker}\) has its successor: retires")
    server.wait_for_ends([worker])
    assert int(server.get()[0]) != worker
    assert not server.has_said("is filled again")
    if how == "killed":
        let_go(way)


PICKY = """
import asyncio, os, pathlib

class App:
    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            if os.environ["PALFREY_WORKER"] == "2" and pathlib.Path("no-database").exists():
                while not pathlib.Path("go").exists():
                    await asyncio.sleep(0.01)
                await send({"type": "lifespan.startup.failed", "message": "no database"})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok " + os.environ["PALFREY_GENERATION"].encode()})

app = App()
"""


def short(serve: Start, site: Path) -> tuple[Server, int]:
    """A server and its successor, of which one of two workers cannot start."""
    (site / "main.py").write_text(PICKY)
    server = serve(*QUICK)
    (site / "no-database").touch()
    successor = begin_upgrade(server)
    server.wait_for(r"Worker 1 \(\d+\) is ready, generation 2")
    (site / "go").touch()
    server.wait_for("Generation 2 serves with 1 of 2 workers: worker 2: .*no database")
    server.wait_for(f"Process {server.pid} serves on until all workers of this one are ready")
    return server, successor


def test_a_successor_that_is_short_of_a_worker_is_waited_for(serve: Start, site: Path) -> None:
    server, successor = short(serve, site)
    assert len(server.workers()) == 2
    (site / "no-database").unlink()
    server.wait_for(f"Process {successor} takes over")
    server.wait_for(f"Process {server.pid} has left")
    server.follow(successor)
    assert server.get()[1] == "2"


def test_a_predecessor_that_is_killed_leaves_the_service_to_one_that_is_short(serve: Start, site: Path) -> None:
    server, successor = short(serve, site)
    server.signal(signal.SIGKILL)
    server.wait_for(f"Process {server.pid} has gone without handing over; this one is the service now")
    server.follow(successor)
    server.signal(signal.SIGUSR2)
    server.wait_for(r"Upgrading: process \d+ executes")  # which is refused to one that has not come to serve


def test_a_predecessor_that_is_killed_meanwhile(serve: Start, site: Path) -> None:
    server = serve(*QUICK, "--pid", "palfrey.pid", workers=1)
    way = gate(site)
    successor = begin_upgrade(server)
    server.wait_for("at the gate")
    server.signal(signal.SIGKILL)
    server.wait_for(f"Process {server.pid} has gone without handing over; this one is the service now")
    server.follow(successor)
    way.write_text("open")
    server.wait_for_ready(1, generation=2)
    assert server.get()[1] == "2"
    assert (site / "palfrey.pid").read_text() == f"{successor}\n"
    assert not (site / "palfrey.pid.2").exists()


def test_a_successor_that_is_killed_while_we_are_set_aside(serve: Start) -> None:
    server = serve(*MANUAL)
    old = server.workers()
    successor = both(server)
    server.signal(signal.SIGWINCH)
    server.wait_for_ends(old)
    os.kill(successor, signal.SIGKILL)
    server.wait_for(f"Process {successor} has ended, and was not told to; this one serves on")
    assert server.get()[1] in {"1", "2"}
    server.wait_for(r"Worker \d \(\d+\) is ready, generation 1")


def test_a_successor_that_does_not_become_ready(serve: Start, site: Path) -> None:
    (site / "palfrey.conf.py").write_text(
        "from palfrey.master import upgrade\nupgrade.START_MARGIN = -58.0\n"  # of boot_timeout's 60
    )
    server = serve(*QUICK)
    (site / "palfrey.conf.py").write_text("import time\ntime.sleep(600)\n")
    successor = begin_upgrade(server)
    fails(server, "was not ready within")
    wait_until_gone(successor)


def test_a_successor_that_is_killed_while_the_old_one_still_drains(serve: Start, site: Path) -> None:
    server = serve(*QUICK, "--pid", "palfrey.pid")
    with server.request_in_flight() as client:
        successor = begin_upgrade(server)
        server.wait_for(f"Process {successor} takes over")
        workers = psutil.Process(successor).children()
        os.kill(successor, signal.SIGKILL)
        server.wait_for(f"Process {successor} has ended, and was not told to; this one serves on")
        psutil.wait_procs(workers, 30)
        assert server.get()[1] == "1"
        assert finish(client).startswith(b"HTTP/1.1 200")
    assert (site / "palfrey.pid").read_text() == f"{server.pid}\n"
    upgrade(server)


# Orders meanwhile


def test_orders_while_the_successor_starts(serve: Start, site: Path) -> None:
    server = serve(*QUICK)
    way = gate(site)
    successor = begin_upgrade(server)
    server.wait_for("at the gate")
    server.signal(signal.SIGUSR2)
    server.wait_for(rf"SIGUSR2: an upgrade is under way already \(process {successor} has been starting")
    server.signal(signal.SIGHUP)
    server.wait_for("Not reloaded: an upgrade is under way")
    server.signal(signal.SIGWINCH)
    server.signal(signal.SIGTTIN)
    server.wait_for("Workers: 3, before 2")
    server.signal(signal.SIGTERM)
    server.wait_for("Stopping")
    server.wait_for(f"Process {successor} has ended")
    assert server.wait() == 0
    assert way.exists()


def test_a_stop_that_waits_for_its_drain_delay_gives_the_upgrade_up(serve: Start, site: Path) -> None:
    server = serve(*QUICK, "--drain-delay", "60", workers=1)
    way = gate(site)
    successor = begin_upgrade(server)
    server.wait_for("at the gate")
    server.signal(signal.SIGTERM)
    server.wait_for_each("Stopping .SIGTERM. in 60 s", f"Process {successor} has ended")
    assert server.get()[1] == "1"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not server.has_said("Upgrade failed")
    assert way.exists()


def test_an_upgrade_waits_for_the_reload_that_is_under_way(serve: Start, site: Path) -> None:
    server = serve(*QUICK, workers=1)
    way = gate(site)
    server.signal(signal.SIGHUP)
    server.wait_for("at the gate")
    server.signal(signal.SIGUSR2)
    server.wait_for("once the reload that is under way is decided")
    way.write_text("open")
    server.wait_for("Generation 2 is fit to serve")
    server.wait_for(r"Upgrading: process (\d+) executes")
    server.wait_for("at the gate")
    way.write_text("open")
    before, successor = server.pid, int(server.wait_for(r"Process (\d+) takes over")[1])
    server.wait_for(f"Process {before} has left")
    server.follow(successor)
    assert server.get()[1] == "3"


def test_a_stop_of_the_successor_ends_the_predecessor_too(serve: Start) -> None:
    server = serve(*QUICK)
    with server.request_in_flight() as client:
        successor, before = begin_upgrade(server), server.pid
        server.wait_for(f"Process {successor} takes over")
        server.follow(successor)
        server.signal(signal.SIGTERM)
        server.wait_for(f"Process {successor} was told to stop: this one ends as well")
        assert finish(client).startswith(b"HTTP/1.1 200")
    server.wait_for(f"Process {before} has left")
    assert server.wait() == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT])
def test_ctrl_c_while_the_successor_starts(serve: Start, site: Path, signum: int) -> None:
    server = serve(*QUICK)
    gate(site)
    begin_upgrade(server)
    server.wait_for("at the gate")
    server.signal(signum)
    assert server.wait() == 0


# By hand


def both(server: Server) -> int:
    successor = begin_upgrade(server)
    server.wait_for("Both serve now")
    return successor


def test_by_hand_as_with_gunicorn(serve: Start, site: Path) -> None:
    server = serve(*MANUAL, "--pid", "palfrey.pid")
    pid, beside = site / "palfrey.pid", site / "palfrey.pid.2"
    old = server.workers()
    successor = both(server)
    assert (pid.read_text(), beside.read_text()) == (f"{server.pid}\n", f"{successor}\n")
    server.signal(signal.SIGWINCH)
    server.wait_for_ends(old)
    assert {server.get()[1] for _ in range(5)} == {"2"}
    server.signal(signal.SIGHUP)
    server.wait_for("The workers come back")
    server.wait_for(r"Worker \d \(\d+\) is ready, generation 1")
    server.signal(signal.SIGWINCH)
    server.wait_for("retires")
    server.signal(signal.SIGQUIT)
    server.wait_for(f"SIGQUIT: this process ends; process {successor} is the service")
    before = server.pid
    server.wait_for(f"Process {before} has left")
    server.follow(successor)
    assert server.get()[1] == "2"
    assert pid.read_text() == f"{successor}\n"
    assert not beside.exists()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGQUIT])
@pytest.mark.parametrize("set_aside", [False, True])
def test_by_hand_and_undone(serve: Start, site: Path, signum: int, set_aside: bool) -> None:
    server = serve(*MANUAL, "--pid", "palfrey.pid")
    old = server.workers()
    successor = both(server)
    if set_aside:
        server.signal(signal.SIGWINCH)
        server.wait_for_ends(old)
    os.kill(successor, signum)
    server.wait_for(f"Process {successor} has ended, as it was told to; this one serves on")
    assert server.get()[1] == "1"
    assert (site / "palfrey.pid").read_text() == f"{server.pid}\n"
    assert not (site / "palfrey.pid.2").exists()
    server.signal(signal.SIGHUP)
    server.wait_for_ready(2, generation=2)


def test_by_hand_a_second_upgrade_waits_for_the_first_to_be_finished(serve: Start) -> None:
    server = serve(*MANUAL)
    successor = both(server)
    os.kill(successor, signal.SIGUSR2)
    server.wait_for(f"Upgrade refused: process {server.pid}, which started this one, is still there")
    server.signal(signal.SIGTERM)
    server.wait_for(f"Process {server.pid} has left")
    server.follow(successor)
    second = both(server)
    server.signal(signal.SIGTERM)
    server.wait_for(f"Process {successor} has left")
    server.follow(second)
    assert server.get()[1] == "3"


# Places


def test_process_1_refuses(site: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--pid", "--fork", "true"], check=False).returncode:
        pytest.skip("needs unshare(1) and the right to use it")
    command = (unshare, "--pid", "--fork", "--kill-child", sys.executable, "-m", "palfrey")
    with Server("main:app", "--port", "0", *QUICK, cwd=site, command=command) as server:
        server.wait_for_ready(1)
        (arbiter,) = psutil.Process(server.pid).children()
        arbiter.send_signal(signal.SIGUSR2)
        server.wait_for("Upgrade refused: this is process 1, and the container ends with it")
        server.get()
        arbiter.terminate()
        assert server.wait() == 0


@pytest.fixture
def daemons() -> Iterator[list[int]]:
    """Pids of daemons to be ended."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            workers = process.children()
            process.terminate()
            process.wait(30)
            psutil.wait_procs(workers, 30)


def test_in_the_background(site: Path, daemons: list[int]) -> None:
    pidfile, log = site / "palfrey.pid", site / "error.log"
    arguments: tuple[Any, ...] = ("--daemon", "--pid", str(pidfile), "--error-logfile", str(log), "--no-access-log")
    with Server("main:app", "--port", "0", *QUICK, *arguments, cwd=site) as command:
        assert command.wait() == 0
    before = int(pidfile.read_text())
    daemons.append(before)
    port = int(log.read_text().split("http://127.0.0.1:")[1].split()[0])
    os.kill(before, signal.SIGUSR2)
    wait_until_gone(before)
    successor = int(pidfile.read_text())
    daemons.append(successor)
    assert successor != before
    assert command.get(port=port)[1] == "2"
    assert not (site / "palfrey.pid.2").exists()
