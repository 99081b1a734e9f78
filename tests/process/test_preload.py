"""`preload_app` with real servers: who imports, who is whose child, and what becomes of molds and workers."""

from __future__ import annotations

import contextlib
import grp
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.process.conftest import Start
from tests.support.processes import APP, PATIENCE, Server, finish, outliving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers import by themselves there")

PRELOADED = (
    APP.replace("async def app(", "IMPORTED_BY = os.getpid()\nsay('imported')\n\n\nasync def app(", 1)
    .replace('ME = f"', 'AT_IMPORT = dict(os.environ)\nME = f"', 1)
    .replace("os.environ['PALFREY_WORKER']", "os.environ.get('PALFREY_WORKER')")
    .replace(
        "    body = ME.encode()\n",
        "    body = f\"{os.getpid()} {AT_IMPORT['PALFREY_GENERATION']} {os.environ['PALFREY_WORKER']} {RELEASE} \"\n"
        "    body = (body + f\"{IMPORTED_BY} {os.getppid()} {AT_IMPORT.get('PALFREY_WORKER')}\").encode()\n",
    )
)
"""It says at import who imports it, and answers with pid, generation, worker, release, importer, parent and "None"."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(PRELOADED)
    return tmp_path


def mold_of(server: Server, generation: int = 1) -> int:
    return int(server.wait_for(rf"Mold \((\d+)\) is ready, generation {generation}")[1])


@pytest.fixture
def preload(start: Start) -> Start:
    """A server whose generation 1 serves, and the pid of its mold in `server.mold`."""

    def begin(*arguments: str, workers: int = 2, **more: object) -> Server:
        server = start("--preload", "--workers", str(workers), *arguments, **more)
        server.mold = mold_of(server)  # type: ignore[attr-defined]
        server.wait_for_ready(workers)
        return server

    return begin


def workers(server: Server) -> list[int]:
    """Children but the molds."""
    return [pid for pid in server.workers() if "mold" not in " ".join(psutil.Process(pid).cmdline())]


def wait_for_end(pid: int) -> None:
    """Until it has ended and been reaped, which somebody else does."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(PATIENCE)


def change(site: Path, old: str = '"one"', new: str = '"two"') -> None:
    (site / "main.py").write_text((site / "main.py").read_text().replace(old, new))


def test_one_import_serves_all_workers_and_they_are_the_masters_children(preload: Start) -> None:
    server = preload(workers=3)
    seen = {}
    while len(seen) < 3:
        pid, generation, worker, release, importer, parent, at_import = server.get()
        seen[worker] = pid
        assert (generation, release, at_import) == ("1", "one", "None")
        assert importer == str(server.mold)  # type: ignore[attr-defined]
        assert parent == str(server.pid)
    assert set(seen) == {"1", "2", "3"}
    assert server.output.count("imported ") == 1
    assert sorted(map(int, seen.values())) == workers(server)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "ERROR" not in server.output


def test_memory_is_shared(preload: Start, site: Path) -> None:
    (site / "ballast.py").write_text("BALLAST = [str(number) * 4 for number in range(400_000)]\n")
    change(site, "import os, time\n", "import os, time\nimport ballast\n")
    server = preload(workers=2)
    for pid in workers(server):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines() if line.endswith("kB")}
        assert sizes["Rss"] > 40_000
        assert sizes["Private_Dirty"] < sizes["Rss"] / 2, rollup


def test_the_mold_holds_no_socket_but_its_own_with_the_master(preload: Start) -> None:
    server = preload(workers=2)
    server.signal(signal.SIGHUP)
    new = mold_of(server, 2)
    server.wait_for_ready(2, generation=2)
    links = [os.readlink(f"/proc/{new}/fd/{fd}") for fd in os.listdir(f"/proc/{new}/fd")]
    assert sum(link.startswith("socket:") for link in links) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may switch")
def test_the_import_has_no_more_rights_than_a_worker(preload: Start, site: Path) -> None:
    """The group alone: a user who is somebody else could not read this directory."""
    change(site, "say('imported')\n", "say(f'imported as {os.getuid()} {os.getgid()}')\n")
    other = next(group.gr_gid for group in grp.getgrall() if group.gr_gid not in (os.getgid(), 0))
    server = preload("--group", str(other), workers=1)
    assert f"imported as 0 {other} " in server.output
    assert psutil.Process(int(server.get()[0])).gids().real == other
    assert psutil.Process(server.pid).gids().real == os.getgid()


