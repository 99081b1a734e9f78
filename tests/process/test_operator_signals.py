"""Each signal that the arbiter obeys, sent to a real one that serves."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.process.conftest import Start
from tests.support.processes import Server, finish, read_all

QUICK = ("--timeout-keep-alive", "1")
"""An answer that was sent before the worker heard of the end leaves its connection idle for this long."""


class TestStop:
    def test_term_finishes_what_has_begun(self, serve: Start) -> None:
        server = serve(*QUICK)
        with server.request_in_flight() as client:
            server.signal(signal.SIGTERM)
            server.wait_for("Stopping")
            answer = finish(client)
        assert answer.startswith(b"HTTP/1.1 200")
        assert server.wait() == 0
        assert server.output.count("lifespan ended") == 2

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT])
    def test_int_and_quit_cut_it(self, serve: Start, signum: int) -> None:
        server = serve()
        with server.request_in_flight() as client:
            server.signal(signum)
            assert b"200 OK" not in read_all(client)
        assert server.wait() == 0
        assert server.output.count("lifespan ended") == 2
        assert "Traceback" not in server.output

    def test_int_speeds_term_up(self, serve: Start) -> None:
        server = serve()
        with server.request_in_flight() as client:
            server.signal(signal.SIGTERM)
            server.wait_for("Stopping .SIGTERM")
            server.signal(signal.SIGINT)
            server.wait_for("Stopping .SIGINT")
            assert b"200 OK" not in read_all(client)
        assert server.wait() == 0

    def test_the_number_of_workers_no_longer_matters(self, serve: Start) -> None:
        server = serve(*QUICK, workers=1)
        with server.request_in_flight() as client:
            server.signal(signal.SIGTERM)
            server.wait_for("Stopping")
            for signum in (signal.SIGTTIN, signal.SIGHUP, signal.SIGUSR1):
                server.signal(signum)
            server.wait_for("Log files opened anew")
            assert finish(client).startswith(b"HTTP/1.1 200")
        assert server.wait() == 0
        assert "Workers:" not in server.output
        assert "Reloading" not in server.output

    def test_a_second_term_does_nothing_more(self, serve: Start) -> None:
        server = serve(*QUICK, workers=1)
        with server.request_in_flight() as client:
            for _ in range(2):
                server.signal(signal.SIGTERM)
            server.wait_for("Stopping")
            assert finish(client).startswith(b"HTTP/1.1 200")
        assert server.wait() == 0

    def test_ctrl_c_at_the_terminal_reaches_the_workers_too_and_they_leave_it_to_the_arbiter(
        self, serve: Start
    ) -> None:
        server = serve()
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait() == 0
        assert server.output.count("lifespan ended") == 2
        assert "Traceback" not in server.output

    def test_term_to_the_whole_group_as_a_service_manager_may_send_it(self, serve: Start) -> None:
        server = serve()
        os.killpg(server.pid, signal.SIGTERM)
        assert server.wait() == 0
        assert "ERROR" not in server.output

    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    def test_an_import_that_hangs_is_ended_without_waiting_for_it(self, start: Start, site: Path, signum: int) -> None:
        (site / "main.py").write_text(
            "import os, time\nos.write(2, b'importing\\n')\nwhile True:\n    time.sleep(600)\n"
        )
        server = start()
        server.wait_for("importing")
        server.signal(signum)
        assert server.wait() == 0
        assert "killed" not in server.output

    def test_during_boot(self, start: Start, site: Path) -> None:
        (site / "slow.py").write_text(
            "import sys, time\nprint('importing', file=sys.stderr, flush=True)\ntime.sleep(1)\n"
        )
        server = start(app="slow:app")
        server.wait_for("importing")
        server.signal(signal.SIGINT)
        assert server.wait() == 0


class TestReload:
    def test_new_code_slot_by_slot(self, serve: Start, site: Path) -> None:
        server = serve(workers=2)
        before = server.workers()
        code = (site / "main.py").read_text()
        (site / "main.py").write_text(code.replace('"one"', '"two"'))
        server.signal(signal.SIGHUP)
        server.wait_for_ready(2, generation=2)
        server.wait_for_ends(before)
        _, generation, _, release = server.get()
        assert (generation, release) == ("2", "two")
        server.signal(signal.SIGTERM)
        server.wait()
        assert "ERROR" not in server.output

    def test_a_request_in_flight_is_finished_by_the_old_worker(self, serve: Start) -> None:
        server = serve(*QUICK, workers=1)
        (old,) = server.workers()
        with server.request_in_flight() as client:
            server.signal(signal.SIGHUP)
            server.wait_for_ready(1, generation=2)
            answer = finish(client)
        assert answer.startswith(b"HTTP/1.1 200")
        assert f"{old} 1 1 one".encode() in answer

    def test_broken_code_is_refused_and_the_old_serves_on(self, serve: Start, site: Path) -> None:
        server = serve(workers=2)
        before = server.workers()
        code = (site / "main.py").read_text()
        (site / "main.py").write_text("def app(:\n")
        server.signal(signal.SIGHUP)
        server.wait_for("Reload refused: ")
        server.wait_for("SyntaxError")
        server.wait_for("Generation 1 serves on")
        assert set(server.workers()) >= set(before)
        assert server.get()[1] == "1"
        (site / "main.py").write_text(code)
        server.signal(signal.SIGHUP)
        server.wait_for_ends(before)
        assert server.get()[1] == "3"

    def test_a_bad_setting_is_refused(self, start: Start, site: Path) -> None:
        config = site / "palfrey.conf.py"
        config.write_text("workers = 1\n")
        server = start()
        server.wait_for_ready(1)
        config.write_text("workers = 'many'\n")
        server.signal(signal.SIGHUP)
        server.wait_for("Reload refused: .*workers")
        assert server.get()[1] == "1"

    def test_the_address_and_the_count_change_with_the_file(self, start: Start, site: Path) -> None:
        config = site / "palfrey.conf.py"
        config.write_text("workers = 1\nbind = 'unix:old.sock'\n")
        server = start(port="")
        server.wait_for_ready(1)
        assert (site / "old.sock").exists()
        config.write_text("workers = 2\nbind = ['127.0.0.1:0', 'unix:new.sock']\numask = 0o27\n")
        server.signal(signal.SIGHUP)
        server.wait_for("only a new start applies it: umask")
        server.wait_for(r"Listening on http://127.0.0.1:\d+")
        server.wait_for_ready(2, generation=2)
        assert server.get()[1] == "2", "the old worker has no part in this address"
        assert not (site / "old.sock").exists()
        assert (site / "new.sock").exists()

    def test_an_address_in_use_is_refused(self, start: Start, site: Path, serve: Start) -> None:
        other = serve(workers=1)
        config = site / "palfrey.conf.py"
        config.write_text("bind = '127.0.0.1:0'\n")
        server = start(port="")
        server.wait_for_ready(1)
        config.write_text(f"bind = ['127.0.0.1:0', '127.0.0.1:{other.port}']\n")
        server.signal(signal.SIGHUP)
        server.wait_for(f"Reload refused: .*{other.port}")
        assert server.get()[1] == "1"

    def test_a_switched_symlink_is_followed(self, site: Path) -> None:
        for release in ("one", "two"):
            (site / release).mkdir()
            (site / release / "main.py").write_text((site / "main.py").read_text().replace('"one"', f'"{release}"'))
        current = site / "current"
        current.symlink_to(site / "one")
        with Server("main:app", "--port", "0", cwd=current, env={"PWD": str(current)}) as server:
            server.wait_for_ready(1)
            assert server.get()[3] == "one"
            before = server.workers()
            current.unlink()
            current.symlink_to(site / "two")
            server.signal(signal.SIGHUP)
            server.wait_for_ends(before)
            assert server.get()[3] == "two"


class TestScale:
    def test_more_and_fewer(self, serve: Start) -> None:
        server = serve(workers=1)
        server.signal(signal.SIGTTIN)
        server.wait_for_each("Workers: 2, before 1", r"Worker 2 \(\d+\) is ready")
        assert len(server.workers()) == 2
        server.signal(signal.SIGTTOU)
        server.wait_for("Worker 2 .* is one too many")
        server.wait_for("lifespan ended")
        server.signal(signal.SIGTTOU)
        assert server.get()[2] == "1"
        server.signal(signal.SIGTERM)
        server.wait()
        assert "Workers: 0" not in server.output


class TestLogs:
    def test_usr1_opens_the_files_anew_in_every_process(self, site: Path) -> None:
        log, access = site / "error.log", site / "access.log"
        with Server(
            "main:app", "--port", "0", "--error-logfile", str(log), "--access-logfile", str(access), cwd=site
        ) as server:
            _wait_for_line(log, "Generation 1 serves")
            port = int(log.read_text().split("http://127.0.0.1:")[1].split()[0])
            log.rename(site / "error.1")
            access.rename(site / "access.1")
            server.signal(signal.SIGUSR1)
            _wait_for_line(log, "Log files opened anew")
            server.get("/after", port=port)
            _wait_for_line(access, "/after")

    def test_files_that_cannot_be_opened_anew_are_not_said_to_be(self, start: Start, site: Path) -> None:
        (site / "logs").mkdir()
        server = start("--access-logfile", "logs/access.log")
        server.wait_for_ready(1)
        (site / "logs").rename(site / "gone")
        server.signal(signal.SIGUSR1)
        server.wait_for("Log file not reopened")
        (site / "logs").mkdir()
        server.signal(signal.SIGUSR1)
        server.wait_for("Log files opened anew")
        assert server.output.count("Log files opened anew") == 1
        assert (site / "logs" / "access.log").exists()

    def test_winch_is_nothing_but_in_an_upgrade(self, serve: Start) -> None:
        server = serve(workers=1)
        server.signal(signal.SIGWINCH)
        server.get()


def _wait_for_line(path: Path, text: str) -> None:
    """Files announce nothing: look again until the line is there."""
    import time

    deadline = time.monotonic() + 20
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"no {text!r} in {path}"
        time.sleep(0.01)
