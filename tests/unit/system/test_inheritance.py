"""What passes from an arbiter to the next through one variable, and what must not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palfrey.system.channel import Channel, channel_pair
from palfrey.system.inheritance import VARIABLE, Inheritance, bequeath, receive
from palfrey.system.sockets import Listener, open_listeners, parse_bind


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[list[Listener]]:
    made = open_listeners([parse_bind("127.0.0.1:0"), parse_bind(f"unix:{tmp_path / 'x.sock'}")], 8)
    yield made
    for listener in made:
        listener.close(unlink=True)


@pytest.fixture
def line() -> Iterator[tuple[Channel, Channel]]:
    ends = channel_pair()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def stderr() -> Iterator[int]:
    """A copy of descriptor 2, which is put back: what is received takes its place."""
    copy, kept = os.dup(2), os.dup(2)
    yield copy
    os.dup2(kept, 2)
    os.close(kept)


def left(listeners: list[Listener], channel: Channel, stderr: int, **changes: Any) -> str:
    text = bequeath(
        # The copies stand for the same descriptors in another process.
        channel=os.dup(channel.fileno()),
        stderr=stderr,
        generation=7,
        workers=(2, 3),
        pidfile="/run/palfrey.pid",
        listeners=listeners,
        predecessor=99,
    )
    found = json.loads(text)
    for entry in found["listeners"]:
        entry["fd"] = os.dup(entry["fd"])
    return json.dumps(found | changes)


def taken(environ: dict[str, str]) -> Inheritance:
    found = receive(environ)
    assert found is not None
    return found


def test_all_of_it(listeners: list[Listener], line: tuple[Channel, Channel], stderr: int, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    environ = {VARIABLE: left(listeners, line[1], stderr), "OTHER": "x"}
    found = taken(environ)
    assert environ == {"OTHER": "x"}, "nobody below finds it"
    assert (found.predecessor, found.generation, found.workers, found.pidfile) == (99, 7, (2, 3), "/run/palfrey.pid")
    for one, other in zip(listeners, found.listeners, strict=True):
        assert (one.address, one.url, one.file) == (other.address, other.url, other.file)
        assert not os.get_inheritable(other.fileno())
        assert not other.sock.getblocking()
    found.failed("no", "because")
    assert line[0].receive() == [{"kind": "failed", "reason": "no", "detail": "because"}]
    assert not os.get_inheritable(found.channel.fileno())
    found.channel.close()
    for other in found.listeners:
        other.close()


def test_a_socket_file_of_somebody_else_is_not_removed(
    listeners: list[Listener], line: tuple[Channel, Channel], stderr: int, tmp_path: Path
) -> None:
    text = left(listeners, line[1], stderr)
    (tmp_path / "x.sock").unlink()
    (other,) = open_listeners([parse_bind(f"unix:{tmp_path / 'x.sock'}")], 8)
    found = taken({VARIABLE: text})
    for one in found.listeners:
        one.close(unlink=True)
    found.channel.close()
    assert (tmp_path / "x.sock").exists()
    other.close(unlink=True)


def test_keys_of_other_versions_are_passed_over(
    listeners: list[Listener], line: tuple[Channel, Channel], stderr: int
) -> None:
    document = json.loads(left(listeners, line[1], stderr, new="x"))
    for entry in document["listeners"]:
        entry["address"]["new"] = "x"
    found = taken({VARIABLE: json.dumps(document)})
    assert len(found.listeners) == 2
    found.channel.close()
    for one in found.listeners:
        one.close()


@pytest.mark.parametrize("text", ["", "null", "{}", "[]", "{", json.dumps({"pid": 1}), json.dumps({"pid": -1})])
def test_what_is_not_for_us_is_taken_away_and_nothing_else(text: str) -> None:
    environ = {VARIABLE: text}
    assert receive(environ) is None
    assert environ == {}


def test_one_that_was_simply_started() -> None:
    assert receive({}) is None


def test_systemds_sockets_go_their_own_way(listeners: list[Listener]) -> None:
    reader, writer = os.pipe()
    listeners[0].address = parse_bind("systemd:web")
    try:
        text = bequeath(
            channel=reader,
            stderr=writer,
            generation=1,
            workers=(1, 1),
            pidfile=None,
            listeners=listeners,
            predecessor=1,
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert [entry["address"]["kind"] for entry in json.loads(text)["listeners"]] == ["unix"]
    for listener in listeners:
        listener.sock.set_inheritable(False)