class TestReload:
    def test_new_code_comes_with_a_new_mold_and_the_old_one_goes(self, preload: Start, site: Path) -> None:
        server = preload()
        before = server.workers()
        change(site)
        server.signal(signal.SIGHUP)
        new = mold_of(server, 2)
        server.wait_for("Mold .* is needed no longer")
        server.wait_for_ready(2, generation=2)
        server.wait_for_ends([pid for pid in before if pid != server.mold])  # type: ignore[attr-defined]
        _, generation, _, release, importer, *_ = server.get()
        assert (generation, release, importer) == ("2", "two", str(new))
        server.signal(signal.SIGTERM)
        server.wait()
        assert "ERROR" not in server.output

    def test_after_a_refused_one_a_killed_worker_comes_back_with_the_old_code(self, preload: Start, site: Path) -> None:
        server = preload(workers=1)
        old = int(server.get()[0])
        change(site, 'RELEASE = "one"', 'RELEASE = "two"\nraise LookupError("no such table")')
        server.signal(signal.SIGHUP)
        server.wait_for("Reload refused: importing 'main' failed: LookupError: no such table")
        server.wait_for("Generation 1 serves on")
        os.kill(old, signal.SIGKILL)
        server.wait_for(r"Worker 1 \(\d+\) was killed by SIGKILL")
        server.wait_for(r"Worker 1 \(\d+\) is ready, generation 1")
        pid, generation, _, release, importer, *_ = server.get()
        assert int(pid) != old
        assert (generation, release) == ("1", "one")
        assert importer == str(server.mold)  # type: ignore[attr-defined]
        (site / "main.py").write_text(PRELOADED.replace('"one"', '"three"'))
        server.signal(signal.SIGHUP)
        server.wait_for_ready(1, generation=3)
        server.wait_for_ends([int(pid)])
        assert server.get()[3] == "three"

    def test_a_lifespan_that_fails_is_refused_and_its_mold_goes(self, preload: Start, site: Path) -> None:
        server = preload(workers=1)
        told = "message['type'] + '.failed', 'message': 'no database'"
        change(site, 'message["type"] + ".complete"', told)
        server.signal(signal.SIGHUP)
        new = mold_of(server, 2)
        server.wait_for("Reload refused: .*no database")
        server.wait_for(rf"Mold \({new}\) is needed no longer")
        assert server.get()[3] == "one"
        wait_for_end(new)

    def test_a_request_in_flight_is_finished_by_the_old_worker(self, preload: Start) -> None:
        server = preload("--timeout-keep-alive", "1", workers=1)
        with server.request_in_flight() as client:
            server.signal(signal.SIGHUP)
            server.wait_for_ready(1, generation=2)
            answer = finish(client)
        assert b" 1 1 one " in answer

    def test_preloading_is_switched_on_and_off_by_it(self, start: Start, site: Path) -> None:
        config = site / "palfrey.conf.py"
        config.write_text("preload_app = False\n")
        server = start()
        server.wait_for_ready(1)
        config.write_text("preload_app = True\n")
        server.signal(signal.SIGHUP)
        mold_of(server, 2)
        first = workers(server)
        server.wait_for_ready(1, generation=2)
        server.wait_for_ends(first[:1])
        old = int(server.get()[0])
        config.write_text("preload_app = False\n")
        server.signal(signal.SIGHUP)
        server.wait_for("Mold .* is needed no longer")
        server.wait_for_ready(1, generation=3)
        server.wait_for_ends([old])
        pid, _, _, _, importer, *_ = server.get()
        assert pid == importer

    def test_a_closed_address_is_closed(self, start: Start, site: Path) -> None:
        """The mold holds no copy of a listener that would keep its queue alive."""
        config = site / "palfrey.conf.py"
        config.write_text("preload_app = True\nbind = '127.0.0.1:0'\ntimeout_keep_alive = 1\n")
        server = start(port="")
        server.wait_for_ready(1)
        port, before = server.port, workers(server)
        config.write_text("preload_app = True\nbind = 'unix:new.sock'\n")
        server.signal(signal.SIGHUP)
        server.wait_for_ready(1, generation=2)
        server.wait_for_ends(before)
        with pytest.raises(ConnectionRefusedError):
            server.get(port=port)


