"""Which connections a killed worker held: the only requests that a kill may cost.

A worker is stopped first, so that its set of sockets stands still, and what it holds is read from the kernel (by its
descriptors: a connection that waits in the accept queue belongs to nobody yet, and has to be served by another). A
connection is known by the client's port, and by the time: a port that is used again later is another connection.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil

STOPS_WITHIN = 30.0
"""Seconds for SIGSTOP to have had its effect: a process in a system call stops when that is over."""


class Graves:
    """The connections of the workers that were or will be killed. Written by one thread, read by another."""

    def __init__(self) -> None:
        self._ports: dict[int, float] = {}
        self.pids: dict[int, int] = {}
        """Of each victim, how many connections it held."""

    def bury(self, pid: int) -> bool:
        """Stops the process and takes down what it holds; the caller kills it, or lets it be killed. False when it was
        gone already."""
        if not stop(pid):
            return False
        ports = connections(pid)
        now = time.monotonic()
        self._ports.update(dict.fromkeys(ports, now))
        self.pids[pid] = len(ports)
        return True

    def claims(self, port: int, since: float) -> bool:
        """Whether this connection, of the client's port and made at `since` (monotonic), was inside a killed worker."""
        buried = self._ports.get(port)
        return buried is not None and since <= buried


def stop(pid: int) -> bool:
    """SIGSTOP, and wait until nothing of the process runs. False when it was or is gone."""
    deadline = time.monotonic() + STOPS_WITHIN
    try:
        os.kill(pid, signal.SIGSTOP)
        while not _stands_still(pid):
            if time.monotonic() > deadline:
                raise AssertionError(f"process {pid} does not stop")
            time.sleep(0.002)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
    return True


def connections(pid: int) -> list[int]:
    """The peers' ports of the TCP connections that a process holds."""
    held = psutil.Process(pid).net_connections("tcp")
    return [connection.raddr.port for connection in held if connection.raddr]


def _stands_still(pid: int) -> bool:
    process = psutil.Process(pid)
    status = process.status()
    if status in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
        raise psutil.NoSuchProcess(pid)
    if status != psutil.STATUS_STOPPED:
        return False
    with contextlib.suppress(FileNotFoundError):  # Linux: each thread stops by itself
        return all(_state(pid, thread.id) in {"T", "t"} for thread in process.threads())
    return True


def _state(pid: int, thread: int) -> str:
    with open(f"/proc/{pid}/task/{thread}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]
