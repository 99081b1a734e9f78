"""Real daemons and real drops of privileges, each in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = "import os, sys, socket, signal\nfrom palfrey.system.process import daemonize, drop_privileges\n"
# What a daemon says about itself.
IDENTITY = (
    "(os.getpid(), os.getppid(), os.getsid(0), os.getpgid(0), [os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)])"
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")


def run(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run to the end of the command and of every process that holds its stdio."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + script, *args],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )


# Daemons ------------------------------------------------------------------------------------------------------------


@linux
def test_the_command_waits_until_the_daemon_is_ready(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        done = run(
            "launcher = daemonize()\n"
            "line = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
            "launcher.ready()\n"
            "line.recv(1)\n"  # by then the process between the two, which has the command's stdio, has ended
            f"line.sendall(repr({IDENTITY}).encode())\n"
            "line.recv(1)\n",
            str(server.getsockname()[1]),
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        line, _ = server.accept()
        with line:
            line.sendall(b"?")
            pid, parent, session, group, stdio = eval(line.recv(1000))
            assert session == group
            assert session not in (pid, os.getsid(0))  # not a session's leader: it can get no terminal
            assert parent not in (os.getpid(), session)
            assert stdio == ["/dev/null"] * 3
            line.settimeout(20)
            line.sendall(b"x")
            assert line.recv(1) == b""  # it has ended


def test_the_command_shows_the_daemons_failure() -> None:
    done = run("daemonize().failed(3, 'no such app\\nTraceback ...')\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "no such app\nTraceback ...\n")


def test_a_long_failure_arrives_whole() -> None:
    done = run("daemonize().failed(3, 'x' * 200_000)\n")
    assert (done.returncode, len(done.stderr)) == (3, 200_001)


def test_the_command_fails_when_the_daemon_dies_without_a_word() -> None:
    done = run("daemonize()\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert done.returncode == 1
    assert done.stderr == "palfrey: the server ended before it was ready; see its error log\n"


def test_what_was_printed_before_is_printed_once() -> None:
    done = run("print('hello')\ndaemonize().ready()\n")
    assert done.stdout == "hello\n"


@linux
def test_an_interrupted_command_leaves_the_daemon_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        script = (
            "command = os.getpid()\n"
            "launcher = daemonize()\n"
            "line = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
            "os.kill(command, signal.SIGINT)\n"
            "line.recv(1)\n"
            "launcher.ready()\n"
            "line.sendall(b'alive')\n"
        )
        done = run("signal.signal(signal.SIGINT, signal.default_int_handler)\n" + script, str(server.getsockname()[1]))
        assert done.returncode == 1
        assert done.stderr == "palfrey: the server goes on starting in the background\n"
        line, _ = server.accept()
        with line:
            line.settimeout(20)
            line.sendall(b"x")
            assert line.recv(10) == b"alive"


# Privileges ---------------------------------------------------------------------------------------------------------


@root
def test_drop_to_an_account() -> None:
    import pwd

    nobody = pwd.getpwnam("nobody")
    done = run("drop_privileges('nobody', None)\nprint(os.getresuid(), os.getresgid(), os.getgroups())\n")
    assert done.stderr == ""
    assert done.stdout == (
        f"{(nobody.pw_uid,) * 3} {(nobody.pw_gid,) * 3} {os.getgrouplist('nobody', nobody.pw_gid)}\n"
    )


@root
def test_drop_to_numbers() -> None:
    done = run("drop_privileges('1234', '2345')\nprint(os.getresuid(), os.getresgid(), os.getgroups())\n")
    assert done.stdout == "(1234, 1234, 1234) (2345, 2345, 2345) [2345]\n"


@root
def test_drop_the_group_only() -> None:
    done = run("drop_privileges(None, '2345')\nprint(os.getresuid(), os.getresgid(), os.getgroups())\n")
    assert done.stdout == "(0, 0, 0) (2345, 2345, 2345) [2345]\n"


@root
def test_drop_twice_and_never_back() -> None:
    done = run(
        "drop_privileges('1234', '2345')\n"
        "drop_privileges('1234', '2345')\n"
        "try:\n    drop_privileges('0', '0')\n"
        "except Exception as error:\n    print(error)\n"
    )
    assert done.stdout == "only root may switch to user '0'; start as root, or leave user and group unset\n"


# Standard streams ---------------------------------------------------------------------------------------------------


@linux
def test_closed_standard_streams_become_dev_null_and_open_ones_stay() -> None:
    script = (
        "import os, sys; from palfrey.system.process import fill_standard_streams\n"
        "fill_standard_streams()\n"
        "print('to nobody')\n"
        "print([os.readlink(f'/proc/self/fd/{n}') for n in (0, 1)], os.get_inheritable(1), file=sys.stderr)\n"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -W error -c "$1" <&- >&-', sys.executable, script],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "['/dev/null', '/dev/null'] True\n")
