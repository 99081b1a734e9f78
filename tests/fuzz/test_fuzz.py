"""A bounded number of streams in every run, over fakes and over sockets. `python -m tests.fuzz` looks further."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from tests.corpus.legal import LEGAL
from tests.corpus.refused import REFUSED
from tests.fuzz import frames, http2
from tests.fuzz.__main__ import fuzz
from tests.fuzz.http2judge import Http2Judge
from tests.fuzz.judge import Judge
from tests.fuzz.mutate import MUTATIONS, cuts, generate
from tests.fuzz.readers import by_h11, by_llhttp
from tests.support import sockets
from tests.support.frames import read_frames, text, upgrade
from tests.support.inprocess import echo, logged, serving
from tests.support.properties import examples
from tests.support.rawhttp import Reset

SEEDS = st.integers(0, 1 << 32)


@examples(300)
@given(SEEDS)
def test_streams(seed):
    async def one() -> None:
        rng = random.Random(seed)
        await Judge().judge(generate(rng), rng)

    asyncio.run(one())


def test_streams_one_after_the_other(capsys):
    """By the same services, which what came before must not have spoilt. Bounded by time on a slow machine."""
    assert asyncio.run(fuzz(10.0, 1, streams=3000)) == 0
    assert "0 findings" in capsys.readouterr().out


def test_the_judge_finds_what_is_wrong(monkeypatch, capsys):
    """A server that takes underscores for dashes, which is how some are desynchronised from their proxies."""
    from palfrey.protocols.http1 import fields

    good = fields.FieldReader.__missing__
    monkeypatch.setattr(fields.FieldReader, "__missing__", lambda self, line: good(self, line.replace(b"_", b"-")))
    assert asyncio.run(fuzz(60.0, 1)) > 0
    assert "found, seed 1 stream " in capsys.readouterr().out


def test_a_worker_lives_through_it():
    """Over sockets, each stream on a connection of its own, and a plain request behind every twenty-fifth."""
    rng = random.Random(3)
    with logged() as records, serving(echo) as server:
        for number in range(200):
            with server.client() as client:
                client.send(generate(rng))
                client.half_close()
                try:
                    client.rest()
                except Reset:
                    pass  # it closed on more bytes than it would read
            if number % 25 == 0:
                with server.client() as client:
                    assert client.request(b"GET /alive HTTP/1.1\r\nHost: a\r\n\r\n").body == b"/alive"
    assert records.errors == []


def test_other_readers_read_the_corpus_alike():
    """What is legal here is read in the same way, or refused, by those that stand in front of servers."""

    async def all_of_it() -> None:
        judge = Judge()
        for case in (*LEGAL, *REFUSED):
            await judge.judge(case.raw, random.Random(0))
        # Of the refused, those that only a setting refuses.
        assert judge.served == len(LEGAL) + len([case for case in REFUSED if case.settings])

    asyncio.run(all_of_it())


def test_readers():
    raw = b"POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nT: u\r\n\r\n"
    raw += b"GET /c HTTP/1.1\r\nHost: b\r\n\r\n"
    for reader in (by_h11, by_llhttp):
        messages, stopped = reader(raw + b"G")
        assert [(message.method, message.target, message.body) for message in messages] == [
            (b"POST", b"/a", b"x"),
            (b"GET", b"/c", b""),
        ]
        assert messages[0].fields == [(b"host", b"b"), (b"transfer-encoding", b"chunked")]
        assert not stopped
        assert reader(b"GET / HTTP/1.1\r\nX Y: z\r\n\r\n") == ([], True)


@examples(200)
@given(SEEDS)
def test_every_mutation_takes_any_bytes_and_repeats_itself(seed):
    raw = random.Random(seed).randbytes(seed % 40)
    for mutation in MUTATIONS:
        changed = mutation(raw, random.Random(seed))
        assert changed == mutation(raw, random.Random(seed))
        assert b"".join(cuts(changed, random.Random(seed))) == changed


# Frames ---------------------------------------------------------------------------------------------------------------


@examples(300)
@given(SEEDS)
def test_streams_of_frames(seed):
    async def one() -> None:
        rng = random.Random(seed)
        await frames.FrameJudge().judge(frames.generate(rng), rng)

    asyncio.run(one())


def test_streams_of_frames_one_after_the_other(capsys):
    assert asyncio.run(fuzz(10.0, 1, streams=2000, target="frames")) == 0
    assert "0 findings" in capsys.readouterr().out


def test_the_judge_of_frames_finds_what_is_wrong(monkeypatch, capsys):
    """A mask that begins anew with each read, and lengths that need not be the shortest."""
    from palfrey.protocols.websocket import frames as ours

    with monkeypatch.context() as patch:
        patch.setattr(ours, "rotated", lambda mask, count: mask)
        assert asyncio.run(fuzz(60.0, 1, target="frames")) > 0
    with monkeypatch.context() as patch:
        patch.setattr(ours, "_long_length", lambda data, at, kind: int.from_bytes(data[at + 2 : at + 4], "big"))
        assert asyncio.run(fuzz(60.0, 1, target="frames")) > 0
    assert "found, seed 1 stream " in capsys.readouterr().out


def test_a_worker_lives_through_frames():
    """Over sockets, each stream on a connection of its own, and a WebSocket that is well behind every twenty-fifth."""
    rng = random.Random(3)
    with logged() as records, serving(sockets.echo) as server:
        for number in range(200):
            with server.client() as client:
                client.send(upgrade() + frames.generate(rng))
                client.half_close()
                try:
                    _, _, answers = client.rest().partition(b"\r\n\r\n")
                    read_frames(answers)
                except Reset:
                    pass
            if number % 25 == 0:
                with server.client() as client:
                    client.send(upgrade() + text("alive"))
                    assert client.head().startswith(b"HTTP/1.1 101 ")
                    assert client.take(7) == b"\x81\x05alive"
    assert records.errors == []


@examples(200)
@given(SEEDS)
def test_every_mutation_of_frames_takes_any_bytes_and_repeats_itself(seed):
    raw = random.Random(seed).randbytes(1 + seed % 40)
    for mutation in frames.MUTATIONS:
        assert mutation(raw, random.Random(seed)) == mutation(raw, random.Random(seed))


# HTTP/2 ---------------------------------------------------------------------------------------------------------------


@examples(100)
@given(SEEDS)
def test_connections_of_http2(seed):
    async def one() -> None:
        rng = random.Random(seed)
        await Http2Judge().judge(http2.generate(rng), rng)

    asyncio.run(one())


def test_connections_of_http2_one_after_the_other(capsys):
    assert asyncio.run(fuzz(10.0, 1, streams=500, target="http2")) == 0
    assert "0 findings" in capsys.readouterr().out


def test_the_judge_of_http2_finds_what_is_wrong(monkeypatch, capsys):
    """Padding taken for content; unread content that holds the window for ever, or is not counted."""
    from palfrey.protocols.http2 import inbound, outbound, stream

    for place, name, broken in (
        (inbound, "unpadded", lambda payload: payload[1:]),
        (stream.Stream, "_let_go", lambda self: None),
        (outbound.Outbound, "hold", lambda self, count: None),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, broken)
            assert asyncio.run(fuzz(60.0, 1, streams=60, target="http2")) > 0, name
    assert "found, seed 1 stream " in capsys.readouterr().out


async def echo_to_who_stays(scope, receive, send):
    """As `echo`, and nothing is wrong with a client that goes."""
    if scope["type"] == "websocket":
        await sockets.echo(scope, receive, send)
        return
    try:
        await echo(scope, receive, send)
    except (EOFError, OSError):
        await send({"type": "http.response.start", "status": 499, "headers": []})


def test_a_worker_lives_through_http2():
    """Over sockets, each on a connection of its own that is dropped, and a good request behind every twentieth."""
    rng = random.Random(3)
    with logged() as records, serving(echo_to_who_stays, http="h2") as server:
        for number in range(200):
            with server.client() as client:
                client.send(http2.generate(rng))
                if number % 2:
                    client.half_close()
                try:
                    client.take(9)
                except Reset:
                    pass
            if number % 20 == 0:
                with server.client() as client:
                    assert client.request(b"GET /alive HTTP/1.1\r\nHost: a\r\n\r\n").body == b"/alive"
    assert records.errors == []


@examples(100)
@given(SEEDS)
def test_every_mutation_of_http2_repeats_itself(seed):
    written = http2.Author(random.Random(seed)).write()
    assert written == http2.Author(random.Random(seed)).write()
    for mutation in http2.MUTATIONS:
        one, other = list(written), list(written)
        mutation(one, random.Random(seed))
        mutation(other, random.Random(seed))
        assert one == other
