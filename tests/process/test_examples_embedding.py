"""The examples that bring their server with them, as their users run them, and the one of ASGI 2 under `palfrey`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.processes import PATIENCE, Server

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


class Program:
    """An example as a program of its own, and a client."""

    def __init__(self, process: subprocess.Popen[str], client: httpx.Client) -> None:
        self.process = process
        self.client = client
        assert process.stdout is not None
        self.urls = re.findall(r"http://\S+", process.stdout.readline())

    def end(self) -> str:
        """What it says up to its end, which must be a good one."""
        said, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, said
        return said


@contextmanager
def program(name: str) -> Iterator[Program]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(EXAMPLES / name), "0"]
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as process,
        httpx.Client(trust_env=False, timeout=PATIENCE) as client,
    ):
        try:
            yield Program(process, client)
        finally:
            process.kill()


def test_the_tool_with_a_handler() -> None:
    with program("handler_tool.py") as tool:
        ask, (url,) = tool.client, tool.urls
        assert ask.post(f"{url}/store/a/b", content=b"one").status_code == 201
        assert ask.get(f"{url}/store/a/b").content == b"one"
        assert ask.post(f"{url}/store/c", content=b"two").status_code == 201
        assert ask.get(f"{url}/store").text == "a/b\nc\n"
        assert ask.get(f"{url}/store?prefix=a").text == "a/b\n"
        assert ask.delete(f"{url}/store/c").status_code == 204
        assert ask.get(f"{url}/store/c").status_code == 404
        assert ask.get(f"{url}/").status_code == 404
        assert ask.get(f"{url}/count?to=3&pause=0").text == "1\n2\n3\n"
        assert ask.get(f"{url}/count?to=many").status_code == 500
        assert ask.post(f"{url}/stop").text == "bye\n"
        said = tool.end()
    assert "ValueError: invalid literal for int()" in said
    assert said.count("Traceback") == 1


def test_the_tool_ends_by_ctrl_c() -> None:
    with program("handler_tool.py") as tool:
        assert tool.client.get(f"{tool.urls[0]}/store").status_code == 200
        tool.process.send_signal(signal.SIGINT)
        assert tool.end() == ""


def test_the_program_with_servers_in_it() -> None:
    with program("embedded.py") as worker:
        ask, (inside, outside) = worker.client, worker.urls
        assert ask.get(inside).json() == {"waiting": 0, "done": 0}
        assert ask.post(outside).json() == {"waiting": 1, "done": 0}
        assert ask.get(inside).json() == {"waiting": 0, "done": 1}
        ask.close()  # a connection that is kept would be waited for
        worker.process.terminate()
        assert worker.end() == "All answered, goodbye\n"


def test_the_tests_of_an_application() -> None:
    """With pytest as it comes: this package's own entry point may not be installed where these tests run."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "palfrey.pytest_plugin",
        str(EXAMPLES / "test_application.py"),
    ]
    # urllib heeds the proxies of the environment, which know nothing of this machine's own addresses.
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{EXAMPLES}",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "no_proxy": "*",
    }
    done = subprocess.run(
        [*command, "-c", os.devnull, "-p", "no:cacheprovider"],
        cwd=EXAMPLES,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_asgi_2() -> None:
    with Server("asgi2_app:application", "--port", "0", cwd=EXAMPLES, env={"PYTHONPATH": str(ROOT)}) as server:
        server.wait_for_ready(1)
        answer = httpx.get(f"http://127.0.0.1:{server.port}/path", trust_env=False)
        assert answer.text == "GET /path, by ASGI 2.0\n"
