"""Stacks on a signal, in processes of their own: a handler is for the whole process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from palfrey.system.dump import is_stopped

BEGIN = """
import faulthandler, os, signal, sys, threading, time
from palfrey.system.dump import dump_on_abort, dump_on_request, write_lines

def then(signum, frame):
    write_lines(2, ["then"])

def me(signum):
    os.kill(os.getpid(), signum)
"""


def run(script: str) -> tuple[int, str]:
    """The exit status and what was written to standard error."""
    done = subprocess.run([sys.executable, "-c", BEGIN + script], stderr=subprocess.PIPE, timeout=60, check=False)
    return done.returncode, done.stderr.decode()


def test_shown_twice_and_gone_on() -> None:
    status, text = run(
        """
dump_on_request(2, then)
def here():
    me(signal.SIGUSR2)
here()
here()
sys.exit(5)
"""
    )
    assert status == 5
    assert text.count("in here\n") == 2
    assert text.count("\nthen\n") == 2
    assert text.index("in here") < text.index("then"), "the stacks come first"


def test_a_wait_for_a_lock_is_interrupted_for_the_handler_time_and_again() -> None:
    status, text = run(
        """
lock = threading.Lock()
lock.acquire()
heard = 0
def then(signum, frame):
    global heard
    heard += 1
    if heard == 3:
        os._exit(7)
def ask():
    while True:
        time.sleep(0.05)
        me(signal.SIGUSR2)
dump_on_request(2, then)
threading.Thread(target=ask, daemon=True).start()
lock.acquire()
"""
    )
    assert status == 7
    assert text.count("in ask\n") == 3, "all threads are shown"


def test_armed_anew_after_the_application_has_changed_it() -> None:
    status, text = run(
        """
dump_on_request(2, then)
signal.signal(signal.SIGUSR2, signal.SIG_DFL)
dump_on_request(2, then)
me(signal.SIGUSR2)
sys.exit(5)
"""
    )
    assert status == 5
    assert "most recent call first" in text
    assert "then" in text


def test_a_handler_of_the_applications_own_stays() -> None:
    status, text = run(
        """
dump_on_request(2, then)
signal.signal(signal.SIGUSR2, lambda *_: write_lines(2, ["theirs"]))
dump_on_request(2, then)
me(signal.SIGUSR2)
sys.exit(5)
"""
    )
    assert status == 5
    assert "most recent call first" in text
    assert "theirs" in text
    assert "\nthen\n" not in text


def test_abort_shows_and_then_does_what_it_is_told() -> None:
    status, text = run(
        """
dump_on_abort(2)
dump_on_abort(2, lambda signum, frame: (then(signum, frame), os._exit(9)))
me(signal.SIGABRT)
time.sleep(60)
"""
    )
    assert status == 9
    assert text.count("most recent call first") == 1
    assert "\nthen\n" in text


def test_abort_without_more_ends_the_process() -> None:
    status, text = run("dump_on_abort(2)\nme(signal.SIGABRT)\n")
    assert status == -signal.SIGABRT
    assert "most recent call first" in text


def test_lines_that_nobody_reads() -> None:
    status, _ = run("write_lines(99, ['lost'])\nsys.exit(5)\n")
    assert status == 5


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_whether_a_process_is_stopped() -> None:
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    try:
        assert not is_stopped(pid)
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        assert is_stopped(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not is_stopped(pid)
