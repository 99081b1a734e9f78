"""What cannot be decoded, by h2spec's group `hpack`: its sections are RFC 7541's."""

from __future__ import annotations

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2 import Client
from tests.support.http2cases import case
from tests.support.http2frames import Setting, headers

NAME = bytes.fromhex("0085f2b24a84ff")
"""A literal that is not indexed, with the name x-test; its value follows."""


async def is_undecodable(client: Client, behind: bytes = b"", before: bytes = b"") -> None:
    await client.send(headers(1, before + client.block(client.fields()) + behind))
    await client.connection_error(ErrorCode.COMPRESSION_ERROR)


@case
async def test_2_3_3_1_an_index_behind_both_tables(client: Client) -> None:
    await is_undecodable(client, b"\xfe")


@case
async def test_4_2_1_a_size_update_at_the_end_of_a_block(client: Client) -> None:
    await is_undecodable(client, b"\x21")


@case
async def test_5_2_1_padding_of_more_than_7_bits(client: Client) -> None:
    await is_undecodable(client, NAME + bytes.fromhex("8449509fff"))


@case
async def test_5_2_2_padding_with_zeros(client: Client) -> None:
    await is_undecodable(client, NAME + bytes.fromhex("83495090"))


@case
async def test_5_2_3_the_end_of_string_symbol(client: Client) -> None:
    await is_undecodable(client, NAME + bytes.fromhex("87fffffffd25427f"))


@case
async def test_6_1_1_index_0(client: Client) -> None:
    await is_undecodable(client, b"\x80")


@case
async def test_6_3_1_a_size_beyond_the_allowed(client: Client) -> None:
    size = client.ledger.server.get(Setting.HEADER_TABLE_SIZE, 4096) + 1 - 31
    encoded = bytearray(b"\x3f")
    while size >= 128:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    await is_undecodable(client, before=bytes(encoded) + bytes([size]))
