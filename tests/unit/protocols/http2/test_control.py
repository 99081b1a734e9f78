"""Frames that carry neither a request nor content: what they change, and that they change no more than that."""

from __future__ import annotations

import asyncio

import pytest

from palfrey.protocols.http2.stream import Stream
from tests.support.http2 import Client
from tests.support.http2driven import Hanging, MemoryLink, connected
from tests.support.http2frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    Kind,
    Setting,
    data,
    frame,
    headers,
    priority_update,
    settings,
)
from tests.support.inprocess import http, logged, looped, read_body, respond


@http
async def hello(scope, receive, send):
    await respond(send, b"hello")


# What is kept -------------------------------------------------------------------------------------------------------


@looped
async def test_priorities_of_streams_to_come_take_no_room():
    link, client = await connected(hello)
    await client.send(*(priority_update(2 * number + 1, b"u=1 " + b"x" * 16000) for number in range(1000, 1200)))
    await client.roundtrip()
    kept = link.connection._priorities
    assert len(kept) == 100
    assert all(value == (3, False) for value in kept.values())


@looped
async def test_the_last_word_on_a_stream_to_come_counts_even_when_there_is_no_room_for_more():
    link, client = await connected(hello)
    await client.send(*(priority_update(2 * number + 1, b"u=1") for number in range(1000, 1100)))
    await client.send(priority_update(2001, b"u=5, i"))
    await client.roundtrip()
    assert link.connection._priorities[2001] == (5, True)


# Settings -----------------------------------------------------------------------------------------------------------


@looped
async def test_windows_change_once_for_each_settings_frame(monkeypatch):
    """Thousands of changes in one frame, for each of the streams, would take seconds."""
    hanging = Hanging()
    link, client = await connected(hanging.app)
    stream = link.connection.streams[await client.request()]
    changes: list[int] = []
    widen = Stream.widen

    def count(self: Stream, change: int) -> None:
        changes.append(change)
        widen(self, change)

    monkeypatch.setattr(Stream, "widen", count)
    sizes = [(Setting.INITIAL_WINDOW_SIZE, size) for size in (0, 1 << 20, 5, 100)] * 500
    await client.send(settings(*sizes), settings((Setting.INITIAL_WINDOW_SIZE, 100)))
    await client.roundtrip()
    assert changes == [100 - 65535]
    assert stream.send_window == link.connection.initial_send_window == 100
    hanging.let_go.set()
    await link.idle()


async def early(window: int) -> tuple[MemoryLink, Client, asyncio.Event, list[int]]:
    """A client that has not acknowledged the server's settings, and an application that reads when it may."""
    may, took = asyncio.Event(), []

    @http
    async def app(scope, receive, send):
        await may.wait()
        took.append(len(await read_body(receive)))
        await respond(send, b"done")

    link = MemoryLink(app, http2_initial_window_size=window)
    client = Client(link)
    await link.write(PREFACE + settings())
    return link, client, may, took


@looped
async def test_a_client_that_does_not_know_of_a_small_window_yet_may_use_the_usual_one():
    """RFC 9113 section 6.5.3: as curl does, whose first flight has content in it."""
    link, client, may, took = await early(1024)
    await client.send(headers(1, client.block(client.fields("POST")), END_HEADERS))
    await client.send(*[data(1, bytes(15_000))] * 4, data(1, b"x", END_STREAM))
    may.set()
    await link.idle()
    assert took == [60_001]


@pytest.mark.parametrize("opened", ["before", "behind"])
@looped
async def test_from_its_acknowledgement_on_the_small_window_holds(opened: str):
    link, client, may, _ = await early(1024)
    request = headers(1, client.block(client.fields("POST")), END_HEADERS)
    acknowledgement = frame(Kind.SETTINGS, ACK)
    await client.send(*([request, acknowledgement] if opened == "before" else [acknowledgement, request]))
    await client.send(data(1, bytes(1024)))
    await link.settle()
    assert link.connection.streams[1].receive_window == 0
    with logged():
        await client.send(data(1, b"x"))
        await link.settle()
    assert link.connection.streams == {}
    may.set()
    await link.idle()


@looped
async def test_windows_that_the_acknowledgement_makes_negative_open_as_content_is_taken():
    link, client, may, _ = await early(1024)
    await client.send(headers(1, client.block(client.fields("POST")), END_HEADERS), data(1, bytes(15_000)))
    await client.send(frame(Kind.SETTINGS, ACK))
    stream = link.connection.streams[1]
    assert stream.receive_window == 1024 - 15_000
    may.set()
    await link.settle()
    assert stream.receive_window == 1024
    await client.send(data(1, bytes(1024), END_STREAM))
    await link.idle()
    assert link.connection.receive_window + link.connection._owed == 1 << 20
