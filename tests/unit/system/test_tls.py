"""Server contexts: what they agree on, and one line for each thing that can be wrong with the files."""

from __future__ import annotations

import datetime
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from palfrey.errors import ConfigError
from palfrey.system.tls import HTTP2, own_certificate, server_context, stamps, validity_notice

CA = trustme.CA()
CERT = CA.issue_cert("localhost")
OTHER = CA.issue_cert("localhost")


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str], str]:
    """The path of one of the files below, written when asked for."""
    key = load_pem_private_key(CERT.private_key_pem.bytes(), None)
    expired = CA.issue_cert("localhost", not_after=datetime.datetime(2020, 3, 4, 5, 6, tzinfo=datetime.UTC))
    begin, end = (datetime.datetime(year, 1, 2, tzinfo=datetime.UTC) for year in (2999, 3000))
    early = CA.issue_cert("localhost", not_before=begin, not_after=end)
    contents = {
        "chain": b"".join(blob.bytes() for blob in CERT.cert_chain_pems),
        "key": CERT.private_key_pem.bytes(),
        "both": CERT.private_key_and_cert_chain_pem.bytes(),
        "other": OTHER.private_key_pem.bytes(),
        "locked": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame")),
        "expired": expired.private_key_and_cert_chain_pem.bytes(),
        "early": early.private_key_and_cert_chain_pem.bytes(),
        "ca": CA.cert_pem.bytes(),
        "text": b"nothing of the kind\n",
    }

    def write(name: str) -> str:
        path = tmp_path / f"{name}.pem"
        path.write_bytes(contents[name])
        return str(path)

    return write


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Let the two agree in memory; the client's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    assert not waiting
    return ends[0]


def trusting_client() -> ssl.SSLContext:
    client = ssl.create_default_context()
    CA.configure_trust(client)
    client.set_alpn_protocols(["h2", "http/1.1"])
    return client


