"""`--reload` with real files, real forks and both watchers: what a developer sees after saving, and at the keyboard."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.process.conftest import Start
from tests.support.processes import APP, Server, finish, read_all
from tests.support.terminal import Screen

Develop = Callable[..., Server]

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
KEEP = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
BROKEN = "def app(:\n"


with_each_engine = pytest.mark.parametrize("engine", ["watchfiles", "poll"])
"""For what lies with the watcher; behind its report both are the same."""


@pytest.fixture
def engine() -> str:
    return "auto"


@pytest.fixture
def develop(start: Start, engine: str) -> Develop:
    """Start with --reload and wait until it serves and watches."""

    def begin(*arguments: str, **more: str) -> Server:
        server = start("--reload", "--reload-engine", engine, *arguments, **more)
        server.wait_for_each("Watching", "Generation 1 serves with 1 of 1 worker")
        return server

    return begin


def save(site: Path, release: str) -> None:
    (site / "main.py").write_text(APP.replace('"one"', repr(release)))


def ask(server: Server, request: bytes = REQUEST) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), 30)
    client.sendall(request)
    return client


def release_of(answer: bytes) -> str:
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return answer.split()[-1].decode()


@with_each_engine
class TestChanges:
    def test_what_is_saved_is_served(self, develop: Develop, site: Path) -> None:
        server = develop()
        for generation, release in ((2, "two"), (3, "three")):
            save(site, release)
            server.wait_for("Reloading: main.py changed")
            server.wait_for_ready(1, generation)
            assert server.get()[3] == release

    def test_new_changed_and_deleted_files(self, develop: Develop, site: Path) -> None:
        server = develop()
        helper = site / "package" / "helper.py"
        helper.parent.mkdir()
        helper.write_text("A = 1\n")
        server.wait_for("Reloading: package/helper.py changed")
        server.wait_for_ready(1, 2)
        helper.write_text("A = 22\n")
        server.wait_for("Reloading: package/helper.py changed")
        server.wait_for_ready(1, 3)
        helper.unlink()
        server.wait_for("Reloading: package/helper.py changed")
        server.wait_for_ready(1, 4)

    def test_an_atomic_save(self, develop: Develop, site: Path) -> None:
        server = develop()
        temporary = site / ".main.py.swp"
        temporary.write_text(APP.replace('"one"', '"two"'))
        temporary.replace(site / "main.py")
        server.wait_for("Reloading: main.py changed")
        server.wait_for_ready(1, 2)
        assert server.get()[3] == "two"

    def test_many_files_are_one_reload(self, develop: Develop, site: Path) -> None:
        server = develop("--reload-delay", "1")
        for number in range(200):
            folder = site / f"package{number % 7}"
            folder.mkdir(exist_ok=True)
            (folder / f"module{number}.py").write_text("A = 1\n")
        save(site, "two")
        server.wait_for(r"Reloading: main.py, package0/module0.py, package0/module105.py and \d+ more changed")
        server.wait_for_ready(1, 2)
        assert server.get()[3] == "two"
        save(site, "three")
        server.wait_for("Reloading: main.py changed")
        server.wait_for_ready(1, 3)

    def test_only_files_that_are_meant(self, develop: Develop, site: Path) -> None:
        server = develop("--reload-include", "*.html", "--reload-exclude", "generated_*.py")
        for name in ("notes.txt", ".hidden.py", "generated_code.py", ".venv/lib.py", "__pycache__/main.py"):
            (site / name).parent.mkdir(exist_ok=True)
            (site / name).write_text("A = 1\n")
        (site / "page.html").write_text("hello")
        assert server.wait_for("Reloading: (.*) changed")[1] == "page.html"
        server.wait_for_ready(1, 2)

    def test_another_directory_and_a_single_file(self, develop: Develop, site: Path, tmp_path: Path) -> None:
        for name in ("library", "data"):
            (site / name).mkdir()
        words = site / "data" / "words.txt"
        server = develop("--reload-dir", "library", "--reload-extra-file", str(words))
        save(site, "two")
        (site / "library" / "tools.py").write_text("A = 1\n")
        assert server.wait_for("Reloading: (.*) changed")[1] == "library/tools.py"
        server.wait_for_ready(1, 2)
        words.write_text("hello")
        assert server.wait_for("Reloading: (.*) changed")[1] == "data/words.txt"
        server.wait_for_ready(1, 3)

    def test_the_configuration_file(self, develop: Develop, site: Path) -> None:
        config = site / "site.conf"
        config.write_text("headers = [('x-from', 'before')]\n")
        server = develop("-c", "site.conf")
        config.write_text("headers = 1\n")
        server.wait_for("Reload refused: .*headers = 1")
        config.write_text("headers = [('x-from', 'after')]\n")
        server.wait_for("Reloading: site.conf changed")
        server.wait_for_ready(1, 2)
        with ask(server) as client:
            assert b"x-from: after\r\n" in read_all(client)

    def test_bytecode_of_what_was_saved_before_in_the_same_second(self, start: Start, site: Path, engine: str) -> None:
        helper = site / "helper.py"
        (site / "main.py").write_text(APP.replace('"one"', "__import__('helper').WORD"))

        def write(word: str, nanoseconds: int) -> None:
            temporary = site / "helper.tmp"
            temporary.write_text(f"WORD = {word!r}\n")
            os.utime(temporary, ns=(1_700_000_000_000_000_000 + nanoseconds,) * 2)
            temporary.replace(helper)

        write("aa", 0)
        server = start("--reload", "--reload-engine", engine, env={"PYTHONDONTWRITEBYTECODE": ""})
        server.wait_for_each("Watching", "Generation 1 serves with 1 of 1 worker")
        assert server.get()[3] == "aa"
        assert list(site.glob("__pycache__/helper.*.pyc"))
        write("bb", 1000)
        server.wait_for_ready(1, 2)
        assert server.get()[3] == "bb"


class TestMeanwhile:
    def test_nobody_meets_the_old_code_while_the_new_is_imported(self, develop: Develop, site: Path) -> None:
        server = develop()
        os.mkfifo(site / "gate")
        (site / "main.py").write_text("open('gate').read()\n" + APP.replace('"one"', '"two"'))
        server.wait_for("Reloading: main.py changed")
        with open(site / "gate", "w"), ask(server) as client:  # opened once the import has come to it
            pass_by = ask(server)
        with ask(server) as client, pass_by:
            assert release_of(read_all(client)) == "two"
            assert release_of(read_all(pass_by)) == "two"

    def test_a_client_that_asks_on_and_on_loses_nothing_and_never_goes_back(self, develop: Develop, site: Path) -> None:
        server = develop()
        seen = [server.get()[3]]
        for release in ("two", "three", "four"):
            save(site, release)
            while seen[-1] != release:
                with ask(server) as client:
                    seen.append(release_of(read_all(client)))
        assert list(dict.fromkeys(seen)) == ["one", "two", "three", "four"]
        assert seen == sorted(seen, key=["one", "two", "three", "four"].index)

    def test_open_connections_do_not_delay_it(self, develop: Develop, site: Path) -> None:
        server = develop()
        with ask(server, KEEP) as idle, server.request_in_flight() as busy:
            assert idle.recv(65536).endswith(b" one")
            save(site, "two")
            server.wait_for_ready(1, 2)
            assert server.get()[3] == "two"
            assert idle.recv(65536) == b"", "closed before the new code was there"
            server.wait_for('Cut short: "POST /begin"')
            assert read_all(busy) == b""

    def test_a_request_in_hand_is_finished(self, develop: Develop, site: Path) -> None:
        server = develop("--graceful-timeout", "30")
        with server.request_in_flight() as busy:
            save(site, "two")
            server.wait_for_ready(1, 2)
            answer = finish(busy)
        assert release_of(answer) == "one"
        assert b"connection: close" in answer.lower()

    def test_a_worker_that_hangs_does_not_delay_it(self, develop: Develop, site: Path) -> None:
        server = develop()
        with ask(server, b"GET /block HTTP/1.1\r\nHost: test\r\n\r\n") as hanging:
            server.wait_for("blocking")
            save(site, "two")
            server.wait_for_ready(1, 2)
            assert server.get()[3] == "two"
            server.wait_for(r"did not end within 1 \+ 1 s of being told to drain: killed")
            assert read_all(hanging) == b""


class TestSomethingTaken:
    def test_a_port_that_the_application_takes_while_it_is_imported(self, develop: Develop, site: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        taking = f"import socket\nMETRICS = socket.create_server(('127.0.0.1', {port}))\n"
        (site / "main.py").write_text(taking + APP)
        server = develop()
        (site / "main.py").write_text(taking + APP.replace('"one"', '"two"'))
        server.wait_for(
            "The old worker may have had what the new code needs .*Address already in use.*: trying it alone"
        )
        server.wait_for_ready(1, 2)
        assert server.get()[3] == "two"
        assert "refused" not in server.output


class TestBrokenCode:
    def test_an_error_is_shown_once_and_the_old_code_serves_on(self, develop: Develop, site: Path) -> None:
        server = develop()
        (site / "main.py").write_text(BROKEN)
        server.wait_for("Reload refused: importing 'main' failed: SyntaxError")
        server.wait_for(r"The code from before serves on \(generation 1\) until files change")
        assert server.get()[3] == "one"
        (site / "notes.txt").write_text("")
        save(site, "two")
        server.wait_for("Generation 3 serves")
        assert server.get()[3] == "two"
        assert server.output.count("SyntaxError") == 2, "the reason, and the traceback"
        assert "palfrey/" not in server.output

    @with_each_engine
    def test_a_first_start_waits_for_the_file_to_change(self, start: Start, site: Path, engine: str) -> None:
        (site / "main.py").write_text("import nothing_like_this\n")
        server = start("--reload", "--reload-engine", engine)
        server.wait_for_each("Watching", "Waiting for files to change")
        with ask(server) as client:
            (site / "main.py").write_text("1 / 0\n")
            server.wait_for("Reload refused: .*ZeroDivisionError")
            server.wait_for("Nothing serves until files change; connections wait")
            save(site, "mended")
            assert release_of(read_all(client)) == "mended"
        assert server.output.count("ModuleNotFoundError") == 2

    def test_a_worker_that_dies_while_it_boots_is_not_tried_again_and_again(
        self, start: Start, site: Path, engine: str
    ) -> None:
        (site / "main.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
        server = start("--reload", "--reload-engine", engine)
        server.wait_for_each("Watching", "was killed by SIGKILL; its slot is filled again when files have changed")
        save(site, "mended")
        server.wait_for_ready(1, 2)
        assert server.output.count("was killed by") == 1

    def test_an_import_that_hangs_is_given_up_when_files_change(self, start: Start, site: Path, engine: str) -> None:
        (site / "main.py").write_text("import os, time\nos.write(2, b'importing\\n')\ntime.sleep(600)\n")
        server = start("--reload", "--reload-engine", engine)
        server.wait_for_each("Watching", "importing")
        save(site, "mended")
        server.wait_for_ready(1, 2)
        assert server.get()[3] == "mended"

    def test_a_worker_that_crashes_while_it_serves_is_replaced(self, develop: Develop) -> None:
        server = develop()
        with ask(server, b"GET /exit HTTP/1.1\r\nHost: test\r\n\r\n") as client:
            assert read_all(client) == b""
        server.wait_for("its slot is filled again at once")
        assert server.get()[1] == "1"


class TestTheEnd:
    def test_at_once_although_a_request_is_in_hand(self, develop: Develop) -> None:
        server = develop()
        with server.request_in_flight() as busy:
            server.signal(signal.SIGINT)
            assert server.wait() == 0
            assert read_all(busy) == b""

    def test_a_worker_that_hangs_is_given_a_second(self, develop: Develop) -> None:
        server = develop()
        with ask(server, b"GET /block HTTP/1.1\r\nHost: test\r\n\r\n") as hanging:
            server.wait_for("blocking")
            server.signal(signal.SIGINT)
            server.wait_for("did not end within 1 s: killed")
            assert server.wait() == 0
            assert read_all(hanging) == b""

    def test_the_second_time_nobody_is_waited_for(self, develop: Develop, site: Path) -> None:
        (site / "slow.py").write_text(
            "import asyncio, os\n"
            "async def app(scope, receive, send):\n"
            "    assert scope['type'] == 'lifespan'\n"
            "    await receive()\n"
            "    await send({'type': 'lifespan.startup.complete'})\n"
            "    await receive()\n"
            "    os.write(2, b'shutting down\\n')\n"
            "    await asyncio.sleep(600)\n"
        )
        server = develop(app="slow:app")
        server.signal(signal.SIGINT)
        server.wait_for("shutting down")
        with pytest.raises(subprocess.TimeoutExpired):  # longer than an echo of the first
            server._process.wait(0.5)
        server.signal(signal.SIGINT)
        server.wait_for("is not waited for: killed")
        assert server.wait() == 0

    @with_each_engine
    def test_the_watcher_ends_with_the_arbiter(self, develop: Develop) -> None:
        server = develop()
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL

    @with_each_engine
    def test_a_watcher_that_dies_is_started_again(self, develop: Develop, site: Path) -> None:
        server = develop()
        (watcher,) = [
            child for child in psutil.Process(server.pid).children() if "watcher" in " ".join(child.cmdline())
        ]
        watcher.kill()
        server.wait_for("The file watcher was killed by SIGKILL; files are not watched until it runs again")
        server.wait_for("Watching")
        save(site, "two")
        server.wait_for_ready(1, 2)


class TestNumbers:
    def test_one_worker_serves(self, develop: Develop, site: Path) -> None:
        server = develop("--workers", "3")
        assert "workers = 3 (command line, --workers): with reload one worker serves (SIGTTIN adds more)" in (
            server.output
        )
        assert server.get()[2] == "1"
        save(site, "two")
        server.wait_for_ready(1, 2)
        assert server.output.count("workers = 3") == 1, "said at the start, not with each reload"


DEBUGGED = """\
async def app(scope, receive, send):
    assert scope["type"] == "http"
    word = "stepped"
    breakpoint()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": word.encode()})
