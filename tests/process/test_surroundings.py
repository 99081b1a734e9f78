"""The service among others: hooks, systemd, pid file and background, and what a worker inherits."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from tests.process.conftest import Start
from tests.support.processes import Server

HOOKS = """
import os
def tell(*facts):
    os.write(2, (" ".join(map(str, ("hook", *facts))) + "\\n").encode())
def on_starting(server): tell("on_starting", server.pid, server.num_workers)
def on_reload(server): tell("on_reload", server.pid)
def when_ready(server): tell("when_ready", server.address[0].startswith("http://127.0.0.1:"))
def pre_fork(server, worker): tell("pre_fork", worker.age, worker.pid)
def post_fork(server, worker): tell("post_fork", worker.age, worker.pid, worker.ppid)
def child_exit(server, worker): tell("child_exit", worker.age, worker.pid)
def nworkers_changed(server, new, old): tell("nworkers_changed", new, old)
def on_exit(server): tell("on_exit", server.pid)
"""


def test_hooks_are_called_in_their_moments(start: Start, site: Path) -> None:
    (site / "palfrey.conf.py").write_text(HOOKS)
    server = start()
    server.wait_for(f"hook on_starting {server.pid} 1")
    server.wait_for("hook pre_fork 1 None")
    worker = server.wait_for(rf"hook post_fork 1 (\d+) {server.pid}")[1]
    server.wait_for("hook when_ready True")
    server.signal(signal.SIGTTIN)
    server.wait_for_each("hook nworkers_changed 2 1", "hook post_fork 2")
    server.signal(signal.SIGHUP)
    server.wait_for(f"hook on_reload {server.pid}")
    server.wait_for(f"hook child_exit 1 {worker}")
    server.wait_for_ready(2, generation=2)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert server.output.count("hook nworkers_changed 1 None") == 1
    assert server.output.count("hook when_ready") == 1
    assert server.lines[-1] == f"hook on_exit {server.pid}"


def test_hooks_that_raise_are_named_and_nothing_else(start: Start, site: Path) -> None:
    names = ("on_starting", "when_ready", "pre_fork", "post_fork", "child_exit", "nworkers_changed", "on_exit")
    (site / "palfrey.conf.py").write_text("".join(f"def {name}(*_): raise OSError('oh')\n" for name in names))
    server = start()
    server.wait_for_ready(1)
    server.get()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    for name in names:
        assert f"the hook {name} raised OSError" in server.output


def test_the_service_manager_is_told(start: Start, site: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(site / "notify"))
        manager.settimeout(30)

        def told(state: str) -> str:
            while True:
                message = manager.recv(4096).decode()
                if state in message.split("\n"):
                    return message

        server = start(env={"NOTIFY_SOCKET": str(site / "notify")})
        assert "serves with 1 of 1 worker" in told("READY=1")
        server.signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in told("RELOADING=1")
        told("READY=1")
        (site / "main.py").write_text("import nothing_of_this_name\n")
        server.signal(signal.SIGHUP)
        told("RELOADING=1")
        assert "refused" in told("READY=1")
        server.signal(signal.SIGTERM)
        told("STOPPING=1")


def test_systemds_socket_is_served_where_no_address_was_asked_for(site: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        # The descriptors start at 3 and are meant for one pid: this brings both about and becomes the server.
        script = (
            "import os, sys\n"
            f"os.dup2({listener.fileno()}, 3)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
            "os.execv(sys.executable, [sys.executable, '-m', 'palfrey', *sys.argv[1:]])\n"
        )
        command = (sys.executable, "-c", script)
        with Server("main:app", cwd=site, command=command, pass_fds=(listener.fileno(),)) as server:
            server.wait_for_ready(1)
            assert server.port == port
            assert server.get()[1] == "1"
            before = server.workers()
            server.signal(signal.SIGHUP)
            server.wait_for_ends(before)
            assert server.get()[1] == "2"


def test_in_the_background(site: Path) -> None:
    log, pidfile = site / "error.log", site / "palfrey.pid"
    with Server(
        *(
            "main:app",
            "--port",
            "0",
            "--daemon",
            "--pid",
            str(pidfile),
            "--error-logfile",
            str(log),
            "--access-logfile",
            "off",
        ),
        cwd=site,
    ) as command:
        assert command.wait() == 0, "it returns when the daemon serves"
    daemon = psutil.Process(int(pidfile.read_text()))
    try:
        port = int(log.read_text().split("http://127.0.0.1:")[1].split()[0])
        assert command.get(port=port)[1] == "1"
        workers = daemon.children()
    finally:
        daemon.terminate()
        daemon.wait(30)
    psutil.wait_procs(workers, 30)
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    assert not pidfile.exists()


def test_a_daemon_lets_go_of_the_terminal_or_pipe_that_it_was_started_from(site: Path) -> None:
    pidfile = site / "palfrey.pid"
    with Server("main:app", "--port", "0", "--daemon", "--pid", str(pidfile), cwd=site) as command:
        assert command.wait() == 0, "its output has ended, too"
        command.wait_for("is lost: name a file with errorlog")
    daemon = psutil.Process(int(pidfile.read_text()))
    workers = daemon.children()
    daemon.terminate()
    daemon.wait(30)
    psutil.wait_procs(workers, 30)


def test_ctrl_c_ends_the_command_that_waits_and_not_the_daemon(site: Path) -> None:
    os.mkfifo(site / "gate")
    (site / "gated.py").write_text("open('gate').read()\nfrom main import app\n")
    pidfile, log = site / "palfrey.pid", site / "error.log"
    arguments = ("gated:app", "--port", "0", "--daemon", "--pid", str(pidfile), "--error-logfile", str(log))
    with Server(*arguments, cwd=site) as command:
        with open(site / "gate", "w"):  # returns when the worker has come to its import
            command.signal(signal.SIGINT)
            assert command.wait() == 1
        command.wait_for("the server goes on starting in the background")
    daemon = psutil.Process(int(pidfile.read_text()))
    workers = daemon.children()
    daemon.terminate()
    daemon.wait(30)
    psutil.wait_procs(workers, 30)
    assert "Stopping" in log.read_text()


def test_a_daemon_that_cannot_start_says_why_where_it_was_called(site: Path) -> None:
    arguments = (
        "mian:app",
        "--port",
        "0",
        "--daemon",
        "--pid",
        str(site / "pid"),
        "--error-logfile",
        str(site / "log"),
    )
    with Server(*arguments, cwd=site) as command:
        assert command.wait() == 3
        assert "mian" in command.output
    assert not (site / "pid").exists()


def test_titles_and_the_pid_file(serve: Start, site: Path) -> None:
    server = serve("--pid", "palfrey.pid", "--name", "shop", workers=1)
    assert (site / "palfrey.pid").read_text() == f"{server.pid}\n"
    assert " ".join(psutil.Process(server.pid).cmdline()).strip() == "palfrey: master [shop]"
    (worker,) = server.workers()
    assert " ".join(psutil.Process(worker).cmdline()).strip() == "palfrey: worker 1 [shop]"
    server.signal(signal.SIGTERM)
    server.wait()
    assert not (site / "palfrey.pid").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_holds_nothing_of_the_arbiters(serve: Start) -> None:
    server = serve(workers=3)
    before = server.workers()
    server.signal(signal.SIGHUP)  # the last worker was forked while all of the former ones lived
    server.wait_for_ready(3, generation=2)
    _wait_until_gone(before)
    arbiter = _sockets(server.pid)
    workers = [_sockets(pid) for pid in server.workers()]
    listener = arbiter.intersection(*workers)
    assert len(listener) == 1, "what all have is the listener"
    for mine in workers:
        others = set().union(*(other for other in workers if other is not mine))
        assert mine & arbiter == listener
        assert mine & others == listener
    for pid in server.workers():
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        assert int(status["SigBlk"], 16) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_arbiter_keeps_no_descriptor_of_the_dead(serve: Start, site: Path) -> None:
    server = serve(workers=2)
    before = len(os.listdir(f"/proc/{server.pid}/fd"))
    for generation in (2, 3):
        old = server.workers()
        server.signal(signal.SIGHUP)
        server.wait_for_ready(2, generation=generation)
        _wait_until_gone(old)
    for victim in server.workers():
        os.kill(victim, signal.SIGKILL)
        server.wait_for(rf"\({victim}\) was killed")
        server.wait_for("is ready")
    (site / "main.py").write_text("import nothing_of_this_name\n")
    server.signal(signal.SIGUSR2)
    server.wait_for("Upgrade failed")
    assert len(os.listdir(f"/proc/{server.pid}/fd")) == before


def _wait_until_gone(pids: list[int]) -> None:
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], 30)
    assert alive == []


def _sockets(pid: int) -> set[str]:
    """The sockets that a process holds, by inode."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def test_configuration_is_exported_to_workers_only(start: Start, site: Path) -> None:
    tell = "os.write(2, f'{0}: {{os.environ.get(\"COLOUR\")}}\\n'.encode())"
    (site / "palfrey.conf.py").write_text(
        f"import os\nraw_env = ['COLOUR=blue']\ndef child_exit(server, worker): {tell.format('arbiter')}\n"
    )
    (site / "main.py").write_text((site / "main.py").read_text() + f"\n{tell.format('worker')}\n")
    server = start()
    server.wait_for("worker: blue")
    server.wait_for_ready(1)
    server.signal(signal.SIGTERM)
    server.wait_for("arbiter: None")
    assert server.wait() == 0


def test_as_many_workers_as_there_are_cpus(start: Start) -> None:
    server = start(env={"WEB_CONCURRENCY": "auto"})
    count = int(server.wait_for(r"starting (\d+) workers? \(auto: \d+ CPUs?.*\) of main:app")[1])
    server.wait_for_ready(count)
    assert len(server.workers()) == count
    assert count <= (os.cpu_count() or 1)
    server.signal(signal.SIGTTIN)
    server.wait_for(rf"Workers: {count + 1}, before {count}")
    server.signal(signal.SIGHUP)
    server.wait_for_ready(count + 1, generation=2)
