"""Which listeners are shared, opened and closed as generations come and go."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from palfrey.config.sources import Resolved, from_arguments, resolve
from palfrey.errors import BindError, ConfigError
from palfrey.master.generations import NO_MOLDS, Generation, Generations, asked_for, unreloadable


@pytest.fixture
def generations() -> Iterator[Generations]:
    them = Generations()
    yield them
    them.close()


def resolved(**settings: Any) -> Resolved:
    return from_arguments({"app": "main:app", **({"bind": "127.0.0.1:0"} | settings)}, os.getcwd())


def is_open(generation: Generation) -> list[bool]:
    return [listener.fileno() >= 0 for listener in generation.listeners]


def test_the_first_is_current_and_says_where_it_listens(generations: Generations) -> None:
    assert not generations.begun
    first = generations.first(resolved(workers=3, timeout=7))
    assert generations.begun
    assert generations.current is first is generations[1]
    assert first.urls[0].startswith("http://127.0.0.1:")
    assert not first.urls[0].endswith(":0")
    assert (first.terms.workers, first.terms.timeout) == (3, 7)


def test_an_address_that_stays_keeps_its_socket(generations: Generations) -> None:
    first = generations.first(resolved())
    second, stay = generations.propose(resolved(workers=2))
    assert stay == []
    assert second.listeners == first.listeners
    generations.adopt(second.number)
    assert generations.current is second
    assert is_open(second) == [True]
    assert not first.parting


def test_an_address_that_goes_is_closed_at_adoption_and_its_workers_part(
    generations: Generations, tmp_path: Path
) -> None:
    old, new = tmp_path / "old.sock", tmp_path / "new.sock"
    first = generations.first(resolved(bind=[f"unix:{old}", "127.0.0.1:0"]))
    second, _ = generations.propose(resolved(bind=["127.0.0.1:0", f"unix:{new}"]))
    assert is_open(first) == [True, True]
    assert new.exists()
    assert generations.others(second.number) == [first.listeners[0]]
    assert generations.others(first.number) == [second.listeners[1]]
    generations.adopt(second.number)
    assert is_open(first) == [False, True]
    assert not old.exists()
    assert first.parting
    assert not second.parting


def test_a_refused_one_leaves_nothing(generations: Generations, tmp_path: Path) -> None:
    new = tmp_path / "new.sock"
    first = generations.first(resolved())
    second, _ = generations.propose(resolved(bind=["127.0.0.1:0", f"unix:{new}"]))
    generations.refuse(second.number)
    assert generations.current is first
    assert is_open(first) == [True]
    assert not new.exists()
    assert second.parting, "a canary that was ready by then empties the queue"
    assert not first.parting


def test_a_withdrawn_one_is_a_refused_one(generations: Generations, tmp_path: Path) -> None:
    new = tmp_path / "new.sock"
    generations.first(resolved())
    generations.withdraw()
    generations.propose(resolved(bind=["127.0.0.1:0", f"unix:{new}"]))
    generations.withdraw()
    assert not new.exists()


def test_a_superseded_one_leaves_nothing_either(generations: Generations, tmp_path: Path) -> None:
    one, two = tmp_path / "one.sock", tmp_path / "two.sock"
    generations.first(resolved())
    second, _ = generations.propose(resolved(bind=f"unix:{one}"))
    third, _ = generations.propose(resolved(bind=f"unix:{two}"))
    assert not one.exists()
    generations.refuse(second.number)
    assert two.exists(), "the refusal of a superseded one is no news"
    generations.adopt(third.number)
    assert is_open(third) == [True]


def test_what_cannot_be_opened_changes_nothing(generations: Generations, tmp_path: Path) -> None:
    first = generations.first(resolved())
    port = first.urls[0].rpartition(":")[2]
    with pytest.raises(BindError, match=port):
        generations.propose(resolved(bind=[f"127.0.0.1:{port}", f"unix:{tmp_path}/new.sock"]))
    assert generations.current is first
    assert is_open(first) == [True]
    assert not (tmp_path / "new.sock").exists()
    with pytest.raises(BindError, match="cannot listen: '::1'"):
        generations.propose(resolved(bind="::1"))


def test_settings_that_need_a_new_start_keep_their_values(generations: Generations) -> None:
    generations.first(resolved(umask=0o22))
    second, stay = generations.propose(resolved(umask=0o27, workers=5))
    assert stay == ["umask"]
    assert (second.settings.umask, second.settings.workers) == (0o22, 5)
    assert unreloadable(second.settings, second.settings) == []


def test_generations_without_workers_are_forgotten(generations: Generations) -> None:
    generations.first(resolved())
    for number in (2, 3, 4):
        generations.propose(resolved())
        if number < 4:
            generations.adopt(number)
    generations.forget({2})
    assert [number for number in (1, 2, 3, 4) if number in generations._known] == [2, 3, 4]


def test_systemds_sockets_serve_where_nobody_asks_for_others() -> None:
    silent = resolve({"app": "main:app"}, {}, os.sep)
    asking = resolve({"app": "main:app", "port": "0"}, {}, os.sep)
    assert not asked_for(silent)
    assert asked_for(asking)
    with socket.create_server(("127.0.0.1", 0)) as handed:
        port = handed.getsockname()[1]
        generations = Generations([(os.dup(handed.fileno()), "web")])
        first = generations.first(silent)
        assert first.urls == (f"http://127.0.0.1:{port}",)
        second, _ = generations.propose(silent)
        assert second.listeners == first.listeners
        generations.close()


@pytest.fixture
def handed() -> Iterator[list[tuple[int, str]]]:
    """Three sockets of systemd's, two of them of one unit."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        names = ("web", "admin", "web")
        yield [(os.dup(one.fileno()), name) for one, name in zip(sockets, names, strict=True)]


