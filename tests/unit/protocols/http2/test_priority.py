"""RFC 9218's priorities: advice, read as strictly as a dictionary is defined and otherwise left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.http2.priority import DEFAULT, LONGEST, parse_priority
from tests.support.properties import examples


@pytest.mark.parametrize(
    ("value", "priority"),
    [
        (b"", (3, False)),
        (b"u=0", (0, False)),
        (b"u=7", (7, False)),
        (b"i", (3, True)),
        (b"u=5, i", (5, True)),
        (b"u=5,i", (5, True)),
        (b"i, u=5", (5, True)),
        (b"u=5 \t,\t i", (5, True)),
        (b"  u=5, i  ", (5, True)),
        (b"u=1, i=?1", (1, True)),
        (b"u=1, i=?0", (1, False)),
        (b"i;why=1, u=2;a;b=c", (2, True)),
        # The last one counts.
        (b"u=1, u=2", (2, False)),
        (b"i, i=?0", (3, False)),
        # Other keys are the business of others, whatever their values.
        (b'x=("a" b 1.5 :aGk=: ?1);q=1, u=4', (4, False)),
        (b'x="a, u=1", u=4', (4, False)),
        (b"x=(), *y, u=4", (4, False)),
        # Members of another type, or out of range, are absent.
        (b"u=8", (3, False)),
        (b"u=-1, i", (3, True)),
        (b"u=1.0, i", (3, True)),
        (b"u=?1, i", (3, True)),
        (b'u="1", i', (3, True)),
        (b"u, i", (3, True)),
        (b"u=(1), i", (3, True)),
        (b"i=1, u=2", (2, False)),
        (b"u=1, u=9", (3, False)),
        # What is no dictionary says nothing.
        (b"u=1,", (3, False)),
        (b"u=1, ,i", (3, False)),
        (b"u=1 i", (3, False)),
        (b"u =1", (3, False)),
        (b"u= 1", (3, False)),
        (b"U=1", (3, False)),
        (b"u=1, i=", (3, False)),
        (b'u=1, x="', (3, False)),
        (b"u=1, x=(a", (3, False)),
        (b"u=1, i;", (3, False)),
        (b"u=1, \xff", (3, False)),
        (b"u=1\r\n", (3, False)),
        (b"\tu=1", (3, False)),
    ],
)
def test_values(value, priority):
    assert parse_priority(value) == priority


def test_a_value_that_is_too_long_says_nothing():
    assert parse_priority(b"u=1" + b", x" * ((LONGEST - 3) // 3)) == (1, False)
    assert parse_priority(b"u=1" + b", x" * LONGEST) == DEFAULT


@examples()
@given(st.binary(max_size=40) | st.text(alphabet='ui=?01289,;. ()"\\:*\tax-', max_size=40).map(str.encode))
def test_nothing_raises(value):
    urgency, incremental = parse_priority(value)
    assert 0 <= urgency <= 7
    assert incremental in (True, False)


@examples()
@given(st.integers(0, 7), st.booleans(), st.sampled_from([b",", b", ", b" ,\t"]))
def test_what_a_client_writes_is_what_is_read(urgency, incremental, comma):
    assert parse_priority(b"u=%d" % urgency + (comma + b"i") * incremental) == (urgency, incremental)
