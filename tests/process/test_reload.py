"""Reloads that go wrong, halt, are overtaken or take their time; and slots that fail: what serves, and what is said.

Applications say what they do on standard error, wait for files to vanish, and misbehave by the number of their worker
or generation, which are in their environment. Reloads that go well under load are in test_no_request_lost.py.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from tests.process.conftest import Start
from tests.process.test_no_request_lost import ROOT, wait_for_answers
from tests.support.loadclient import Options
from tests.support.loadresult import Outcome
from tests.support.loadthread import BackgroundLoad
from tests.support.processes import APP, PATIENCE, Server, read_all

HOLDS = """
import os, time
os.write(2, f"importing {os.environ['PALFREY_WORKER']} of {os.environ['PALFREY_GENERATION']}\\n".encode())
while os.path.exists("hold"):
    time.sleep(0.01)
"""
"""Before an application: its import lasts for as long as there is a file."""

FAILS_IN_WORKER_2 = """
import os
if os.environ["PALFREY_WORKER"] == "2" and os.path.exists("broken"):
    raise OSError("no database")
"""


@pytest.fixture
def deploy(site: Path) -> Callable[[str], None]:
    """Write a new application, whole at once, as a deployment does."""

    def put(code: str) -> None:
        (site / "new.py").write_text(code)
        os.replace(site / "new.py", site / "main.py")

    return put


Deploy = Callable[[str], None]


def block(server: Server, first: str, last: str) -> str:
    """The output from the line that holds `first` to the one that holds `last`."""
    begin = next(number for number, line in enumerate(server.lines) if re.search(first, line))
    end = next(number for number, line in enumerate(server.lines[begin:], begin) if re.search(last, line))
    return "\n".join(server.lines[begin : end + 1])


REFUSED = {
    "import": ("import nothing_of_this_name\n", (), "cannot import|nothing_of_this_name", "ModuleNotFoundError"),
    "syntax": ("def app(:\n", (), "main", "SyntaxError"),
    "lifespan": (
        "async def app(scope, receive, send):\n    raise OSError('no database')\n",
        ("--lifespan", "on"),
        "lifespan",
        "no database",
    ),
    "death": ("import os\nos._exit(7)\n", (), "its first worker exited with status 7", ""),
    "too slow": (
        "import time\ntime.sleep(600)\n",
        ("--boot-timeout", "6"),
        "its first worker did not become ready within 6 s",
        "",
    ),
}


class TestRefused:
    @pytest.mark.parametrize("kind", REFUSED)
    def test_one_block_says_what_failed_and_who_serves_on_and_the_next_one_tries_anew(
        self, serve: Start, deploy: Deploy, kind: str
    ) -> None:
        code, options, reason, detail = REFUSED[kind]
        server = serve(*options, workers=2)
        before = server.workers()
        deploy(code)
        server.signal(signal.SIGHUP)
        server.wait_for("Generation 1 serves on as before")
        said = block(server, "Reload refused", "serves on as before")
        assert re.search(f"Reload refused: .*({reason})", said)
        assert detail in said
        assert "palfrey/" not in said
        assert server.output.count("Reload refused") == 1
        assert set(before) <= set(server.workers())
        assert server.get()[1] == "1"
        deploy(APP)
        server.signal(signal.SIGHUP)
        server.wait_for_ready(2, generation=3)
        server.wait_for_ends(before)
        assert server.get()[1] == "3"

    def test_tired_workers_are_not_replaced_until_one_succeeds(self, serve: Start, deploy: Deploy) -> None:
        server = serve("--max-requests", "3", workers=1)
        (worker,) = server.workers()
        deploy("import nothing_of_this_name\n")
        server.signal(signal.SIGHUP)
        server.wait_for("Reload refused")
        for _ in range(5):
            assert int(server.get()[0]) == worker
        server.wait_for("Workers that serve are not replaced until a reload succeeds: .*max_requests")
        for _ in range(5):
            assert int(server.get()[0]) == worker
        deploy(APP)
        server.signal(signal.SIGHUP)
        server.wait_for_each(rf"\({worker}\) has its successor: retires", "Generation 3 serves with 1 of 1 worker")
        server.wait_for_ends([worker])
        for _ in range(3):
            server.get()
        server.wait_for("asks to be replaced")
        server.wait_for("has its successor: retires")
        assert server.output.count("are not replaced until") == 1

    def test_who_is_killed_after_it_is_missed_and_tried_again_while_the_others_serve(
        self, serve: Start, deploy: Deploy
    ) -> None:
        server = serve(workers=2)
        kept, victim = server.workers()
        deploy("import nothing_of_this_name\n")
        server.signal(signal.SIGHUP)
        server.wait_for("Reload refused")
        os.kill(victim, signal.SIGKILL)
        server.wait_for(r"\(\d+\) cannot serve: .*nothing_of_this_name.*; it is tried again in")
        server.wait_for("Generation 1 serves with 1 of 2 workers: worker .*nothing_of_this_name")
        server.wait_for(r"cannot serve again, 2nd time in a row: ")
        server.wait_for(r"cannot serve again, 3rd time in a row: ")
        assert int(server.get()[0]) == kept
        assert server.output.count("Generation 1 serves with 1 of 2") == 1
        assert server.output.count("Traceback") == 2, "the refusal's and the first failure's"
        deploy(APP)
        server.signal(signal.SIGHUP)
        server.wait_for_ready(2, generation=3)


class TestHaltedRollOut:
    def test_nothing_is_given_up_and_it_goes_on_by_itself_once_it_can(
        self, serve: Start, deploy: Deploy, site: Path
    ) -> None:
        server = serve(workers=3)
        before = server.workers()
        deploy(FAILS_IN_WORKER_2 + APP)
        (site / "broken").touch()
        server.signal(signal.SIGHUP)
        server.wait_for("Worker 2 .*cannot serve: .*no database")
        server.wait_for(
            "Generation 2 serves with 1 of 3 workers, and what served before it with 2: worker 2: .*no database.*"
            "The roll-out has halted"
        )
        server.wait_for("Worker 2 .*cannot serve again, 2nd time in a row")
        assert len(set(before) & set(server.workers())) == 2
        answers = {tuple(server.get()[1:3]) for _ in range(30)}
        assert answers <= {("2", "1"), ("1", "2"), ("1", "3")}
        (site / "broken").unlink()
        server.wait_for_ready(3, generation=2)
        server.wait_for_ends(before)

    def test_a_mended_deployment_and_hup_decide_it(self, serve: Start, deploy: Deploy, site: Path) -> None:
        server = serve(workers=2)
        deploy(FAILS_IN_WORKER_2 + APP)
        (site / "broken").touch()
        server.signal(signal.SIGHUP)
        server.wait_for("The roll-out has halted")
        deploy(APP)
        server.signal(signal.SIGHUP)
        server.wait_for_ready(2, generation=3)


class TestMeanwhile:
    """While a canary takes its time."""

    @pytest.fixture
    def held(self, serve: Start, deploy: Deploy, site: Path) -> Server:
        """A server whose reload has got as far as the canary's import, which lasts."""
        server = serve(workers=1)
        (site / "hold").touch()
        deploy(HOLDS + APP)
        server.signal(signal.SIGHUP)
        server.wait_for("importing 1 of 2")
        return server

    def test_signals_are_obeyed(self, held: Server, site: Path, deploy: Deploy) -> None:
        serving = int(held.get()[0])
        held.signal(signal.SIGUSR1)
        held.wait_for("Log files opened anew")
        held.signal(signal.SIGTTIN)
        held.wait_for_each("Workers: 2, before 1", "importing 2 of 1")
        held.signal(signal.SIGTTOU)
        held.wait_for("Workers: 1, before 2")
        assert int(held.get()[0]) == serving
        held.signal(signal.SIGTERM)
        assert held.wait() == 0

    def test_a_second_one_supersedes_it(self, held: Server, site: Path, deploy: Deploy) -> None:
        before = int(held.get()[0])
        deploy(APP.replace('"one"', '"three"'))
        held.signal(signal.SIGHUP)
        held.wait_for_ready(1, generation=3)
        held.wait_for_ends([before])
        assert held.get()[3] == "three"
        assert "Generation 2 is fit to serve" not in held.output

    def test_a_second_one_that_is_refused_supersedes_it_too(self, held: Server, site: Path) -> None:
        (site / "palfrey.conf.py").write_text("timeout = 'soon'\n")
        held.signal(signal.SIGHUP)
        held.wait_for("Reload refused: .*timeout")
        (site / "hold").unlink()
        held.signal(signal.SIGUSR1)
        held.wait_for("Log files opened anew")
        assert held.get()[1] == "1"
        (site / "palfrey.conf.py").unlink()
        held.signal(signal.SIGHUP)
        held.wait_for_ready(1, generation=3)
        assert "Generation 2 is fit to serve" not in held.output

    def test_changed_addresses_are_open_before_the_old_ones_close(
        self, start: Start, site: Path, deploy: Deploy
    ) -> None:
        (site / "palfrey.conf.py").write_text("bind = 'unix:old.sock'\n")
        server = start(port="")
        server.wait_for_ready(1)
        (site / "palfrey.conf.py").write_text("bind = 'unix:new.sock'\n")
        (site / "hold").touch()
        deploy(HOLDS + APP)
        server.signal(signal.SIGHUP)
        server.wait_for("importing 1 of 2")
        waiting = ask(site / "new.sock")
        assert answer(ask(site / "old.sock"))[1] == "1"
        (site / "hold").unlink()
        assert answer(waiting)[1] == "2", "its connection has waited"
        server.wait_for("No longer listening on unix:.*old.sock")
        assert not (site / "old.sock").exists()


