"""The load client's requests: how each is written, and how its answer is compared with what was asked for."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass

from tests.support.loadresult import Behaviour
from tests.support.wire import Head, Malformed


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it will be written, and what its answer has to be."""

    behaviour: Behaviour
    method: str
    path: str
    id: str
    body: bytes = b""
    chunks: tuple[int, ...] = ()
    """Sizes of the pieces of a chunked body; empty: Content-Length."""
    lines: int = 0
    """How many lines a stream has."""
    last: bool = False
    """Whether it says Connection: close."""
    drops: int = 0
    """How many pieces it trickles in, wherever they are cut."""

    def pieces(self, authority: str) -> list[bytes]:
        """What to write, in order. The first piece holds the head."""
        head = [f"{self.method} {self.path} HTTP/1.1", f"Host: {authority}", f"X-Request-Id: {self.id}"]
        if self.last:
            head.append("Connection: close")
        if self.chunks:
            head.append("Transfer-Encoding: chunked")
        elif self.method == "POST":
            head.append(f"Content-Length: {len(self.body)}")
        data = "\r\n".join([*head, "", ""]).encode()
        if self.drops:
            whole = data + self.body
            size = -(-len(whole) // self.drops)
            return [whole[start : start + size] for start in range(0, len(whole), size)]
        if not self.chunks:
            return [data + self.body]
        ends = list(itertools.accumulate(self.chunks))
        parts = [self.body[end - size : end] for end, size in zip(ends, self.chunks, strict=True)]
        return [data, *(b"%x\r\n%b\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]


def what_is_wrong(request: Request, head: Head, body: bytes) -> str:
    """How the answer differs from what was asked for; "" when it does not."""
    named = head.fields.get("x-request-id", "")
    if named != request.id:
        return f"answered with the id {named!r}"
    if not head.fields.get("x-pid", "").isdigit() or "x-generation" not in head.fields:
        return "the answer does not name its process and generation"
    if request.method == "POST":
        digests = [hashlib.sha256(data).hexdigest()[:16] for data in (request.body, body)]
        same = digests[0] == digests[1]
        return "" if same else f"{len(request.body)} bytes ({digests[0]}) came back as {len(body)} ({digests[1]})"
    if request.lines:
        expected = "".join(f"{request.id} {n}\n" for n in range(request.lines)).encode()
        return "" if body == expected else f"the stream ended as {body[-80:]!r}"
    try:
        facts = json.loads(body)
        told = (facts["id"], str(facts["pid"]), facts["generation"])
    except (ValueError, KeyError, TypeError):
        return f"the body is {body[:80]!r}"
    return "" if told == (request.id, head.fields["x-pid"], head.fields["x-generation"]) else f"the body says {told}"


def check_lines(request: Request, head: Head, body: bytearray) -> None:
    """Compares a stream as it comes: a wrong line shows at once, and not after a timeout."""
    if not request.lines or head.status != 200:
        return
    number = body.count(b"\n") - 1
    if number >= 0 and not body[: body.rfind(b"\n") + 1].endswith(f"{request.id} {number}\n".encode()):
        raise Malformed(f"line {number} of the stream is {bytes(body[-80:])!r}")
