"""Grammar-based mutation of corpus entries: what a request is made of is exchanged, doubled, moved and spoilt.

Bytes at random hardly ever get past a request line. So most mutations know the grammar (lines, names, chunk sizes),
and the tokens that they put in are those that readers are known to differ on.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from tests.corpus.legal import LEGAL
from tests.corpus.refused import REFUSED

SEEDS = [case.raw for case in (*LEGAL, *REFUSED) if len(case.raw) < 600]

LINE_ENDS = [
    b"\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\n\r",
    b"\r\n ",
    b"\r\n\t",
    b"\r\n\r\n",
    b"\x0b",
    b"\x0c",
    b"\x85",
    b"",
]
SPACES = [b" ", b"\t", b"  ", b"", b"\x0b", b"\x0c", b"\xa0", b"\r", b"\x00", b" \t "]
METHODS = [
    b"GET",
    b"POST",
    b"HEAD",
    b"OPTIONS",
    b"CONNECT",
    b"get",
    b"PRI",
    b"LABEL",
    b"QUERY",
    b"X",
    b"G T",
    b"DESCRIBE",
]
TARGETS = [
    b"/",
    b"*",
    b"a:80",
    b"http://b/c?d",
    b"http://",
    b"//x",
    b"/%00",
    b"/a#b",
    b"/\xc3\xa9",
    b"http://u@b/",
    b"/?",
    b"",
]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.2", b"http/1.1", b"HTTP/1.1 ", b"HTTP/11", b""]
FIELDS = [
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: 05",
    b"Content-Length: +5",
    b"Content-Length: 5, 5",
    b"Content-Length:",
    b"Content-Length : 5",
    b"Content_Length: 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: CHUNKED ",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding:",
    b"Transfer-Encoding\t: chunked",
    b" Transfer-Encoding: chunked",
    b"Host: a",
    b"Host: b:80",
    b"Host: a b",
    b"Host:",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: upgrade",
    b"Connection: close, keep-alive",
    b"Proxy-Connection: close",
    b"Proxy-Connection: keep-alive",
    b"Keep-Alive: timeout=1",
    b"Upgrade: foo",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Expect: 42",
    b"Trailer: X",
    b"TE: trailers",
    b"Cookie: a=b",
    b"X: \xff",
    b"X: \x00",
    b"X: y \t ",
    b"X",
    b": y",
    b"X Y: z",
    b"",
]
SIZES = [b"0", b"5", b"05", b"a", b"+5", b"-5", b"0x5", b"5_0", b"5 ", b" 5", b"5;a", b"5;a=b", b"5 ;a", b'5;"\n"', b""]
SIZES += [b"ffffffffffffffff", b"10000000000000000", b"0;a", b"00", b"5\x00", b"7fffffffffffffff"]
BYTES = [b"\x00", b"\r", b"\n", b" ", b"\t", b":", b";", b",", b"\x7f", b"\x80", b"\xff", b"\x0b", b"#", b"0", b"\r\n"]


def _parts(raw: bytes) -> tuple[list[bytes], bytes]:
    """A request -> the lines of its head, and what is behind the first empty line."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), rest


def _joined(lines: list[bytes], rest: bytes) -> bytes:
    return b"\r\n".join(lines) + b"\r\n\r\n" + rest


def _line(raw: bytes, rng: random.Random) -> bytes:
    """Another method, target or version, or other spaces between them."""
    lines, rest = _parts(raw)
    parts = lines[0].split(b" ", 2)
    parts += [b""] * (3 - len(parts))
    which = rng.randrange(4)
    if which == 3:
        lines[0] = parts[0] + rng.choice(SPACES) + parts[1] + rng.choice(SPACES) + parts[2]
    else:
        parts[which] = rng.choice((METHODS, TARGETS, VERSIONS)[which])
        lines[0] = b" ".join(parts)
    return _joined(lines, rest)


def _insert_field(raw: bytes, rng: random.Random) -> bytes:
    lines, rest = _parts(raw)
    lines.insert(rng.randint(1, len(lines)), rng.choice(FIELDS))
    return _joined(lines, rest)


def _move_field(raw: bytes, rng: random.Random) -> bytes:
    """A field line away, twice, or in another place."""
    lines, rest = _parts(raw)
    if len(lines) > 1:
        line = lines[rng.randrange(1, len(lines))]
        if rng.random() < 0.6:
            lines.remove(line)
        if rng.random() < 0.6:
            lines.insert(rng.randint(1, len(lines)), line)
    return _joined(lines, rest)