def ask(path: Path) -> socket.socket:
    """Connect and send a request; what listens there need not accept yet."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(str(path))
    client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    return client


def answer(client: socket.socket) -> list[str]:
    """The words of the application's answer."""
    with client:
        response = http.client.HTTPResponse(client)
        response.begin()
        return response.read().decode().split()


class TestCount:
    def test_the_operators_is_kept_until_the_files_changes(self, start: Start, site: Path) -> None:
        config = site / "palfrey.conf.py"
        config.write_text("workers = 1\n")
        server = start()
        server.wait_for_ready(1)
        server.signal(signal.SIGTTIN)
        server.wait_for(r"Worker 2 \(\d+\) is ready")
        server.signal(signal.SIGHUP)
        server.wait_for_ready(2, generation=2)
        config.write_text("workers = 3\numask = 0o27\n")
        server.signal(signal.SIGHUP)
        server.wait_for("only a new start applies it: umask")
        server.wait_for_ready(3, generation=3)

    def test_as_many_at_a_time_as_max_surge_says(self, serve: Start, site: Path, deploy: Deploy) -> None:
        server = serve("--max-surge", "2", workers=4)
        deploy(HOLDS.replace('"hold"', '"hold" + os.environ["PALFREY_WORKER"]') + APP)
        for number in "234":
            (site / f"hold{number}").touch()
        server.signal(signal.SIGHUP)
        server.wait_for_each("importing 2 of 2", "importing 3 of 2")
        assert len(server.workers()) >= 6
        assert "importing 4 of 2" not in server.output
        (site / "hold3").unlink()
        server.wait_for("importing 4 of 2")
        (site / "hold2").unlink()
        (site / "hold4").unlink()
        server.wait_for_ready(4, generation=2)