"""


class TestTerminal:
    @pytest.fixture
    def screen(self, site: Path, engine: str) -> Screen:
        (site / "main.py").write_text(DEBUGGED)
        arguments = ("main:app", "--port", "0", "--reload", "--reload-engine", engine, "--no-access-log")
        return Screen(*arguments, cwd=site)

    @staticmethod
    def stop_at_the_breakpoint(screen: Screen) -> socket.socket:
        # All that is said at the start, in either order: a line of it may come amid the debugger's.
        screen.wait_for(r"(?s)Generation 1 serves.*Watching[^\n]*\n|Watching.*Generation 1 serves[^\n]*\n")
        listening = re.search(r"Listening on http://127.0.0.1:(\d+) \(press Ctrl-C to stop\)", screen.shown)
        assert listening is not None
        port = int(listening[1])
        client = socket.create_connection(("127.0.0.1", port), 30)
        client.sendall(REQUEST)
        screen.wait_for(r"\(Pdb\) ")
        return client

    def test_a_session_with_the_debugger(self, screen: Screen) -> None:
        with screen, self.stop_at_the_breakpoint(screen) as client:
            screen.enter("p word * 2\n")
            screen.wait_for("'steppedstepped'")
            screen.wait_for(r"\(Pdb\) ")
            screen.enter("word = 'changed in the debugger'\n")
            screen.wait_for(r"\(Pdb\) ")
            screen.enter("continue\n")
            assert read_all(client).endswith(b"changed in the debugger")
            screen.enter("\x03")
            assert screen.wait() == 0

    def test_ctrl_c_at_the_prompt_ends_and_gives_the_terminal_back(self, screen: Screen) -> None:
        before = screen.mode()
        with screen, self.stop_at_the_breakpoint(screen):
            screen.enter("\x03")
            screen.wait_for("did not end within 1 s: killed")
            assert screen.wait() == 0
            assert screen.mode() == before

    def test_a_window_that_is_closed_ends_the_server(self, screen: Screen) -> None:
        with screen:
            screen.wait_for("Generation 1 serves")
            screen.hang_up()
            assert screen.wait() == 0


class TestFromPython:
    @with_each_engine
    def test_an_import_string_has_its_neighbours_reloaded_too(self, start: Start, site: Path, engine: str) -> None:
        (site / "helper.py").write_text("WORD = 'one'\n")
        (site / "main.py").write_text(
            "import palfrey, helper\n"
            + APP.replace('RELEASE = "one"', "RELEASE = helper.WORD")
            .replace("ME = f", "ME = lambda: f")
            .replace("ME.encode()", "ME().encode()")
            + "if __name__ == '__main__':\n"
            f"    palfrey.run('main:app', port=0, reload=True, reload_engine={engine!r})\n"
        )
        server = start(app="main.py", port="", command=(sys.executable,))
        server.wait_for_each("Watching", "Generation 1 serves with 1 of 1 worker")
        (site / "helper.py").write_text("WORD = 'two!'\n")
        server.wait_for_ready(1, 2)
        assert server.get()[3] == "two!"

    def test_an_object_says_what_to_do(self, site: Path) -> None:
        import palfrey
        from palfrey.errors import ConfigError

        async def app(scope: object, receive: object, send: object) -> None: ...

        with pytest.raises(ConfigError, match=r'reload needs an import string: palfrey.run\("main:app", reload='):
            palfrey.run(app, reload=True)  # type: ignore[arg-type]
