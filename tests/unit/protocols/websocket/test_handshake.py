"""The opening handshake's fields, asked and answered."""

from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.websocket.deflate import Terms
from palfrey.protocols.websocket.handshake import HandshakeRefused, accept_key, read_handshake
from tests.support.frames import ACCEPT, KEY, accept
from tests.support.properties import examples

VERSION = (b"sec-websocket-version", b"13")
GOOD = [(b"host", b"a"), VERSION, (b"sec-websocket-key", KEY)]


def protocols(*values: bytes):
    return read_handshake("1.1", [*GOOD, *((b"sec-websocket-protocol", value) for value in values)]).subprotocols


def offers(*values: bytes):
    return read_handshake("1.1", [*GOOD, *((b"sec-websocket-extensions", value) for value in values)]).offers


def test_the_example_of_section_1_3():
    assert accept_key(KEY).decode() == ACCEPT == accept(KEY)
    handshake = read_handshake("1.1", GOOD)
    assert handshake.answer(None, None) == [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", ACCEPT.encode()),
    ]
    assert handshake.answer("chat", Terms())[3:] == [
        (b"sec-websocket-protocol", b"chat"),
        (b"sec-websocket-extensions", b"permessage-deflate"),
    ]


def test_over_http_2_there_is_no_key():
    handshake = read_handshake("2", [VERSION])
    assert (handshake.way.status, handshake.answer("chat", None)) == (200, [(b"sec-websocket-protocol", b"chat")])
    with pytest.raises(HandshakeRefused):
        read_handshake("2", [])


@pytest.mark.parametrize(
    "versions", [[], [b""], [b"8"], [b"12"], [b"14"], [b"013"], [b"13, 8"], [b"8, 13"], [b"13", b"8"], [b"13", b"13"]]
)
def test_other_versions_are_told_which_is_spoken(versions):
    with pytest.raises(HandshakeRefused) as refused:
        read_handshake("1.1", [(b"sec-websocket-key", KEY), *((VERSION[0], version) for version in versions)])
    assert refused.value.status == 426
    assert dict(refused.value.headers) == {
        VERSION[0]: VERSION[1],
        b"upgrade": b"websocket",  # RFC 9110 section 15.5.22 has it in every 426
        b"connection": b"Upgrade",
    }


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [b""],
        [b"AAAA"],
        [KEY, KEY],
        [KEY[:-1]],
        [KEY[:-2]],
        [KEY + b"="],
        [b" " + KEY],
        [KEY[:10] + b"\n" + KEY[10:]],
        [KEY[:-3] + b"\xff=="],
        [KEY.replace(b"d", b"_")],
        [base64.b64encode(bytes(15))],
        [base64.b64encode(bytes(17))],
        [KEY + b", " + KEY],
        [b"x" * 4000],
    ],
)
def test_a_key_is_16_bytes_of_base64(keys):
    with pytest.raises(HandshakeRefused) as refused:
        read_handshake("1.1", [VERSION, *((b"sec-websocket-key", key) for key in keys)])
    assert (refused.value.status, refused.value.headers) == (400, ())


@examples(50)
@given(st.binary(min_size=16, max_size=16))
def test_every_key(key):
    key = base64.b64encode(key)
    assert (
        dict(read_handshake("1.1", [VERSION, (b"sec-websocket-key", key)]).answer(None, None))[b"sec-websocket-accept"]
        == accept(key).encode()
    )


def test_subprotocols_in_the_clients_order():
    assert protocols() == []
    assert protocols(b"chat") == ["chat"]
    assert protocols(b"chat, superchat") == ["chat", "superchat"]
    assert protocols(b"b,a", b"\tc ,, d") == ["b", "a", "c", "d"]
    assert protocols(b"", b" , ") == []
    assert protocols(b"\xe9") == ["é"]


def test_extensions():
    assert offers() == []
    assert offers(b"permessage-deflate") == [{}]
    assert offers(b"x-webkit-deflate-frame, permessage-deflate; client_max_window_bits") == [
        {"client_max_window_bits": None}
    ]
    assert offers(b"permessage-deflate;server_max_window_bits=10 , permessage-deflate") == [
        {"server_max_window_bits": "10"},
        {},
    ]
    assert offers(b'permessage-deflate; server_max_window_bits = "10"') == [{"server_max_window_bits": "10"}]
    assert offers(b"permessage-deflate", b"permessage-deflate; a=b") == [{}, {"a": "b"}]
    assert offers(b"permessage-deflate2, permessage, , ;") == []
    assert offers(b"permessage-deflate; server_max_window_bits=10; server_max_window_bits=10") == []


@examples(200)
@given(st.lists(st.tuples(st.sampled_from([name for name, _ in GOOD] + [b"sec-websocket-protocol"]), st.binary())))
def test_any_fields_are_read_or_refused(fields):
    with suppress(HandshakeRefused):
        read_handshake("1.1", fields)


@examples(200)
@given(st.text(alphabet='permssag-dflt;=,"_ \t019abc\xe9', max_size=60))
def test_any_extensions_are_read(value):
    for offer in offers(b"permessage-deflate; " + value.encode("latin-1")):
        assert all(type(name) is str for name in offer)
