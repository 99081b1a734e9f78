"""TLS as an operator has it: tickets across workers, certificates renewed under way, and what is said of bad ones."""

from __future__ import annotations

import datetime
import os
import re
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tests.process.conftest import Start
from tests.support.processes import PATIENCE, Server
from tests.support.rawhttp import Client

NAME = "app.test"
GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
TRUST = trustme.CA()
OLD, NEW = TRUST.issue_cert(NAME, common_name="old"), TRUST.issue_cert(NAME, common_name="new")


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    TRUST.configure_trust(context)
    return context


def put(folder: Path, leaf: trustme.LeafCert, *, cert: bool = True, key: bool = True) -> tuple[str, ...]:
    """Put certificate and key in place as renewals do, one after the other; the flags that name them."""
    for name, blob, wanted in (("cert", leaf.cert_chain_pems[0], cert), ("key", leaf.private_key_pem, key)):
        if wanted:
            blob.write_to_path(folder / f"{name}.new")
            os.replace(folder / f"{name}.new", folder / f"{name}.pem")
    return "--ssl-certfile", "cert.pem", "--ssl-keyfile", "key.pem"


@contextmanager
def connected(server: Server, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Iterator[Client]:
    sock = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    with Client(sock).tls(context, NAME, session) as client:
        yield client


def shown(client: Client) -> str:
    """The common name of the certificate that the client was shown."""
    assert isinstance(client.sock, ssl.SSLSocket)
    names = dict(pair for (pair,) in client.sock.getpeercert()["subject"])
    return names["commonName"]


class TestTickets:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
    def test_a_ticket_of_one_worker_is_good_for_every_other(
        self, serve: Start, site: Path, version: ssl.TLSVersion
    ) -> None:
        server = serve(*put(site, OLD))
        context = trusting()
        context.maximum_version = version
        with connected(server, context) as client:
            first = int(client.request(GET).body.split()[0])
            session = client.sock.session
            assert not client.sock.session_reused
        os.kill(first, signal.SIGSTOP)  # so that it takes no more connections
        try:
            with connected(server, context, session) as client:
                second = int(client.request(GET).body.split()[0])
                assert client.sock.session_reused
                assert client.sock.version() == f"TLSv{version.name[-3:].replace('_', '.')}"
        finally:
            os.kill(first, signal.SIGCONT)
        assert {first, second} == set(server.workers())

    def test_a_reload_ends_them(self, serve: Start, site: Path) -> None:
        """New keys; and who may be a client may have changed."""
        server = serve(*put(site, OLD), workers=1)
        context = trusting()
        with connected(server, context) as client:
            old = int(client.request(GET).body.split()[0])
            session = client.sock.session
        server.signal(signal.SIGHUP)
        server.wait_for_ready(1, generation=2)
        server.wait_for_ends([old])
        with connected(server, context, session) as client:
            assert client.request(GET).status == 200
            assert not client.sock.session_reused


class Visitor(threading.Thread):
    """One request after the other on connections that it keeps for as long as it may, and which certificate it saw."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[str, str]] = []
        """(common name, generation) of each answer."""
        self.begun = threading.Event()
        """Something has been seen."""
        self.failure: Exception | None = None
        self._server = server

    def run(self) -> None:
        context = trusting()
        try:
            while not self._satisfied:
                with connected(self._server, context) as client:
                    name, closes = shown(client), False
                    while not closes and not self._satisfied:
                        response = client.request(GET)
                        self.seen.append((name, response.body.split()[1].decode()))
                        closes = response.closes
                        self.begun.set()
        except Exception as error:
            self.failure = error

    @property
    def _satisfied(self) -> bool:
        return self.seen[-1:] == [("new", "2")]


class TestRenewal:
    def test_hup_shows_new_connections_the_new_certificate_and_drops_no_old_one(self, serve: Start, site: Path) -> None:
        server = serve(*put(site, OLD))
        visitors = [Visitor(server) for _ in range(6)]
        with connected(server, trusting()) as idle, connected(server, trusting()) as busy:
            assert idle.request(GET).status == 200
            busy.send(b"POST /begin HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
            server.wait_for("begun")
            for visitor in visitors:
                visitor.start()
            for visitor in visitors:
                assert visitor.begun.wait(PATIENCE)
            put(site, NEW)
            server.signal(signal.SIGHUP)
            server.wait_for_ready(2, generation=2)
            for visitor in visitors:
                visitor.join(PATIENCE)
            # What was open goes on where it was: the answer is the old generation's.
            assert idle.request(GET).body.split()[1] == b"1"
            assert shown(idle) == "old"
            busy.send(b"body")
            assert busy.response().body.split()[1] == b"1"
        for visitor in visitors:
            assert visitor.failure is None
            assert set(visitor.seen) == {("old", "1"), ("new", "2")}

    def test_a_watch_takes_a_renewed_pair_once_it_is_whole(self, serve: Start, site: Path) -> None:
        server = serve(*put(site, OLD), "--ssl-reload-interval", "0.02", workers=1)
        put(site, NEW, key=False)
        server.wait_for("changed and cannot be used .yet.: ssl_keyfile .* does not belong .* The old ones serve on")
        with connected(server, trusting()) as client:
            assert shown(client) == "old"
            put(site, NEW, cert=False)
            server.wait_for("The TLS files have changed")
            server.wait_for_ready(1, generation=2)
            old, generation, *_ = client.request(GET).body.split()
            assert generation == b"1"
        server.wait_for_ends([int(old)])
        with connected(server, trusting()) as client:
            assert shown(client) == "new"
            assert client.request(GET).body.split()[1] == b"2"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert len(re.findall("The TLS files have changed", server.output)) == 2
        assert "Generation 3" not in server.output

    def test_a_bad_pair_on_hup_changes_nothing(self, serve: Start, site: Path) -> None:
        server = serve(*put(site, OLD), workers=1)
        put(site, NEW, key=False)
        server.signal(signal.SIGHUP)
        server.wait_for("Reload refused: ssl_keyfile .* does not belong to the first certificate")
        with connected(server, trusting()) as client:
            assert shown(client) == "old"
            assert client.request(GET).body.split()[1] == b"1"

    def test_workers_need_no_file_the_arbiter_has_read_the_key(self, serve: Start, site: Path) -> None:
        """So it may be readable by root alone (docs/decisions/0004)."""
        server = serve(*put(site, OLD), workers=1)
        (site / "key.pem").unlink()
        (first,) = server.workers()
        os.kill(first, signal.SIGKILL)
        server.wait_for("Worker 1 .* is ready")
        with connected(server, trusting()) as client:
            assert client.request(GET).status == 200


class TestSaid:
    def test_a_key_that_does_not_fit_is_one_line_before_any_worker(self, start: Start, site: Path) -> None:
        flags = put(site, OLD)
        put(site, NEW, cert=False)
        server = start(*flags)
        assert server.wait() == 1
        (line,) = server.lines
        assert "does not belong to the first certificate" in line

    def test_an_expired_certificate_is_one_line_before_any_worker_and_serves(self, serve: Start, site: Path) -> None:
        past = datetime.datetime(2020, 3, 4, 5, 6, tzinfo=datetime.UTC)
        server = serve(*put(site, TRUST.issue_cert(NAME, not_after=past)), workers=1)
        where = [number for number, line in enumerate(server.lines) if "expired on 2020-03-04 05:06 UTC" in line]
        ready = [number for number, line in enumerate(server.lines) if "is ready" in line]
        assert len(where) == 1
        assert where < ready
        careless = ssl.create_default_context()
        careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
        with connected(server, careless) as client:
            assert client.request(GET).status == 200

    def test_a_silent_client_does_not_keep_the_service_from_its_end(self, serve: Start, site: Path) -> None:
        server = serve(*put(site, OLD), "--graceful-timeout", "0.2", "--timeout-keep-alive", "1", workers=1)
        with socket.create_connection(("127.0.0.1", server.port)), connected(server, trusting()) as client:
            assert client.request(GET).status == 200  # the silent one was accepted before it
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
        assert "Traceback" not in server.output
        assert "destroyed" not in server.output


class TestClients:
    def test_gunicorns_and_uvicorns_names(self, serve: Start, site: Path) -> None:
        put(site, OLD)
        TRUST.cert_pem.write_to_path(site / "ca.pem")
        (site / "palfrey.conf.py").write_text(
            "certfile = 'cert.pem'\nkeyfile = 'key.pem'\nca_certs = 'ca.pem'\ncert_reqs = 2\n"
            "ciphers = 'ECDHE-ECDSA-AES256-GCM-SHA384'\nworkers = 1\n"
        )
        server = serve(workers=1)
        context = trusting()
        NEW.configure_cert(context)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with connected(server, context) as client:
            assert client.request(GET).status == 200
            assert client.sock.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
        with pytest.raises((OSError, AssertionError)), connected(server, trusting()) as client:
            client.request(GET)  # with TLS 1.3 it is now that a client hears of it