def test_a_crash_loop_is_told_once_and_counted(serve: Start) -> None:
    server = serve(workers=1)
    for said in ("; its slot is filled again at once", " again, 2nd time in a row", " again, 3rd time in a row"):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
            client.sendall(b"GET /exit HTTP/1.1\r\nHost: test\r\n\r\n")
            assert read_all(client) == b""
        server.wait_for(f"exited with status 7{said}")
    server.wait_for("Generation 1 serves with 1 of 1 worker$")


SLOW = "import os, time\nif os.path.exists('slow'): time.sleep(5)\nfrom tests.support.loadapp import app\n"


@pytest.mark.xdist_group("load")
@pytest.mark.timeout(240)
def test_an_import_of_five_seconds_with_one_worker_keeps_nobody_waiting(start: Start, site: Path) -> None:
    (site / "slow_app.py").write_text(SLOW)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    server = start("--no-access-log", app="slow_app:app", env={"PYTHONPATH": path})
    server.wait_for_ready(1)
    (site / "slow").touch()
    with BackgroundLoad(Options(port=server.port, keep_alive=5.0, seconds=120)) as load:
        before = [latency(server) for _ in range(20)]
        server.signal(signal.SIGHUP)
        server.wait_for("trying it in one worker")
        during = []
        while not server.has_said("is ready, generation 2"):
            during.append(latency(server))
        server.wait_for_ready(1, generation=2)
        wait_for_answers(load, server, 2)
        result = load.stop()
    print(
        f"before: median {median(before):.4f} s; during the reload: median {median(during):.4f} s, {max(during):.4f} s"
    )
    assert result.clean, f"{result}\n{server.output}"
    assert result.count(Outcome.OK) > 100
    assert set(result.generations) == {"1", "2"}
    assert max(during) < 4, "nobody has waited for the import"


def latency(server: Server) -> float:
    """Seconds until an answer, over a connection of its own."""
    begin = time.monotonic()
    server.get("/id")
    return time.monotonic() - begin
