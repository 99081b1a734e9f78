"""Which transport serves TLS, and what is kept from whoever reads the log."""

from __future__ import annotations

import builtins
import logging
import ssl
from typing import Any

import pytest

from palfrey.errors import BootError
from palfrey.system.tls import ServerTls
from palfrey.workers.loops import make_loop
from palfrey.workers.transports import SHUTDOWN_TIMEOUT, tls_connector

aiofastnet = pytest.importorskip("aiofastnet")


@pytest.fixture
def loop():
    made = make_loop("asyncio")
    yield made
    made.close()


@pytest.fixture
def logger(monkeypatch):
    found = logging.getLogger("aiofastnet")
    monkeypatch.setattr(found, "level", logging.NOTSET)
    return found


def tls(certificate: str | None = "PEM", verify: int = 0) -> ServerTls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.VerifyMode(verify)
    return ServerTls(context, 3.0, certificate, (), None)


def of(connect: Any) -> Any:
    """The transport's own function below the options."""
    return connect.func


@pytest.mark.parametrize(
    ("given", "name", "fast"),
    [
        (tls(), "aiofastnet", True),
        (tls(), "loop", False),
        (tls(None), "aiofastnet", False),
        (tls(verify=1), "aiofastnet", False),
        (tls(verify=2), "aiofastnet", False),
    ],
    ids=["aiofastnet", "loop", "the hook's", "optional", "required"],
)
def test_the_table(loop, logger, given, name, fast):
    connect = tls_connector(loop, given, name)
    expected = aiofastnet.connect_accepted_socket if fast else loop.connect_accepted_socket
    assert of(connect) == expected
    assert connect.keywords["ssl"] is given.context
    assert connect.keywords["ssl_handshake_timeout"] == 3.0
    assert connect.keywords["ssl_shutdown_timeout"] == SHUTDOWN_TIMEOUT


def test_without_it_the_worker_says_what_to_do(loop, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "aiofastnet":
            raise ImportError("no aiofastnet here")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BootError, match=r"^ssl_transport = aiofastnet: no aiofastnet here; install palfrey\[fast\]"):
        tls_connector(loop, tls(), "aiofastnet")


def test_its_log_is_for_those_who_ask_for_it(loop, logger):
    """It says every failed handshake at ERROR."""
    tls_connector(loop, tls(), "aiofastnet")
    assert logger.level == logging.CRITICAL
    logger.level = logging.INFO
    tls_connector(loop, tls(), "aiofastnet")
    assert logger.level == logging.INFO


def test_only_handshakes_are_kept_from_the_loops_exception_handler(loop, logger):
    told = []
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    asked = tls_connector(loop, tls(), "aiofastnet").args[0]
    asked.call_exception_handler({"message": "SSL handshake failed", "exception": OSError()})
    asked.call_exception_handler({"message": "SSL handshake failed", "exception": ConnectionResetError})
    asked.call_exception_handler({"message": "Fatal error", "exception": ZeroDivisionError()})
    assert told == ["Fatal error"]