def refusal(*args: object, **options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        server_context(*args, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


Files = Callable[[str], str]


def test_handshake(files: Files) -> None:
    end = handshake(server_context(files("chain"), files("key")), trusting_client())
    assert end.version() == "TLSv1.3"
    assert end.selected_alpn_protocol() == "http/1.1"


def test_http2_is_preferred_where_it_is_offered(files: Files) -> None:
    server = server_context(files("both"), alpn=HTTP2)
    client = trusting_client()
    for known, chosen in ([["http/1.1", "h2"], "h2"], [["http/1.1"], "http/1.1"], [["h3"], None]):
        client.set_alpn_protocols(list(known or ()))
        assert handshake(server, client).selected_alpn_protocol() == chosen


def test_neither_compression_nor_renegotiation(files: Files) -> None:
    """RFC 9113 section 9.2.1."""
    options = server_context(files("both")).options
    assert options & ssl.OP_NO_COMPRESSION
    assert options & ssl.OP_NO_RENEGOTIATION


def test_key_beside_the_chain(files: Files) -> None:
    handshake(server_context(files("both")), trusting_client())


def test_password(files: Files) -> None:
    handshake(server_context(files("chain"), files("locked"), "sesame"), trusting_client())


def test_versions(files: Files) -> None:
    assert server_context(files("both")).minimum_version == ssl.TLSVersion.TLSv1_2
    assert server_context(files("both"), minimum="1.3").minimum_version == ssl.TLSVersion.TLSv1_3
    assert refusal(files("both"), minimum="1.1") == "TLS version '1.1' is not offered; choose 1.2 or 1.3"


def test_client_certificates(files: Files) -> None:
    server = server_context(files("both"), ca_certs=files("ca"), cert_reqs=2)
    client = trusting_client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # where the server's refusal is part of the handshake
    with pytest.raises(ssl.SSLError, match=r"(?i)peer did not return a certificate"):
        handshake(server, client)
    OTHER.configure_cert(client)
    handshake(server, client)


def test_ciphers(files: Files) -> None:
    context = server_context(files("both"), ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")
    names = [one["name"] for one in context.get_ciphers() if one["protocol"] == "TLSv1.2"]
    assert names == ["ECDHE-ECDSA-AES256-GCM-SHA384"]


def test_ciphers_unless_set_are_of_today(files: Files) -> None:
    ciphers = server_context(files("both")).get_ciphers()
    assert {one["protocol"] for one in ciphers} == {"TLSv1.2", "TLSv1.3"}
    assert all(one["aead"] for one in ciphers)
    assert {one["kea"] for one in ciphers if one["protocol"] == "TLSv1.2"} == {"kx-ecdhe"}


def test_stamps_tell_a_file_that_was_written_replaced_or_pointed_elsewhere(files: Files, tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.symlink_to(files("key"))
    seen = [stamps((str(live), None))]
    assert stamps((str(live), None)) == seen[0]
    live.unlink()
    seen.append(stamps((str(live), None)))
    live.symlink_to(files("other"))
    seen.append(stamps((str(live), None)))
    with open(live, "ab") as file:
        file.write(b"#")
    seen.append(stamps((str(live), None)))
    assert len(set(seen)) == 4
    assert seen[1] == (None, None)


# What is wrong ------------------------------------------------------------------------------------------------------


def test_missing_files(files: Files, tmp_path: Path) -> None:
    no = str(tmp_path / "no.pem")
    assert refusal(no) == f"ssl_certfile: cannot read {no}: No such file or directory"
    assert refusal(files("chain"), no) == f"ssl_keyfile: cannot read {no}: No such file or directory"
    assert refusal(files("both"), ca_certs=no) == f"ssl_ca_certs: cannot read {no}: No such file or directory"
    assert refusal(str(tmp_path)) == f"ssl_certfile: cannot read {tmp_path}: Is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(files: Files) -> None:
    key = files("key")
    os.chmod(key, 0)
    assert refusal(files("chain"), key) == f"ssl_keyfile: cannot read {key}: Permission denied"


def test_another_certificates_key(files: Files) -> None:
    chain, other = files("chain"), files("other")
    assert refusal(chain, other) == (
        f"ssl_keyfile {other} does not belong to the first certificate in {chain}; the server's own comes first"
    )


def test_locked_key(files: Files) -> None:
    chain, locked = files("chain"), files("locked")
    assert refusal(chain, locked) == f"the key in {locked} is encrypted; set ssl_keyfile_password"
    assert refusal(chain, locked, "wrong") == f"ssl_keyfile_password does not open the key in {locked}"
    assert refusal(chain, locked, "x" * 5000).startswith(f"cannot load {chain} and its key: password cannot be longer")


def test_a_locked_key_never_asks_on_the_terminal(files: Files) -> None:
    script = (
        "import sys; from palfrey.system.tls import server_context\n"
        "try: server_context(*sys.argv[1:])\n"
        "except Exception as error: print(error)"
    )
    main, terminal = os.openpty()
    done = subprocess.run(
        [sys.executable, "-c", script, files("chain"), files("locked")],
        check=True, stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, start_new_session=True, timeout=20,
    )  # fmt: skip
    os.close(main)
    os.close(terminal)
    assert b"is encrypted" in done.stdout


def test_files_of_something_else(files: Files) -> None:
    text, chain = files("text"), files("chain")
    assert refusal(text).startswith(f"ssl_certfile {text} holds no certificate in PEM form (OpenSSL: ")
    assert refusal(files("key")).startswith("ssl_certfile ")
    assert refusal(chain).startswith(
        f"ssl_certfile {chain} (without ssl_keyfile) holds no private key that can be used"
    )
    assert refusal(chain, text).startswith(f"ssl_keyfile {text} holds no private key that can be used (OpenSSL: ")
    assert refusal(files("both"), ca_certs=text).startswith(f"ssl_ca_certs {text} holds no certificates in PEM form (")


def test_another_time(files: Files) -> None:
    """A certificate that clients refuse all the same serves: what it costs to refuse it is a service."""
    server_context(files("expired"))
    for name, notice in {
        "expired": "ssl_certfile {} expired on 2020-03-04 05:06 UTC: clients refuse it; renew it and send HUP",
        "early": "ssl_certfile {} is not valid before 2999-01-02 00:00 UTC: clients refuse it until then",
    }.items():
        path = files(name)
        der = own_certificate(path)
        assert der is not None
        assert validity_notice(path, der) == notice.format(path)


def test_nothing_is_said_of_a_certificate_that_is_valid_or_cannot_be_read_here(files: Files) -> None:
    der = own_certificate(files("both"))
    assert der is not None
    assert validity_notice("a.pem", der) is None
    assert validity_notice("a.pem", b"\x30\x03\x02\x01\x01") is None
    assert own_certificate(files("text")) is None


def test_client_check_settings(files: Files) -> None:
    assert refusal(files("both"), cert_reqs=3) == "ssl_cert_reqs is 3; it is 0 (none), 1 (optional) or 2 (required)"
    assert refusal(files("both"), cert_reqs=1).startswith("ssl_cert_reqs is 1; set ssl_ca_certs to who may sign")


def test_unknown_ciphers(files: Files) -> None:
    assert refusal(files("both"), ciphers="ROT13") == (
        "ssl_ciphers 'ROT13': OpenSSL knows none of these; see `openssl ciphers`"
    )


def test_ssl_is_imported_late() -> None:
    script = "import sys, palfrey.system.tls; sys.exit('ssl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
