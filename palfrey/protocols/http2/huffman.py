"""HPACK's Huffman code (RFC 7541 section 5.2 and appendix B), which QPACK shares.

The code is canonical: codes of the same length count upwards with the bytes that they stand for, and the next length
goes on where the last ended. So a table of lengths is the whole code.

Decoding is a walk of one step a byte. A *state* is what is left of the bits so far: the beginning of a code. It maps
the next byte to the text that this byte completes and to the state afterwards. States learn this when they are first
asked, so that a worker knows what its clients have said. There are 256: with all steps, which takes somebody who
tries, they occupy seven megabytes.
"""

from __future__ import annotations

_BYTES_BY_LENGTH: dict[int, bytes] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9",
    23: b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf"
    b"\xc5\xe7\xef",
    24: b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    27: b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    28: b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f"
    b"\xdc\xf9",
    30: b"\n\r\x16",  # and the 31st of all codes, thirty ones: EOS, which no string may have in it
}
_SHORTEST, _LONGEST = min(_BYTES_BY_LENGTH), max(_BYTES_BY_LENGTH)
_EOS = (1 << _LONGEST) - 1


def _codes() -> list[str]:
    """By byte: its code in the digits 0 and 1."""
    codes = [""] * 256
    code = length = 0
    for longer, those in _BYTES_BY_LENGTH.items():
        code <<= longer - length
        length = longer
        for byte in those:
            codes[byte] = f"{code:0{length}b}"
            code += 1
    return codes


_CODES = _codes()
_BYTES: dict[tuple[int, int], bytes] = {
    (len(digits), int(digits, 2)): bytes((byte,)) for byte, digits in enumerate(_CODES)
}
"""(length, code) -> the byte, as bytes."""


class _State(dict[int, "tuple[bytes, _State]"]):
    """After the first `length` bits of a code, which are `bits`. Raises ValueError when a byte completes EOS."""

    __slots__ = ("bits", "ends", "length")

    def __init__(self, bits: int, length: int) -> None:
        super().__init__()
        self.bits, self.length = bits, length
        self.ends = length < 8 and bits == (1 << length) - 1
        """Whether a string may end here: with less than a byte of EOS's first bits, all ones (section 5.2)."""

    def __missing__(self, byte: int) -> tuple[bytes, _State]:
        bits, length, text = self.bits << 8 | byte, self.length + 8, b""
        taken = _SHORTEST
        while taken <= length:
            found = _BYTES.get((taken, bits >> length - taken))
            if found is not None:
                text += found
                length -= taken
                bits &= (1 << length) - 1
                taken = _SHORTEST
            elif taken == _LONGEST:
                raise ValueError("EOS in a Huffman string")
            else:
                taken += 1
        key = (length, bits)
        state = _STATES.get(key)
        if state is None:
            state = _STATES[key] = _State(bits, length)
        step = self[byte] = (_TEXTS.setdefault(text, text), state)
        return step


_START = _State(0, 0)
_STATES: dict[tuple[int, int], _State] = {(0, 0): _START}
_TEXTS: dict[bytes, bytes] = {}
"""One object for each text that a step can complete, two bytes at most."""


def decode(data: bytes) -> bytes:
    """Raises ValueError with the reason for what is no Huffman string."""
    state = _START
    texts = []
    for byte in data:
        text, state = state[byte]
        texts.append(text)
    if not state.ends:
        raise ValueError("bad padding of a Huffman string")
    return b"".join(texts)


def encode(text: bytes) -> bytes:
    """As a Huffman string, which may be longer than the text."""
    digits = "".join([_CODES[byte] for byte in text])
    length = (len(digits) + 7) // 8
    return int(digits + "1" * (length * 8 - len(digits)) or "0", 2).to_bytes(length, "big")