class TestDeath:
    def test_a_killed_mold_is_made_anew_and_nobody_who_serves_notices(self, preload: Start) -> None:
        server = preload(workers=2)
        before = workers(server)
        os.kill(server.mold, signal.SIGKILL)  # type: ignore[attr-defined]
        server.wait_for(
            r"Mold \(\d+\) was killed by SIGKILL; it is made anew at once, from what lies on disk; its workers"
        )
        new = mold_of(server)
        assert workers(server) == before
        os.kill(before[0], signal.SIGKILL)
        server.wait_for(r"Worker \d \(\d+\) is ready")
        importers = {server.get()[4] for _ in range(20)}
        assert importers <= {str(new), str(server.mold)}  # type: ignore[attr-defined]

    def test_one_that_cannot_be_made_anew_backs_off_and_is_told_of(self, preload: Start, site: Path) -> None:
        server = preload(workers=1)
        (site / "main.py").write_text("raise LookupError('half a deployment')\n")
        os.kill(server.mold, signal.SIGKILL)  # type: ignore[attr-defined]
        server.wait_for("Mold .*importing 'main' failed: LookupError: half a deployment")
        assert server.get()[3] == "one"
        (site / "main.py").write_text(PRELOADED)
        mold_of(server)

    def test_a_killed_worker_is_replaced(self, preload: Start) -> None:
        server = preload(workers=1)
        old = int(server.get()[0])
        os.kill(old, signal.SIGKILL)
        server.wait_for(r"Worker 1 \(\d+\) is ready")
        assert int(server.get()[0]) != old
        assert server.output.count("imported ") == 1

    def test_when_the_master_is_killed_nobody_is_left(self, preload: Start) -> None:
        server = preload(workers=2)
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        assert outliving(server.pid) == []

    def test_when_the_master_is_killed_an_import_that_hangs_ends(self, start: Start, site: Path) -> None:
        (site / "main.py").write_text("import os, time\nos.write(2, b'importing\\n')\ntime.sleep(600)\n")
        server = start("--preload")
        server.wait_for("importing")
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL

    def test_orphans_of_the_application_are_reaped(self, preload: Start, site: Path) -> None:
        """The master adopts them along with its workers."""
        change(
            site,
            '    if path == "/block":\n',
            '    if path == "/orphan":\n'
            "        import subprocess\n"
            "        subprocess.run(['sh', '-c', 'sleep 0.2 & echo orphan $! >&2'], check=True)\n"
            '    if path == "/block":\n',
        )
        server = preload(workers=1)
        server.get("/orphan")
        orphan = int(server.wait_for(r"orphan (\d+)")[1])
        wait_for_end(orphan)


HOOKS = """\
import os

def say(name, *words):
    os.write(2, f"hook {name} {os.getpid()} {' '.join(map(str, words))}\\n".encode())

def pre_fork(server, worker):
    say("pre_fork", worker.pid, os.getppid(), worker.age)

def post_fork(server, worker):
    say("post_fork", worker.pid, os.getppid(), worker.age)

def post_worker_init(worker):
    say("post_worker_init")

def child_exit(server, worker):
    say("child_exit", worker.pid, os.getppid(), worker.age)
"""


class TestStart:
    def test_an_import_error_ends_it_with_the_users_traceback(self, start: Start, site: Path) -> None:
        (site / "main.py").write_text("def connect():\n    raise LookupError('no settings')\n\nconnect()\n")
        server = start("--preload")
        assert server.wait() == 3
        assert "Cannot serve: importing 'main' failed: LookupError: no settings" in server.output
        assert "in connect" in server.output
        assert "palfrey/" not in server.output
        assert server.output.count("Traceback") == 1

    def test_threads_at_import_are_warned_of_by_name(self, preload: Start, site: Path) -> None:
        with (site / "main.py").open("a") as file:
            file.write("import threading\nstop = threading.Event()\n")
            file.write("threading.Thread(target=stop.wait, name='telemetry', daemon=True).start()\n")
        server = preload(workers=1)
        (line,) = (line for line in server.lines if "threads" in line)
        assert line.startswith("WARNING")
        assert "'telemetry'. Start them in lifespan startup" in line

    def test_a_single_threaded_application_is_not_warned_of(self, preload: Start) -> None:
        server = preload(workers=1)
        assert "WARNING" not in server.output

    def test_hooks_run_where_they_always_do(self, preload: Start, site: Path) -> None:
        (site / "palfrey.conf.py").write_text(HOOKS)
        server = preload(workers=1)
        worker = int(server.get()[0])
        server.signal(signal.SIGTERM)
        server.wait()
        hooks = [line.split()[1:] for line in server.lines if line.startswith("hook ")]
        assert hooks == [
            ["pre_fork", str(server.pid), "None", hooks[0][3], "1"],
            ["post_fork", str(worker), str(worker), str(server.pid), "1"],
            ["post_worker_init", str(worker)],
            ["child_exit", str(server.pid), str(worker), hooks[0][3], "1"],
        ]