def _spell_field(raw: bytes, rng: random.Random) -> bytes:
    """A field's name in other letters, other space around its colon, something in front of it or behind."""
    lines, rest = _parts(raw)
    at = rng.randrange(len(lines))
    name, colon, value = lines[at].partition(b":")
    space = rng.choice(SPACES)
    lines[at] = rng.choice(
        (
            name.swapcase() + colon + value,
            name + space + colon + value,
            name + colon + space + value.lstrip(),
            name + colon + value + space,
            space + name + colon + value,
            name.replace(b"-", b"_") + colon + value,
            name + colon + value + b"," + value,
            name + colon + b'"' + value.strip() + b'"',
        )
    )
    return _joined(lines, rest)


def _end_line(raw: bytes, rng: random.Random) -> bytes:
    """One line end is another one."""
    ends = [at for at in range(len(raw)) if raw.startswith(b"\r\n", at)]
    if not ends:
        return raw
    at = rng.choice(ends)
    return raw[:at] + rng.choice(LINE_ENDS) + raw[at + 2 :]


def _chunk(raw: bytes, rng: random.Random) -> bytes:
    """Content in chunks, with another size in one place."""
    lines, rest = _parts(raw)
    if b"\r\n" not in rest:
        rest = b"5\r\nhello\r\n0\r\n\r\n"
        lines.append(b"Transfer-Encoding: chunked")
    pieces = rest.split(b"\r\n")
    pieces[rng.randrange(len(pieces))] = rng.choice(SIZES + FIELDS)
    return _joined(lines, b"\r\n".join(pieces))


def _bytes(raw: bytes, rng: random.Random) -> bytes:
    """A byte more, less, or another."""
    at = rng.randrange(len(raw) + 1)
    return raw[:at] + rng.choice((rng.choice(BYTES), rng.randbytes(1), b"")) + raw[at + rng.randrange(2) :]


def _slice(raw: bytes, rng: random.Random) -> bytes:
    """A piece away, or twice."""
    start = rng.randrange(len(raw) + 1)
    end = min(len(raw), start + rng.randint(1, 20))
    return raw[:start] + raw[start:end] * rng.choice((0, 2)) + raw[end:]


def _cross(raw: bytes, rng: random.Random) -> bytes:
    """The front of this one, the back of another."""
    other = rng.choice(SEEDS)
    return raw[: rng.randrange(len(raw) + 1)] + other[rng.randrange(len(other) + 1) :]


def _stretch(raw: bytes, rng: random.Random) -> bytes:
    """A byte or a line so many times that it meets a limit, exactly or nearly."""
    lines, rest = _parts(raw)
    at = rng.randrange(len(lines))
    if rng.random() < 0.5:
        lines[at:at] = [lines[at]] * rng.choice((97, 98, 99, 100, 101, 400))
    else:
        place = rng.randrange(len(lines[at]) + 1)
        count = rng.choice((8190 - len(lines[at]) + rng.randint(-1, 2), 4096, 9000, 65536))
        lines[at] = lines[at][:place] + (lines[at][place : place + 1] or b"a") * max(0, count) + lines[at][place:]
    return _joined(lines, rest)


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    *(_line, _insert_field, _insert_field, _move_field, _spell_field, _spell_field),
    *(_end_line, _end_line, _chunk, _chunk, _bytes, _bytes, _slice, _cross),
]


def generate(rng: random.Random) -> bytes:
    """One to three requests, each with none to four mutations."""
    stream = b""
    for _ in range(rng.choice((1, 1, 2, 3))):
        raw = rng.choice(SEEDS)
        for _ in range(rng.choice((0, 1, 1, 2, 3, 4))):
            raw = (_stretch if rng.random() < 0.01 else rng.choice(MUTATIONS))(raw, rng)
        stream += raw
    return stream


def cuts(raw: bytes, rng: random.Random) -> list[bytes]:
    """The bytes in one to twelve pieces, or byte by byte."""
    if len(raw) < 400 and rng.random() < 0.2:
        return [raw[at : at + 1] for at in range(len(raw))]
    edges = sorted({0, len(raw), *(rng.randrange(len(raw) + 1) for _ in range(rng.randrange(12)))})
    return [raw[start:end] for start, end in itertools.pairwise(edges)]
