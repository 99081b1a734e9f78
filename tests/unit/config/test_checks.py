"""Settings that exclude or need each other, and what must exist: refused with the place where it was set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from palfrey.config import checks
from palfrey.config.settings import Settings
from palfrey.config.sources import resolve
from palfrey.errors import ConfigError


def refusal(tmp_path: Path, **line: object) -> str:
    with pytest.raises(ConfigError) as raised:
        resolve(line, {}, str(tmp_path), need_app=False)
    return str(raised.value)


def accepted(tmp_path: Path, **line: object) -> Settings:
    return resolve(line, {}, str(tmp_path), need_app=False).settings


@pytest.fixture
def pem(tmp_path: Path) -> str:
    (tmp_path / "x.pem").write_text("")
    return "x.pem"


def test_tls_settings_need_a_certificate(tmp_path: Path, pem: str) -> None:
    for name, value in {
        "ssl_keyfile": pem,
        "ssl_ca_certs": pem,
        "ssl_ciphers": "X",
        "ssl_keyfile_password": "p",
        "ssl_min_version": "TLSv1.3",
        "ssl_reload_interval": "60",
    }.items():
        message = refusal(tmp_path, **{name: value})
        assert message.endswith("): needs ssl_certfile, which turns TLS on")
        assert accepted(tmp_path, ssl_certfile=pem, **{name: value})
    assert "= *** (" in refusal(tmp_path, ssl_keyfile_password="hunter2")


def test_client_certificates_need_authorities(tmp_path: Path, pem: str) -> None:
    message = refusal(tmp_path, ssl_certfile=pem, ssl_cert_reqs="2")
    assert message.startswith("ssl_cert_reqs = 2 (command line, --ssl-cert-reqs): needs ssl_ca_certs")
    assert accepted(tmp_path, ssl_cert_reqs="0", ssl_min_version="1.2")
    assert accepted(tmp_path, ssl_certfile=pem, ssl_ca_certs=pem, ssl_cert_reqs="2")


@pytest.mark.parametrize("rival", ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"])
def test_one_family_of_proxy_fields_is_believed(tmp_path: Path, rival: str) -> None:
    message = refusal(tmp_path, forwarded_fields=("forwarded", rival))
    assert message.endswith(f"): forwarded says what {rival} says: name the one that your proxy sets")
    assert accepted(tmp_path, forwarded_fields=("forwarded", "x-forwarded-prefix"))
    assert accepted(tmp_path, forwarded_fields=("forwarded,x-forwarded-prefix",))
    assert accepted(tmp_path, forwarded_fields="Forwarded").forwarded_fields == ("forwarded",)
    assert accepted(tmp_path, forwarded_fields=rival).forwarded_fields == (rival,)


@pytest.mark.parametrize("name", ["ssl_certfile", "log_config"])
def test_files_must_be_readable(tmp_path: Path, name: str) -> None:
    flag = "--" + name.replace("_", "-")
    assert refusal(tmp_path, **{name: "no"}) == (
        f"{name} = no (command line, {flag}): {tmp_path}/no: No such file or directory"
    )


def test_directories_must_exist(tmp_path: Path) -> None:
    assert refusal(tmp_path, chdir="no") == f"chdir = no (command line, --chdir): there is no directory {tmp_path}/no"
    assert refusal(tmp_path, app_dir="no").endswith(f"there is no directory {tmp_path}/no")
    for name in ("pidfile", "errorlog", "accesslog"):
        assert refusal(tmp_path, **{name: "no/x"}).endswith(f"there is no directory {tmp_path}/no")
        assert refusal(tmp_path, **{name: "."}).endswith("is a directory, not a file")


@pytest.mark.parametrize(
    ("line", "other"),
    [({"uds": "/x", "port": "1"}, "port"), ({"uds": "/x", "fd": "1"}, "fd"), ({"fd": "1", "host": "h"}, "host")],
)
def test_addresses_exclude_each_other(tmp_path: Path, line: dict[str, object], other: str) -> None:
    assert refusal(tmp_path, **line).startswith(
        f"{other} = {line[other]} (command line, --{other}): cannot be combined"
    )


def test_accounts_must_exist(tmp_path: Path) -> None:
    for name in ("user", "group"):
        message = refusal(tmp_path, **{name: "palfrey-nobody"})
        assert message.endswith(f"there is no such {name}")
    for owner in ("palfrey-nobody", ":palfrey-nobody", "0:palfrey-nobody"):
        assert refusal(tmp_path, socket_owner=owner).endswith("there is no such user or group")
    assert accepted(tmp_path, socket_owner="0:0")
    assert accepted(tmp_path, user=str(os.geteuid()), group=str(os.getegid()))


def test_only_root_may_take_another_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(checks.os, "getegid", lambda: 1000)
    assert "only root can run workers as another user" in refusal(tmp_path, user="1001")
    assert "only root can run workers as another group" in refusal(tmp_path, group="1001")
    assert accepted(tmp_path, user="1000", group="1000")
