"""WebSocket frames that must not come, each with the code that the connection is to be closed with (RFC 6455 sections
5, 7.4.1 and 8.1), where a message may have no more than MAX_SIZE bytes and MAX_FRAMES frames.
"""

from __future__ import annotations

from tests.support.frames import BINARY, CLOSE, CONTINUATION, MASK, PING, PONG, TEXT, close, fragments, frame

MAX_SIZE, MAX_FRAMES = 1 << 20, 100

REFUSED: dict[str, tuple[bytes, int]] = {
    "not masked": (frame(TEXT, b"x", mask=b""), 1002),
    "not masked, empty": (frame(BINARY, mask=b""), 1002),
    "a ping not masked": (frame(PING, mask=b""), 1002),
    "RSV1": (frame(TEXT, b"x", rsv=4), 1002),
    "RSV2": (frame(TEXT, b"x", rsv=2), 1002),
    "RSV3": (frame(BINARY, b"x", rsv=1), 1002),
    "RSV1 of a ping": (frame(PING, rsv=4), 1002),
    "RSV2 of a close": (frame(CLOSE, rsv=2), 1002),
    "RSV1 of a continuation": (frame(TEXT, fin=False) + frame(CONTINUATION, rsv=4), 1002),
    **{f"opcode {opcode}": (frame(opcode), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "a fragmented ping": (frame(PING, fin=False), 1002),
    "a fragmented pong": (frame(PONG, fin=False), 1002),
    "a fragmented close": (frame(CLOSE, fin=False), 1002),
    "a long ping": (frame(PING, b"x" * 126), 1002),
    "a long close": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    "a very long pong": (frame(PONG, b"x", form=8), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "a continuation of nothing, with more": (frame(CONTINUATION, b"x", fin=False), 1002),
    "text within text": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    "binary within text": (frame(TEXT, b"x", fin=False) + frame(BINARY, b"y", fin=False), 1002),
    "16 bits for a short length": (frame(TEXT, b"x" * 125, form=2), 1002),
    "64 bits for a short length": (frame(TEXT, b"x", form=8), 1002),
    "64 bits for a length of 16": (frame(BINARY, b"x" * 65535, form=8), 1002),
    "a negative length": (b"\x82\xff\x80" + bytes(7) + MASK, 1002),
    "half a close code": (frame(CLOSE, b"\x03"), 1002),
    **{
        f"close code {code}": (close(code), 1002)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "a close reason that is not UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "a close reason cut in a character": (frame(CLOSE, b"\x03\xe8" + "ä".encode()[:1]), 1007),
    "text that is not UTF-8": (frame(TEXT, b"\xff"), 1007),
    "text that ends in a character": (frame(TEXT, b"a\xc3"), 1007),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "an overlong form": (frame(TEXT, b"\xc0\xaf"), 1007),
    "beyond Unicode": (frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
    "a fragment that is not UTF-8": (frame(TEXT, b"\xff", fin=False), 1007),
    "fragments that end in a character": (fragments(TEXT, b"a", b"\xc3"), 1007),
    "fragments that end in a character, and nothing": (fragments(TEXT, b"a\xc3", b""), 1007),
    "too long": (b"\x82\xff" + (MAX_SIZE + 1).to_bytes(8, "big") + MASK, 1009),
    "too long by 64 bits of which the first 16 say how much came": (b"\x82\xff\x00\xc8" + bytes(204), 1009),
    "as long as can be": (b"\x82\xff" + ((1 << 63) - 1).to_bytes(8, "big") + MASK, 1009),
    "too many frames": (fragments(TEXT, *[b""] * (MAX_FRAMES + 1)), 1008),
}
