"""Targets of all forms, and hosts. The table of cases is tests/corpus."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.target import check_host, decode_path, split_target, with_host
from tests.support.properties import examples


def test_targets():
    assert split_target(b"/a%20b?c=%20", "GET") == ("/a b", b"/a%20b", b"c=%20", None)
    assert split_target(b"*", "OPTIONS") == ("*", b"*", b"", None)
    assert split_target(b"http://b:1?q", "GET") == ("/", b"/", b"q", b"b:1")


@examples()
@given(st.binary(max_size=50))
def test_any_path_decodes(path):
    visible = bytes(byte for byte in path if 0x20 < byte < 0x7F)
    assert isinstance(decode_path(visible), str)


def test_the_absolute_forms_host_comes_first_and_alone():
    fields = [(b"x", b"1"), (b"host", b"a"), (b"y", b"2")]
    assert with_host(fields, b"b") == [(b"host", b"b"), (b"x", b"1"), (b"y", b"2")]
    assert with_host([(b"x", b"1")], b"b") == [(b"host", b"b"), (b"x", b"1")]


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"a",
        b"a.b-c_d.",
        b"a:80",
        b"a:",
        b"127.0.0.1:8000",
        b"[::1]",
        b"[2001:db8::1]:443",
        b"a%20b",
        b"!$&'()*+,;=",
    ],
)
def test_hosts(host):
    check_host(host)
    check_host(host)  # remembered


@pytest.mark.parametrize(
    "host",
    [
        b":80",
        b"a:b",
        b"a:80:90",
        b"a:123456",
        b"[::1",
        b"::1",
        b"[]",
        b"[::1]a",
        b"[a.b]",
        b"[g::1]",
        b"a b",
        b"a%2",
        b"a%zz",
        b"a@b",
    ],
)
def test_what_is_no_host(host):
    for _ in range(2):
        with pytest.raises(ProtocolError, match="malformed Host"):
            check_host(host)


@examples()
@given(st.binary(max_size=60), st.sampled_from(["GET", "OPTIONS", "CONNECT"]))
def test_a_target_is_split_or_refused(target, method):
    visible = bytes(byte for byte in target if 0x20 < byte < 0x7F and byte != 0x23) or b"/"
    statuses = {200}
    try:
        path, raw_path, query, _ = split_target(visible, method)
    except ProtocolError as error:
        statuses.add(error.status)
    else:
        assert path
        assert raw_path in visible or raw_path == b"/"
        assert query in visible
    assert statuses <= {200, 400, 501}
