"""Masks: the integers and the routine in C, against section 5.3's words."""

from __future__ import annotations

import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.websocket import masks
from palfrey.protocols.websocket.masks import PIECE, rotated, unmask, unmask_by_integers
from tests.support.properties import examples

KEYS = st.binary(min_size=4, max_size=4)


def by_the_book(data: bytes, mask: bytes) -> bytes:
    return bytes(octet ^ mask[number % 4] for number, octet in enumerate(data))


@examples(200)
@given(st.binary(max_size=300), KEYS)
def test_both_ways(data, mask):
    assert unmask(data, mask) == unmask_by_integers(data, mask) == by_the_book(data, mask)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, PIECE - 1, PIECE, PIECE + 1, PIECE + 3, 2 * PIECE, 3 * PIECE + 5])
def test_lengths_about_a_piece(length):
    data = (bytes(range(251)) * 100)[:length]
    expected = by_the_book(data, b"\x01\x80\xff\x7f")
    assert unmask_by_integers(data, b"\x01\x80\xff\x7f") == expected
    assert unmask(data, b"\x01\x80\xff\x7f") == expected


@examples(100)
@given(st.binary(max_size=100), KEYS, st.integers(0, 100))
def test_a_mask_goes_on_behind_any_count(data, mask, cut):
    whole = by_the_book(data, mask)
    cut = min(cut, len(data))
    for way in (unmask, unmask_by_integers):
        assert way(data[:cut], mask) + way(data[cut:], rotated(mask, cut)) == whole


def test_without_the_package(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("websockets"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert masks._best() is unmask_by_integers
