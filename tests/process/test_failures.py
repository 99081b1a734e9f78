"""What goes wrong: at the start, in a worker, in the arbiter itself."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from tests.process.conftest import Start
from tests.support.processes import PATIENCE, finish, read_all


class TestFirstStart:
    def test_a_module_that_does_not_exist(self, start: Start) -> None:
        server = start("--workers", "2", app="mian:app")
        assert server.wait() == 3
        assert "mian" in server.output
        assert server.output.count("Cannot serve") == 1
        assert "palfrey/master" not in server.output

    def test_an_import_that_fails_shows_its_own_traceback(self, start: Start, site: Path) -> None:
        (site / "broken.py").write_text("def dig():\n    return 1 / 0\n\ndig()\n")
        server = start(app="broken:app")
        assert server.wait() == 3
        assert "ZeroDivisionError" in server.output
        assert "broken.py" in server.output
        assert "palfrey/" not in server.output

    def test_a_lifespan_that_fails(self, start: Start, site: Path) -> None:
        (site / "main.py").write_text(
            "async def app(scope, receive, send):\n"
            "    await receive()\n"
            "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
        )
        server = start("--lifespan", "on")
        assert server.wait() == 3
        assert "no database" in server.output

    def test_a_worker_that_dies_while_booting(self, start: Start, site: Path) -> None:
        (site / "dying.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
        server = start(app="dying:app")
        assert server.wait() == 3
        assert "no worker came to serve: worker 1 was killed by SIGKILL (3 times)" in server.output

    def test_an_application_that_exits(self, start: Start, site: Path) -> None:
        (site / "leaving.py").write_text("import sys\nsys.exit(5)\n")
        server = start(app="leaving:app")
        assert server.wait() == 3
        assert "SystemExit" in server.output

    def test_a_boot_that_hangs(self, start: Start, site: Path) -> None:
        (site / "hanging.py").write_text("import time\ntime.sleep(600)\n")
        server = start("--workers", "2", "--boot-timeout", "1", app="hanging:app")
        assert server.wait() == 3
        assert "no worker came to serve: worker 1 did not become ready within 1 s" in server.output
        assert "hanging.py" in server.output, "the stack that it hung in"

    def test_a_lifespan_that_hangs_shows_where(self, start: Start, site: Path) -> None:
        (site / "waiting.py").write_text(
            "import asyncio\n"
            "async def connect():\n"
            "    await asyncio.Event().wait()\n"
            "async def app(scope, receive, send):\n"
            "    await connect()\n"
        )
        server = start("--boot-timeout", "1", app="waiting:app")
        assert server.wait() == 3
        assert "Task 'palfrey lifespan' waits in" in server.output
        assert "await connect()" in server.output
        assert "killed" not in server.output

    def test_a_busy_port(self, start: Start) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server = start(port=str(port))
            assert server.wait() == 1
        assert f"127.0.0.1:{port}" in server.output
        assert len(server.lines) == 1
        assert str(os.getpid()) in server.output, "the process that holds it"

    def test_a_pid_file_that_is_held(self, start: Start, site: Path) -> None:
        (site / "held.pid").write_text(f"{os.getpid()}\n")
        server = start("--pid", str(site / "held.pid"))
        assert server.wait() == 1
        assert str(os.getpid()) in server.output
        assert (site / "held.pid").exists()


class TestWorkers:
    def test_killed_and_replaced_at_once(self, serve: Start) -> None:
        server = serve(workers=2)
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        server.wait_for(rf"Worker \d \({victim}\) was killed by SIGKILL; its slot is filled again at once")
        server.wait_for(r"Worker \d \(\d+\) is ready")
        assert victim not in server.workers()
        server.get()

    def test_exiting_in_a_request(self, serve: Start) -> None:
        server = serve(workers=1)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /exit HTTP/1.1\r\nHost: test\r\n\r\n")
            assert read_all(client) == b""
        server.wait_for("exited with status 7")
        server.wait_for("is ready")
        server.get()

    def test_ended_by_an_operator_it_drains_and_is_replaced(self, serve: Start) -> None:
        server = serve(workers=1)
        (worker,) = server.workers()
        with server.request_in_flight() as client:
            os.kill(worker, signal.SIGTERM)
            server.wait_for("was told to end by a signal from outside")
            server.wait_for("is ready")
            assert str(worker).encode() in finish(client)
        server.wait_for(f"lifespan ended {worker}")
        assert int(server.get()[0]) != worker
        assert "ERROR" not in server.output

    def test_the_terminals_int_is_nothing_to_it(self, serve: Start) -> None:
        server = serve(workers=1)
        (worker,) = server.workers()
        for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGUSR2):
            os.kill(worker, signum)
        assert int(server.get()[0]) == worker

    def test_stuck_shows_its_stack_and_ends(self, serve: Start) -> None:
        server = serve("--timeout", "1", workers=2)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /block HTTP/1.1\r\nHost: test\r\n\r\n")
            stuck = server.wait_for(r"blocking (\d+)")[1]
            server.wait_for(rf"\({stuck}\) has not answered for 1 s: aborted")
            server.wait_for(r"main\.py.* in app")
            server.wait_for(r"is ready")
            assert read_all(client) == b""
        assert "killed" not in server.output
        server.get()

    def test_stopped_it_is_ended_and_replaced(self, serve: Start) -> None:
        server = serve("--timeout", "1", workers=2)
        stopped = server.workers()[0]
        process = psutil.Process(stopped)
        os.kill(stopped, signal.SIGSTOP)
        server.wait_for(rf"\({stopped}\) has not answered for 0.5 s: it is stopped")
        server.wait_for(rf"\({stopped}\) has not answered for 1 s: aborted")
        psutil.wait_procs([process], 30)
        assert not process.is_running()

    def test_recycled_after_max_requests_behind_a_successor(self, serve: Start) -> None:
        server = serve("--max-requests", "3", workers=1)
        (worker,) = server.workers()
        for _ in range(3):
            assert int(server.get()[0]) == worker
        server.wait_for(rf"Worker 1 \({worker}\) asks to be replaced")
        server.wait_for(r"Worker 1 \(\d+\) is ready")
        server.wait_for(rf"Worker 1 \({worker}\) has its successor: retires")
        server.wait_for(f"lifespan ended {worker}")
        assert int(server.get()[0]) != worker


class TestArbiter:
    def test_killed_its_workers_drain_and_end(self, serve: Start) -> None:
        server = serve(workers=2)
        with server.request_in_flight() as client:
            server.signal(signal.SIGKILL)
            server.wait_for("The arbiter is gone")
            assert finish(client).startswith(b"HTTP/1.1 200")
        assert server.wait() == -signal.SIGKILL
        assert server.output.count("lifespan ended") == 2

    def test_killed_while_a_reload_is_under_way(self, serve: Start, site: Path) -> None:
        server = serve(workers=1)
        (site / "main.py").write_text(
            "import sys, time\nprint('importing', file=sys.stderr, flush=True)\ntime.sleep(1)\n"
        )
        server.signal(signal.SIGHUP)
        server.wait_for("importing")
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody is told of a parent's end")
    def test_killed_a_worker_whose_import_hangs_does_not_keep_the_address(self, serve: Start, site: Path) -> None:
        server = serve(workers=1)
        (site / "main.py").write_text("import os, time\nos.write(2, b'importing\\n')\ntime.sleep(600)\n")
        server.signal(signal.SIGHUP)
        server.wait_for("importing")
        ends = [os.pidfd_open(pid) for pid in server.workers()]
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        for end in ends:  # a process closes its output before its sockets
            assert select.select([end], [], [], PATIENCE)[0]
            os.close(end)
        with socket.create_server(("127.0.0.1", server.port)):
            pass

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody is told of a parent's end")
    @pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])
    def test_killed_a_worker_that_hangs_ends_with_its_stacks_in_the_log(
        self, start: Start, site: Path, options: tuple[str, ...]
    ) -> None:
        (site / "main.py").write_text((site / "main.py").read_text().replace("environ['PALFREY_WORKER']", "name"))
        server = start("--graceful-timeout", "0.1", *options)
        server.wait_for_ready(1)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /block HTTP/1.1\r\nHost: test\r\n\r\n")
            server.wait_for("blocking")
            server.signal(signal.SIGKILL)
            assert read_all(client) == b""
        assert server.wait() == -signal.SIGKILL
        assert "Timeout (0:00:05.1" in server.output
        assert "main.py" in server.output

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is not")
    def test_killed_it_takes_nobody_along_who_has_imported(self, serve: Start, site: Path) -> None:
        """Lifespan startup has its own end."""
        server = serve(workers=1)
        (site / "main.py").write_text(
            "import asyncio, os\n"
            "async def app(scope, receive, send):\n"
            "    os.write(2, b'starting\\n')\n"
            "    try:\n"
            "        await asyncio.Event().wait()\n"
            "    finally:\n"
            "        os.write(2, b'tidied up\\n')\n"
        )
        server.signal(signal.SIGHUP)
        server.wait_for("starting")
        server.signal(signal.SIGKILL)
        server.wait_for("tidied up")
        assert server.wait() == -signal.SIGKILL

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("raise KeyboardInterrupt\n", r"KeyboardInterrupt\(\)"),
            ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
            ("def ssl_context(config, default):\n    raise SystemExit(4)\n", "hook ssl_context raised SystemExit: 4"),
            ("def ssl_context(config, default):\n    raise KeyboardInterrupt\n", r"KeyboardInterrupt\(\)"),
        ],
    )
    def test_a_configuration_that_would_end_it_is_refused(self, serve: Start, site: Path, code: str, said: str) -> None:
        server = serve(workers=1)
        (site / "palfrey.conf.py").write_text(code)
        server.signal(signal.SIGHUP)
        server.wait_for(f"Reload refused: .*{said}")
        server.get()
        (site / "palfrey.conf.py").unlink()
        server.signal(signal.SIGHUP)
        server.wait_for_ready(1, generation=2)

    def test_a_configuration_that_hangs_is_given_up(self, serve: Start, site: Path) -> None:
        server = serve("--boot-timeout", "6", workers=1)
        (site / "palfrey.conf.py").write_text(
            "import time\ntry:\n    time.sleep(600)\nexcept BaseException:\n    time.sleep(600)\n"
        )
        server.signal(signal.SIGHUP)
        server.wait_for("Reload refused: palfrey.conf.py, line 5: .*not done within 6 s")
        server.get()

    def test_and_does_not_hold_up_an_ordered_end(self, serve: Start, site: Path) -> None:
        server = serve("--boot-timeout", "0", workers=1)
        (site / "palfrey.conf.py").write_text("import os, time\nos.write(2, b'reading\\n')\ntime.sleep(600)\n")
        server.signal(signal.SIGHUP)
        server.wait_for("reading")
        server.signal(signal.SIGUSR1)
        server.signal(signal.SIGTERM)
        server.wait_for("Reload refused: palfrey.conf.py, line [23]: .*SIGTERM has come")
        server.wait_for(r"Stopping \(SIGTERM\)")
        assert server.wait() == 0

    def test_it_holds_no_loop_no_protocol_and_no_application(self, start: Start, site: Path) -> None:
        (site / "palfrey.conf.py").write_text(
            "import os, sys\n"
            "STRANGE = ('asyncio', 'uvloop', 'main', 'ssl', 'palfrey.asgi', 'palfrey.protocols', 'palfrey.workers')\n"
            "def when_ready(server):\n"
            "    found = [name for name in STRANGE if name in sys.modules]\n"
            "    os.write(2, f'strange modules: {found}\\n'.encode())\n"
            "def child_exit(server, worker):\n"
            "    when_ready(server)\n"
        )
        server = start()
        assert server.wait_for("strange modules: (.*)")[1] == "[]"
        server.signal(signal.SIGHUP)
        assert server.wait_for("strange modules: (.*)")[1] == "[]"
