"""A head becomes a scope; what was read once is not read again, and is never shared with an application."""

from __future__ import annotations

import asyncio

import pytest

from palfrey.asgi.proxy import Trusted
from palfrey.config.settings import Settings
from palfrey.errors import ProtocolError
from palfrey.observe.access import AccessLog
from palfrey.protocols.http1.connection import Http1Connection
from palfrey.protocols.http1.heads import (
    FIRST_LENGTH,
    NO_SECTION,
    REMEMBERED_FIRSTS,
    REMEMBERED_TARGETS,
    SECTION_LENGTH,
    TARGET_LENGTH,
)
from palfrey.protocols.http1.request import NOTHING, read_again, read_request
from palfrey.protocols.service import Service

FIELDS = b"Host: a\r\nX-A: 1\r\n\r\n"


async def _app(scope, receive, send):
    pass


@pytest.fixture
def service():
    loop = asyncio.new_event_loop()
    yield Service(Settings(), _app, loop, AccessLog.off(), {}, Trusted("127.0.0.1"))
    loop.close()


def connection(service, client=("127.0.0.1", 1)):
    return Http1Connection(service, client, ("127.0.0.1", 80), "http")


def test_the_same_head_again_reads_the_same(service):
    one = connection(service)
    head = b"GET /a%20b?c HTTP/1.1\r\n" + FIELDS
    first, _ = read_request(head, one, service)
    again, _ = read_request(head, one, service)
    assert again == first
    assert (again["path"], again["raw_path"], again["query_string"]) == ("/a b", b"/a%20b", b"c")
    assert again["headers"] == [(b"host", b"a"), (b"x-a", b"1")]


def test_what_an_application_does_to_its_scope_is_not_remembered(service):
    one = connection(service)
    head = b"GET / HTTP/1.1\r\n" + FIELDS
    for _ in range(2):
        scope, _ = read_request(head, one, service)
        assert scope["headers"] == [(b"host", b"a"), (b"x-a", b"1")]
        scope["headers"].append((b"x-mine", b"1"))
        scope["extensions"].clear()
        scope["state"]["mine"] = 1
    assert service.state == {}
    assert connection(service).extensions


def test_either_half_may_be_new(service):
    one = connection(service)
    read_request(b"GET /a HTTP/1.1\r\n" + FIELDS, one, service)
    scope, _ = read_request(b"POST /b HTTP/1.1\r\n" + FIELDS, one, service)
    assert (scope["method"], scope["path"], scope["http_version"]) == ("POST", "/b", "1.1")
    scope, frame = read_request(b"GET /a HTTP/1.0\r\nX-A: 2\r\n\r\n", one, service)
    assert (scope["method"], scope["path"], scope["http_version"]) == ("GET", "/a", "1.0")
    assert scope["headers"] == [(b"x-a", b"2")]
    assert not frame.keep_alive
    scope, frame = read_request(b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", one, service)
    assert frame.length == 5


@pytest.mark.parametrize(
    "head",
    [
        b"GET /a\r\n HTTP/1.1\r\n" + FIELDS,
        b"GET /a HTTP/1. HTTP/1.1\r\n" + FIELDS,
        b"GET  /a HTTP/1.1\r\n" + FIELDS,
        b"GET /a  HTTP/1.1\r\n" + FIELDS,
        b"GET /a HTTP/1.2\r\n" + FIELDS,
        b"GET /a HTTP/1.1\r\n" + FIELDS[:-2] + b"X B: 1\r\n\r\n",
        b" HTTP/1.1\r\n" + FIELDS,
        b" HTTP/1.\r\n\r\n",
    ],
)
def test_nothing_bad_comes_of_remembered_halves(service, head):
    one = connection(service)
    for good in (b"GET /a HTTP/1.1\r\n", b"GET /a HTTP/1.0\r\n"):
        read_request(good + FIELDS, one, service)
        for _ in range(2):
            with pytest.raises(ProtocolError):
                read_request(head, one, service)


def test_a_connection_keeps_its_own_fields_alone(service):
    one, other = connection(service), connection(service)
    head = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: secret\r\n\r\n"
    read_request(head, one, service)
    assert one.section.raw.endswith(b"secret\r\n\r\n")
    assert other.section is NO_SECTION
    assert not any(b"secret" in line for line in (*service.heads.fields, *service.targets, *service.heads.sections))


def test_connections_that_begin_alike_share_what_they_keep(service):
    one, other = connection(service), connection(service, client=("192.0.2.1", 1))
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n"
    for each in (one, other):
        read_request(head, each, service)[0]["headers"].clear()
    assert one.section is other.section
    assert read_request(head, connection(service), service)[0]["client"] == ("192.0.2.9", 0)
    assert len(read_request(head, other, service)[0]["headers"]) == 2


def test_forwarded_fields_count_each_time(service):
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n"
    proxied, direct = connection(service), connection(service, client=("192.0.2.1", 1))
    for _ in range(2):
        assert read_request(head, proxied, service)[0]["client"] == ("192.0.2.9", 0)
        assert read_request(head, direct, service)[0]["client"] == ("192.0.2.1", 1)


def test_what_is_remembered_is_bounded(service):
    one = connection(service)
    for number in range(REMEMBERED_TARGETS + 10):
        read_request(b"GET /%d HTTP/1.1\r\n" % number + FIELDS, one, service)
    assert 0 < len(service.targets) <= REMEMBERED_TARGETS
    read_request(b"GET /" + b"a" * TARGET_LENGTH + b" HTTP/1.1\r\n" + FIELDS, one, service)
    assert all(len(line) <= TARGET_LENGTH + len("GET ") for line in service.targets)
    read_request(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * SECTION_LENGTH + b"\r\n\r\n", one, service)
    assert one.section is NO_SECTION
    for number in range(3 * REMEMBERED_FIRSTS):
        read_request(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: %d\r\n\r\n" % number, connection(service), service)
        assert len(service.heads.sections) <= REMEMBERED_FIRSTS
    assert all(len(raw) <= FIRST_LENGTH for raw in service.heads.sections)


def test_without_an_application_that_sees_it_the_same_head_has_the_same_scope(service):
    one, two = connection(service), connection(service, ("127.0.0.1", 2))
    head = b"GET /a?b HTTP/1.1\r\n" + FIELDS
    first, frame = read_again(head, one, service)
    assert first == {**read_request(head, two, service)[0], "client": ("127.0.0.1", 1), "palfrey.target": b"/a?b"}
    assert read_again(head, one, service) == (first, frame)
    assert read_again(head, one, service)[0] is first
    other, _ = read_again(head, two, service)
    assert (other is not first, other["client"]) == (True, ("127.0.0.1", 2))
    for changed in (head.replace(b"/a", b"/c"), head.replace(b"GET", b"PUT"), head.replace(b"X-A: 1", b"X-A: 2")):
        assert read_again(changed, one, service)[0] not in (first, None)
        assert read_again(changed, one, service)[0] == read_request(changed, one, service)[0] | {
            "palfrey.target": changed.split(b" ")[1]
        }


def test_a_long_head_is_not_kept_for_the_next(service):
    one = connection(service)
    head = b"GET /a HTTP/1.1\r\nX-Long: " + b"x" * SECTION_LENGTH + b"\r\n" + FIELDS
    first, _ = read_again(head, one, service)
    assert one.last is NOTHING
    assert read_again(head, one, service)[0] is not first
