"""The command that started us, as it would be typed again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from palfrey.system.invocation import Invocation, command

PYTHON = sys.executable


def script(place: Path, text: str, mode: int = 0o755) -> str:
    path = place / "palfrey"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_module_is_started_as_a_module() -> None:
    given = [PYTHON, "-m", "palfrey", "main:app"]
    assert command(given, ["/lib/palfrey/__main__.py", "main:app"]) == tuple(given)


def test_a_program_in_path_is_left_to_be_looked_up_again() -> None:
    assert command(["sh", "-m", "palfrey"], ["/lib/palfrey/__main__.py"])[0] == "sh"


@pytest.mark.parametrize(
    ("head", "interpreter", "options"),
    [
        (f"#!{PYTHON}\n", PYTHON, []),
        (f"#! {PYTHON} -E\n", PYTHON, ["-E"]),
        ("#!/usr/bin/env python3\n", "python3", []),
        (f"#!/bin/sh\n'''exec' \"{PYTHON}\" \"$0\" \"$@\"\n' '''\n", PYTHON, []),
    ],
)
def test_a_script_is_called_by_its_own_name(tmp_path: Path, head: str, interpreter: str, options: list[str]) -> None:
    path = script(tmp_path, head + "main()\n")
    assert command([interpreter, *options, path, "-w", "2"], [path, "-w", "2"]) == (path, "-w", "2")


@pytest.mark.parametrize(("text", "mode"), [("main()\n", 0o755), (f"#!{PYTHON}\nmain()\n", 0o644)])
def test_a_file_that_cannot_be_called_is_given_to_its_interpreter(tmp_path: Path, text: str, mode: int) -> None:
    path = script(tmp_path, text, mode)
    assert command([PYTHON, path], [path]) == (PYTHON, path)


def test_an_interpreter_of_the_users_choice_stays(tmp_path: Path) -> None:
    path = script(tmp_path, "#!/another/python\nmain()\n")
    assert command([PYTHON, path], [path]) == (PYTHON, path)


def test_a_script_that_is_gone(tmp_path: Path) -> None:
    path = str(tmp_path / "gone")
    assert command([PYTHON, path], [path]) == (PYTHON, path)


def test_a_name_that_means_nothing_is_replaced_by_the_interpreters() -> None:
    assert command(["a name for ps", "-m", "palfrey"], ["/lib/__main__.py"]) == (PYTHON, "-m", "palfrey")


@pytest.mark.parametrize(("arguments", "program"), [([], ["x"]), ([PYTHON], [""]), ([PYTHON, "-"], ["-"]), ([], [])])
def test_there_is_nothing_to_start_again(arguments: list[str], program: list[str]) -> None:
    assert command(arguments, program) == ()


def test_what_is_taken(tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(tmp_path)
    code = (
        "import os\nfrom palfrey.system.invocation import Invocation\nos.umask(0o27)\ntaken = Invocation.taken()\n"
        "os.environ['LATER'] = 'x'\nprint(taken.directory, oct(taken.umask), taken.environment['PWD'],"
        " 'LATER' in taken.environment, oct(os.umask(0)), taken.command[1:])"
    )
    told = subprocess.run(
        [PYTHON, "-c", code], cwd=link, env={**os.environ, "PWD": str(link)}, check=True, capture_output=True, text=True
    ).stdout
    assert told.startswith(f"{link} 0o27 {link} False 0o27 ('-c', ")


def test_what_cannot_be_executed_is_named(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            Invocation(("no such program",), {}, str(tmp_path), 0o22).execute({"PATH": str(tmp_path)})
        except OSError as error:
            os._exit(7 if error.filename == "no such program" else 8)
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_where_it_is_executed(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            Invocation(("sh", "-c", 'echo "$WHO $(umask)" > out'), {}, str(tmp_path), 0o27).execute(
                {"PATH": os.environ["PATH"], "WHO": "me"}
            )
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (tmp_path / "out").read_text() == "me 0027\n"
