"""The static table, against another implementation's."""

from __future__ import annotations

from hpack.table import HeaderTable

from palfrey.protocols.http2.static import FIRST_DYNAMIC, INDEXES, NAMES, STATIC


def test_it_is_the_table_of_the_rfc():
    assert tuple(STATIC[1:]) == HeaderTable.STATIC_TABLE
    assert FIRST_DYNAMIC == 62


def test_fields_and_names_are_found_at_their_lowest_index():
    assert all(STATIC[index] == field for field, index in INDEXES.items())
    assert len(INDEXES) == 61
    assert len(NAMES) == 52
    assert NAMES[b":method"] == 2
    assert NAMES[b":status"] == 8
    assert NAMES[b"www-authenticate"] == 61