def test_a_bind_names_systemds_sockets(handed: list[tuple[int, str]]) -> None:
    generations = Generations(handed)
    first = generations.first(resolved(bind=["systemd:web", "127.0.0.1:0"]))
    assert [listener.address.name for listener in first.listeners] == ["web", "web", ""]
    assert generations.unused() == [handed[1]]
    generations.close()
    os.close(handed[1][0])


def test_a_reload_may_leave_a_socket_of_systemds_and_come_back_to_it(handed: list[tuple[int, str]]) -> None:
    generations = Generations(handed)
    generations.first(resolved(bind=["systemd:web", "systemd:admin"]))
    second, _ = generations.propose(resolved(bind="systemd:admin"))
    generations.adopt(second.number)
    assert [listener.address.name for listener in generations.others(second.number)] == ["web", "web"], "stays open"
    third, _ = generations.propose(resolved(bind="systemd:web"))
    generations.adopt(third.number)
    assert [listener.sock.getsockname() for listener in third.listeners]
    generations.close()


@pytest.mark.parametrize(
    ("sockets", "message"),
    [
        ([(700, "web"), (701, ""), (702, "web")], "systemd handed in one without a name, web; the name is the"),
        ([], "systemd handed in no socket; the name is the .socket unit's FileDescriptorName="),
    ],
)
def test_a_name_that_no_socket_bears(sockets: list[tuple[int, str]], message: str) -> None:
    with pytest.raises(BindError, match=re.escape(f"cannot listen on systemd:shop: {message}")):
        Generations(sockets).first(resolved(bind="systemd:shop"))


def test_tls_is_made_before_any_fork_and_shows_in_the_url(generations: Generations) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    seen = []

    def hook(config: Any, default: Any) -> ssl.SSLContext:
        seen.append(config.workers)
        return context

    first = generations.first(resolved(workers=4, ssl_context=hook))
    assert first.tls is not None
    assert (first.tls.context, first.tls.certificate) == (context, None)
    assert seen == [4]
    assert first.urls[0].startswith("https://127.0.0.1:")


def test_a_reload_changes_what_is_offered_by_alpn(generations: Generations, tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    chosen = []
    for http in ("auto", "h2", "h11"):
        new = resolved(http=http, ssl_certfile=str(certificate))
        one = generations.propose(new)[0] if generations.begun else generations.first(new)
        generations.adopt(one.number)
        assert one.tls is not None
        chosen.append(agreed(one.tls.context, authority))
    assert chosen == ["http/1.1", "h2", "http/1.1"]


def agreed(server: ssl.SSLContext, authority: trustme.CA) -> str | None:
    """What a client that knows both chooses."""
    client = ssl.create_default_context()
    authority.configure_trust(client)
    client.set_alpn_protocols(["http/1.1", "h2"])
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for end in (*ends, *ends):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return ends[0].selected_alpn_protocol()


def test_a_tls_hook_that_returns_no_context_is_named(generations: Generations) -> None:
    with pytest.raises(ConfigError, match=r"^the hook ssl_context returned NoneType, not an ssl\.SSLContext$"):
        generations.first(resolved(ssl_context=lambda config, default: None))


def test_a_tls_hook_that_raises_is_a_setting_that_does_not_fit(generations: Generations) -> None:
    def hook(config: Any, default: Any) -> None:
        raise OSError("no token")

    with pytest.raises(ConfigError, match="the hook ssl_context raised OSError: no token"):
        generations.first(resolved(ssl_context=hook))


def test_where_no_process_can_adopt_preloading_is_warned_of_and_off(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Generation(1, resolved(preload_app=True).settings, {}, [], None)
    monkeypatch.setattr("palfrey.master.generations.CAN_ADOPT", True)
    assert (made.terms.preload, made.notices) == (True, [])
    monkeypatch.setattr("palfrey.master.generations.CAN_ADOPT", False)
    assert not made.terms.preload
    assert made.notices == [NO_MOLDS]
