"""Hooks: contained whatever they do, and given what Gunicorn's hooks look for."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from palfrey.config.foreign import FOREIGN
from palfrey.config.hooks import ServerView, WorkerView, call_hook
from palfrey.config.settings import ALIASES, ROWS, Settings

LOG = logging.getLogger("palfrey.test.hooks")


def test_a_hook_gets_its_arguments(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    settings = Settings(pre_fork=lambda *arguments: seen.append(arguments))
    call_hook(settings, "pre_fork", "server", "worker", log=LOG)
    call_hook(settings, "post_fork", "server", "worker", log=LOG)
    assert seen == [("server", "worker")]
    assert caplog.records == []


@pytest.mark.parametrize("error", [ValueError("no such thing"), SystemExit(3), KeyboardInterrupt()])
def test_a_hook_that_raises_is_reported_with_its_own_traceback(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def when_ready(server: object) -> None:
        raise error

    call_hook(Settings(when_ready=when_ready), "when_ready", None, log=LOG)
    (record,) = caplog.records
    message = record.getMessage()
    assert record.levelno == logging.ERROR
    assert message.startswith(f"the hook when_ready raised {type(error).__name__}; going on\nTraceback")
    assert "in when_ready" in message
    assert "call_hook" not in message


def test_a_hook_that_cannot_even_be_called_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    call_hook(Settings(on_exit=len), "on_exit", log=LOG)
    assert "the hook on_exit raised TypeError" in caplog.text


def server(**values: Any) -> ServerView:
    return ServerView(pid=1, log=LOG, settings=Settings(**values), address=("http://127.0.0.1:8000",), num_workers=2)


def test_the_views_answer_what_hooks_ask() -> None:
    view = server(app="main:app", timeout=7.0)
    assert (view.pid, view.log, view.num_workers, view.app_uri, view.proc_name) == (1, LOG, 2, "main:app", "main:app")
    assert (view.timeout, view.address) == (7.0, ("http://127.0.0.1:8000",))
    assert repr(view) == "ServerView(pid=1, address=('http://127.0.0.1:8000',), num_workers=2)"
    worker = WorkerView(pid=None, ppid=1, age=3, log=LOG, settings=Settings())
    assert (worker.pid, worker.ppid, worker.age, worker.tmp, worker.aborted, worker.alive) == (
        None,
        1,
        3,
        None,
        False,
        True,
    )
    assert worker.cfg.workers == 1
    assert worker.timeout == 30.0


def test_cfg_knows_every_name() -> None:
    cfg = server(raw_env=("A=1",), ssl_certfile="x", log_config={"version": 1}, timeout_keep_alive=2.0).cfg
    for name in (*ROWS, *ALIASES):
        getattr(cfg, name)
        assert name in dir(cfg)
    assert all(getattr(cfg, name) is None for name in FOREIGN)
    assert (cfg.bind, cfg.keepalive, cfg.env, cfg.is_ssl) == (["127.0.0.1:8000"], 2.0, {"A": "1"}, True)
    assert (cfg.logconfig_dict, cfg.logconfig) == ({"version": 1}, None)
    assert cfg.settings["keepalive"].get() == cfg.settings["timeout_keep_alive"].value == 2.0
    with pytest.raises(AttributeError, match="Palfrey has no setting of this name"):
        cfg.nonsense  # noqa: B018
