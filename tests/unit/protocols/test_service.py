"""What the connections of a worker share: the registry, the sweep, and the limit on requests in flight."""

from __future__ import annotations

import asyncio

from palfrey.config.settings import Settings
from palfrey.observe.access import AccessLog
from palfrey.protocols.service import NEVER, Service, service_unavailable
from tests.support.inprocess import echo, looped


class Connection:
    def __init__(self, deadline: float = NEVER) -> None:
        self.deadline = deadline
        self.expired = 0

    def expire(self) -> None:
        self.expired += 1

    def cut(self) -> str | None:
        return None


def make(**settings) -> Service:
    return Service(Settings(**settings), echo, asyncio.get_running_loop(), AccessLog.off(), {}, None)


@looped
async def test_the_sweep_calls_those_whose_time_is_up():
    service = make()
    late, early, never = Connection(0.0), Connection(100.0), Connection()
    service.connections |= {late, early, never}
    service.tick()
    assert (late.expired, early.expired, never.expired) == (1, 0, 0)


@looped
async def test_no_time_is_cut_short_by_the_part_of_a_sweep_in_which_it_began():
    service = make()
    service.tick()
    connection = Connection(service.clock + 2)
    service.connections.add(connection)
    service.tick()
    service.tick()
    assert connection.expired == 0
    service.tick()
    assert connection.expired == 1


@looped
async def test_a_loop_that_was_blocked_has_not_used_up_anybodys_time():
    service = make()
    service.tick(0.25)
    service.tick(0.25)
    assert service.clock == 0.5


@looped
async def test_each_connection_that_goes_is_told_to_whoever_waits_for_room():
    service = make()
    told = []
    service.make_room()
    service.on_room = lambda: told.append(1)
    service.forget(Connection())
    service.forget(Connection())
    assert told == [1, 1]
    service.on_room = None
    service.forget(Connection())
    assert told == [1, 1]


@looped
async def test_the_sweep_bears_connections_that_go_meanwhile():
    service = make()

    class Goes(Connection):
        def expire(self) -> None:
            for connection in list(service.connections):
                service.forget(connection)

    service.connections |= {Goes(0.0) for _ in range(5)}
    service.tick()
    assert not service.connections


@looped
async def test_waiting_until_empty():
    service = make()
    await service.wait_until_empty()
    connections = [Connection(), Connection()]
    service.connections.update(connections)
    waiting = asyncio.ensure_future(service.wait_until_empty())
    await asyncio.sleep(0)
    service.forget(connections[0])
    await asyncio.sleep(0)
    assert not waiting.done()
    service.forget(connections[1])
    service.forget(connections[1])
    await waiting


@looped
async def test_concurrency():
    service = make(limit_concurrency=1)
    assert service.application() is service.app
    service.running.add(object())
    assert service.application() is service_unavailable
    assert make().application() is echo


@looped
async def test_limits_that_are_off():
    off = (
        "limit_request_line",
        "limit_request_fields",
        "limit_request_field_size",
        "timeout_request_header",
        "timeout_write",
    )
    service = make(root_path="/", **dict.fromkeys(off, 0))
    assert service.limit_line == service.limit_field == service.limit_head
    assert service.header_timeout == service.write_timeout == NEVER
    assert service.root_path == ""


@looped
async def test_draining_ends_persistence():
    service = make()
    assert service.persistent
    service.begin_draining()
    assert service.draining
    assert not service.persistent