def test_more_and_fewer(preload: Start) -> None:
    server = preload(workers=1)
    server.signal(signal.SIGTTIN)
    server.wait_for(r"Worker 2 \(\d+\) is ready")
    server.signal(signal.SIGTTOU)
    server.wait_for("Worker 2 .* is one too many")
    server.wait_for("lifespan ended")
    assert server.output.count("imported ") == 1
    assert server.get()[2] == "1"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_an_import_that_hangs_is_ended_without_waiting_for_it(start: Start, site: Path, signum: int) -> None:
    (site / "main.py").write_text("import os, time\nos.write(2, b'importing\\n')\nwhile True:\n    time.sleep(600)\n")
    server = start("--preload")
    server.wait_for("importing")
    server.signal(signum)
    assert server.wait() == 0
    assert "killed" not in server.output


def test_an_import_that_hangs_shows_where(start: Start, site: Path) -> None:
    (site / "main.py").write_text("import time\n\ndef connect():\n    time.sleep(600)\n\nconnect()\n")
    server = start("--preload", "--boot-timeout", "2")
    assert server.wait() == 3
    assert "in connect" in server.output
    assert "no worker came to serve: mold did not become ready within 2 s" in server.output


def test_workers_show_their_stacks_and_keep_the_applications_signal_handlers(preload: Start, site: Path) -> None:
    with (site / "main.py").open("a") as file:
        file.write("import signal\nsignal.signal(signal.SIGWINCH, lambda *_: say('resized'))\n")
    server = preload(workers=1)
    worker = int(server.get()[0])
    os.kill(worker, signal.SIGUSR2)
    server.wait_for("most recent call first")
    os.kill(worker, signal.SIGWINCH)
    server.wait_for(f"resized {worker}")
    server.get()


def test_term_to_the_whole_group_as_a_service_manager_may_send_it(preload: Start) -> None:
    server = preload(workers=2)
    os.killpg(server.pid, signal.SIGTERM)
    assert server.wait() == 0
    assert "ERROR" not in server.output


def test_files_are_opened_anew_in_mold_and_workers(site: Path) -> None:
    log = site / "error.log"
    with Server("main:app", "--preload", "--port", "0", "--error-logfile", str(log), cwd=site) as server:
        server.wait_for("imported")
        _wait_for_line(log, "Generation 1 serves")
        log.rename(site / "error.1")
        server.signal(signal.SIGUSR1)
        _wait_for_line(log, "Log files opened anew")
        server.signal(signal.SIGTTIN)
        _wait_for_line(log, "Worker 2 ")
        # What a worker that the mold has forked since says goes to the new file.
        second = next(pid for pid in workers(server) if "worker 2" in " ".join(psutil.Process(pid).cmdline()))
        os.kill(second, signal.SIGTERM)
        _wait_for_line(log, f"[worker 2 {second}] SIGTERM received")


def _wait_for_line(path: Path, text: str) -> None:
    """Files announce nothing: look again until the line is there."""
    import time

    deadline = time.monotonic() + PATIENCE
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"no {text!r} in {path}"
        time.sleep(0.01)


def test_workers_that_are_ordered_at_once_hold_nothing_of_each_other(preload: Start) -> None:
    """Who kept another's copy of the listener would keep it open while it drains, and reset its queue at the end."""
    server = preload(workers=6)
    for pid in workers(server):
        held = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
        sockets = [name for name in held if name.startswith("socket:")]
        assert len(sockets) == len(set(sockets)), held
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
