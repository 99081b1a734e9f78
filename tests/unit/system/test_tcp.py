"""What the kernel knows of a TCP connection."""

from __future__ import annotations

import contextlib
import socket
import sys

import pytest

from palfrey.system import tcp
from palfrey.system.tcp import has_unread, outflow

linux = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")


@contextlib.contextmanager
def pair(receive_buffer: int = 0):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if receive_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        with socket.create_connection(listener.getsockname()) as ours:
            theirs, _ = listener.accept()
            with theirs:
                yield ours, theirs


@linux
def test_grows_as_the_peer_takes_what_was_sent():
    with pair() as (ours, theirs):
        before, pending = outflow(ours)
        assert not pending
        ours.sendall(bytes(1000))
        theirs.recv(1000, socket.MSG_WAITALL)
        theirs.sendall(b"x")  # carries the acknowledgement
        ours.recv(1)
        assert outflow(ours) == (before + 1000, False)


@linux
def test_stands_still_while_the_peer_does_not_read_and_goes_on_when_it_does():
    with pair(receive_buffer=4096) as (ours, theirs):
        ours.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += ours.send(bytes(65536))
        stood, pending = outflow(ours)
        assert 0 < stood < sent
        assert pending
        theirs.recv(sent - 1, socket.MSG_WAITALL)
        assert outflow(ours).taken > stood


def test_unknown_on_a_unix_socket_and_on_a_closed_one():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert outflow(ours) is None
    assert outflow(ours) is None


def test_unknown_where_the_kernel_says_less_or_the_system_is_another(monkeypatch):
    class Old:
        def getsockopt(self, *_):
            return bytes(104)

    assert outflow(Old()) is None
    monkeypatch.setattr(tcp.sys, "platform", "darwin")
    with pair() as (ours, _):
        assert outflow(ours) is None


def test_what_has_come_and_was_not_read():
    with pair() as (ours, theirs):
        assert not has_unread(ours)
        theirs.sendall(b"x")
        assert has_unread(ours)
        ours.recv(1)
        assert not has_unread(ours)
        theirs.close()
        assert has_unread(ours)
        ours.close()
        assert not has_unread(ours)
