"""Palfrey under a stand-in for systemd (tests/support/servicemanager.py): notify, watchdog, activation, exit statuses.

Real systemd runs neither here nor in CI's containers. What it alone can judge, the unit files, is judged by
`systemd-analyze` in test_system_units.py; what it was seen to do by hand is in docs/systemd.md.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import APP, Server, finish
from tests.support.servicemanager import ServiceManager

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")

Service = Callable[..., tuple[ServiceManager, Server]]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


@pytest.fixture
def begin(site: Path) -> Iterator[Service]:
    """Start the service by its manager; both are gone at the end."""
    with ExitStack() as stack:

        def start(
            *arguments: str, app: str = "main:app", port: str = "0", workers: int = 1, **manager: Any
        ) -> tuple[ServiceManager, Server]:
            systemd = stack.enter_context(ServiceManager(site, **manager))
            address = ("--port", port) if port else ()
            server = Server(
                *(app, *address, "--workers", str(workers), *arguments),
                cwd=site,
                env=systemd.environment,
                command=systemd.command,
                pass_fds=systemd.fds,
            )
            return systemd, stack.enter_context(server)

        yield start


# Start, reload, stop


@pytest.mark.parametrize("abstract", [False, True])
def test_the_life_of_a_service(begin: Service, abstract: bool) -> None:
    systemd, server = begin(workers=2, abstract=abstract)
    systemd.wait_for("EXTEND_TIMEOUT_USEC=")
    assert systemd.status.startswith("Starting")
    systemd.wait_for_state("active")
    assert systemd.main_pid == server.pid
    assert systemd.status == "Generation 1 serves with 2 of 2 workers"
    systemd.reload()
    systemd.wait_for_state("reloading")
    systemd.wait_for_state("active")
    assert systemd.status == "Generation 2 serves with 2 of 2 workers"
    systemd.stop()
    systemd.wait_for_state("deactivating")
    assert server.wait() == 0
    assert systemd.ignored == [], "nobody but the arbiter speaks"


def test_ready_is_not_said_before_every_worker_serves(begin: Service, site: Path) -> None:
    os.mkfifo(site / "gate")
    (site / "gated.py").write_text("open('gate').read()\nfrom main import app\n")
    systemd, _ = begin(app="gated:app")
    with open(site / "gate", "w"):  # returns when the worker has come to its import
        systemd.wait_for_status("Starting: 0 of 1 worker ready")
        assert systemd.state == "activating"
    systemd.wait_for_state("active")


def test_a_refused_reload_is_over_and_the_status_says_why(begin: Service, site: Path) -> None:
    systemd, _ = begin()
    systemd.wait_for_state("active")
    (site / "main.py").write_text("import nothing_of_this_name\n")
    systemd.reload()
    systemd.wait_for_state("reloading")
    systemd.wait_for_state("active")
    assert systemd.status.startswith("Generation 1 serves with 1 of 1 worker; the last reload was refused: ")
    assert "nothing_of_this_name" in systemd.status
    (site / "main.py").write_text(APP)
    systemd.reload()
    systemd.wait_for_state("reloading")
    systemd.wait_for_state("active")
    assert "refused" not in systemd.status


def test_a_configuration_that_does_not_fit_is_a_refused_reload(begin: Service, site: Path) -> None:
    (site / "palfrey.conf.py").write_text("")
    systemd, _ = begin()
    systemd.wait_for_state("active")
    (site / "palfrey.conf.py").write_text("timeout = 'soon'\n")
    systemd.reload()
    systemd.wait_for_state("reloading")
    systemd.wait_for_state("active")
    assert "the last reload was refused: " in systemd.status
    assert "timeout" in systemd.status


def test_a_roll_out_that_halts_is_over_for_systemd_and_the_status_says_where(begin: Service, site: Path) -> None:
    systemd, _ = begin(workers=2)
    systemd.wait_for_state("active")
    fails = (
        "import os\nif os.environ['PALFREY_WORKER'] == '2' and os.path.exists('broken'): raise OSError('no database')\n"
    )
    (site / "broken").touch()
    (site / "main.py").write_text(fails + APP)
    systemd.reload()
    systemd.wait_for_state("reloading")
    systemd.wait_for_state("active")
    assert systemd.status.startswith("Generation 2 serves with 1 of 2 workers, an older one with 1; worker 2: ")
    assert systemd.status.endswith("no database, where the roll-out has halted")
    (site / "broken").unlink()
    systemd.wait_for_status("Generation 2 serves with 2 of 2 workers")


def test_a_stop_that_takes_its_time_asks_for_it_and_counts(begin: Service) -> None:
    systemd, server = begin()
    systemd.wait_for_state("active")
    server.wait_for_ready(1)
    with server.request_in_flight() as client:
        systemd.stop()
        systemd.wait_for_state("deactivating")
        systemd.wait_for("EXTEND_TIMEOUT_USEC=")
        assert systemd.status == "Stopping: 1 worker left"
        finish(client)
    assert server.wait() == 0


def test_a_stop_begins_with_its_drain_delay(begin: Service) -> None:
    systemd, server = begin("--drain-delay", "600")
    systemd.wait_for_state("active")
    server.wait_for_ready(1)
    systemd.stop()
    systemd.wait_for_state("deactivating")
    systemd.wait_for("EXTEND_TIMEOUT_USEC=")
    assert systemd.status.startswith("Not ready any more, stopping soon; Generation 1 serves with 1 of 1 worker")
    assert server.get()[1] == "1"
    systemd.stop()
    assert server.wait() == 0


def test_a_worker_that_dies_shows_in_the_status(begin: Service) -> None:
    systemd, server = begin(workers=2)
    systemd.wait_for_state("active")
    server.wait_for_ready(2)
    os.kill(server.workers()[0], signal.SIGKILL)
    systemd.wait_for_status("serves with 1 of 2 workers; worker ")
    assert "was killed by SIGKILL" in systemd.status
    systemd.wait_for_status("serves with 2 of 2 workers")


def test_an_application_is_not_told_of_systemd(begin: Service, site: Path) -> None:
    (site / "curious.py").write_text(
        "import os\nfrom main import app, say\n"
        "say('knows ' + ','.join(name for name in os.environ if name.startswith(('NOTIFY', 'LISTEN', 'WATCHDOG'))))\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _, server = begin(app="curious:app", watchdog=100.0, sockets=[("web", listener)])
        assert server.wait_for(r"knows (\S*) \d+")[1] == ""


# The watchdog


def test_the_watchdog_is_fed_while_a_worker_answers(begin: Service) -> None:
    systemd, _ = begin("--timeout", "0", watchdog=1.0)  # nothing else wakes the arbiter
    first = systemd.wait_for("WATCHDOG=1")
    assert systemd.state == "active"
    feedings = [first] + [systemd.wait_for("WATCHDOG=1") for _ in range(3)]
    assert all(later.when > sooner.when for sooner, later in pairwise(feedings))


def hold(server: Server) -> socket.socket:
    """A request that holds the loop of the worker until the file `gate` has had a writer."""
    client = socket.create_connection(("127.0.0.1", server.port), 30)
    client.sendall(b"GET /hold HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    server.wait_for("holding")
    return client


@pytest.fixture
def hanging(site: Path) -> str:
    os.mkfifo(site / "gate")
    (site / "hanging.py").write_text(
        "from main import app as inner, say\n"
        "async def app(scope, receive, send):\n"
        "    if scope.get('path') == '/hold':\n"
        "        say('holding')\n"
        "        open('gate').read()\n"
        "    await inner(scope, receive, send)\n"
    )
    return "hanging:app"


def test_a_watchdog_that_starves_says_so_and_is_fed_again(begin: Service, site: Path, hanging: str) -> None:
    systemd, server = begin("--timeout", "0", app=hanging, watchdog=2.0)
    server.wait_for_ready(1)
    with hold(server):
        server.wait_for("No worker serves and answers: systemd's watchdog is not fed. It ends the service within 1 s")
        with open(site / "gate", "w"):
            pass
        server.wait_for("A worker answers again: systemd's watchdog is fed")
    systemd.wait_for("WATCHDOG=1")


def test_when_all_workers_hang_the_service_is_ended_by_systemd(begin: Service, site: Path, hanging: str) -> None:
    systemd, server = begin("--timeout", "0", app=hanging, watchdog=2.0)
    systemd.wait_for_state("active")
    server.wait_for_ready(1)
    with hold(server) as client:
        systemd.watch()
        with open(site / "gate", "w"):
            pass
        assert b" 200 " in client.recv(65536), "the orphan finishes what it has"
    assert server.wait() == -signal.SIGABRT


# Activation


@pytest.fixture
def two_sockets() -> Iterator[list[tuple[str, socket.socket]]]:
    with socket.create_server(("127.0.0.1", 0)) as web, socket.create_server(("127.0.0.1", 0)) as admin:
        yield [("web", web), ("admin", admin)]


def port(pair: tuple[str, socket.socket]) -> int:
    number: int = pair[1].getsockname()[1]
    return number


Named = Sequence[tuple[str, socket.socket]]


def test_all_sockets_are_served_where_no_address_is_asked_for(begin: Service, two_sockets: Named) -> None:
    systemd, server = begin(port="", sockets=two_sockets)
    systemd.wait_for_state("active")
    server.wait_for_ready(1)
    assert [server.get(port=port(pair))[1] for pair in two_sockets] == ["1", "1"]
    before = server.workers()
    systemd.reload()
    systemd.wait_for_state("reloading")
    systemd.wait_for_state("active")
    server.wait_for_ends(before)
    assert [server.get(port=port(pair))[1] for pair in two_sockets] == ["2", "2"]


def test_a_socket_is_chosen_by_its_name(begin: Service, site: Path, two_sockets: Named) -> None:
    web, admin = two_sockets
    (site / "palfrey.conf.py").write_text("bind = 'systemd:admin'\n")
    systemd, server = begin(port="", sockets=two_sockets)
    systemd.wait_for_state("active")
    server.wait_for("systemd's socket web is not used: bind says where to listen, and does not name it")
    server.wait_for_ready(1)
    assert server.get(port=port(admin))[1] == "1"
    assert server.output.count("Listening on") == 1
    # A reload may take the other one, and come back.
    for generation, bind, chosen in ((2, ["systemd:web"], [web]), (3, ["systemd:web", "systemd:admin"], [web, admin])):
        (site / "palfrey.conf.py").write_text(f"bind = {bind}\n")
        before = server.workers()
        systemd.reload()
        systemd.wait_for_status(f"Generation {generation} serves with 1 of 1 worker")
        server.wait_for_ends(before)
        assert [server.get(port=port(pair))[1] for pair in chosen] == [str(generation)] * len(chosen)


def test_a_name_that_systemd_did_not_hand_in(begin: Service, two_sockets: Named) -> None:
    _, server = begin("--bind", "systemd:shop", port="", sockets=two_sockets)
    server.wait_for("cannot listen on systemd:shop: systemd handed in admin, web; the name is the")
    assert server.wait() == 1


# Upgrade


def test_an_upgrade_changes_the_main_process_and_nothing_else(begin: Service, two_sockets: Named) -> None:
    systemd, server = begin("--bind", "systemd:web", port="", watchdog=4.0, sockets=two_sockets)
    systemd.wait_for_state("active")
    server.wait_for_ready(1)
    old, before = systemd.main_pid, server.workers()
    os.kill(old, signal.SIGUSR2)
    systemd.wait_for_status("upgrading: process ")
    systemd.wait_for("MAINPID=")
    assert systemd.main_pid != old
    assert systemd.state == "active", "whoever waits for the service need not know"
    fed = systemd.wait_for("WATCHDOG=1")
    assert fed.sender == systemd.main_pid
    assert systemd.status == "Generation 2 serves with 1 of 1 worker"
    server.wait_for_ends(before)
    assert server.get(port=port(two_sockets[0]))[1] == "2"
    systemd.reload()
    systemd.wait_for_state("reloading")
    systemd.wait_for_state("active")
    assert systemd.status == "Generation 3 serves with 1 of 1 worker"
    assert systemd.ignored == [], "each speaks in its time alone"
    systemd.stop()
    systemd.wait_for_state("deactivating")
    assert server.wait() == 0


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [("palfrey.conf.py", "timeout = 'soon'\n", "timeout"), ("main.py", "import nothing_of_this_name\n", "importing")],
)
def test_an_upgrade_that_fails_shows_in_the_status(
    begin: Service, site: Path, file: str, text: str, reason: str
) -> None:
    (site / "palfrey.conf.py").write_text("")
    systemd, _ = begin(watchdog=4.0)
    systemd.wait_for_state("active")
    main_pid = systemd.main_pid
    (site / file).write_text(text)
    os.kill(main_pid, signal.SIGUSR2)
    systemd.wait_for_status("the last upgrade failed: ")
    assert systemd.status.startswith("Generation 1 serves with 1 of 1 worker; the last upgrade failed: ")
    assert reason in systemd.status
    assert systemd.wait_for("WATCHDOG=1").sender == main_pid


def test_a_reload_that_an_upgrade_forbids_is_answered(begin: Service) -> None:
    systemd, server = begin("--upgrade", "manual")
    systemd.wait_for_state("active")
    os.kill(systemd.main_pid, signal.SIGUSR2)
    successor = int(server.wait_for(r"Process (\d+) is ready")[1])
    systemd.wait_for_status(f"process {successor} serves as well")
    systemd.reload()
    systemd.wait_for_state("reloading")
    systemd.wait_for_state("active")
    os.kill(successor, signal.SIGQUIT)
    server.wait_for(f"Process {successor} has ended, as it was told to")


# Exit statuses, which Restart= and RestartPreventExitStatus= go by


@pytest.mark.parametrize(
    ("arguments", "app", "status"),
    [(("--bind", "192.0.2.1:80"), "main:app", 1), (("--no-such-option",), "main:app", 2), ((), "mian:app", 3)],
)
def test_the_exit_status_of_a_failed_start(begin: Service, arguments: tuple[str, ...], app: str, status: int) -> None:
    _, server = begin(*arguments, app=app, port="" if arguments else "0")
    assert server.wait() == status


def test_why_the_application_did_not_start_is_the_last_status(begin: Service) -> None:
    systemd, server = begin(app="mian:app")
    systemd.wait_for_state("deactivating")
    assert "mian" in systemd.status
    assert server.wait() == 3
