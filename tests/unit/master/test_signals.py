"""Signals are recorded in order, wake a selector, and are given back; a child sheds them."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator

import pytest

from palfrey.master.orders import Orders
from palfrey.master.signals import IN_A_WORKER, SIGNALS, Inbox, Interrupted, blocked


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    box = Inbox()
    box.install()
    yield box
    box.uninstall()


def send(*signums: int) -> None:
    for signum in signums:
        signal.raise_signal(signum)


def test_every_row_has_its_method_among_the_orders() -> None:
    for command in SIGNALS:
        assert callable(getattr(Orders, f"on_{command.handler}"))
    assert len({command.signum for command in SIGNALS}) == len(SIGNALS)


def test_what_arrives_is_taken_in_order_and_once(inbox: Inbox) -> None:
    send(signal.SIGTTIN, signal.SIGHUP, signal.SIGTTIN)
    assert [command.name for command in inbox.take()] == ["SIGTTIN", "SIGHUP", "SIGTTIN"]
    assert inbox.take() == []


def test_it_wakes_a_selector_until_taken(inbox: Inbox) -> None:
    assert select.select([inbox], [], [], 0)[0] == []
    send(signal.SIGTERM)
    assert select.select([inbox], [], [], 5)[0] == [inbox]
    inbox.take()
    assert select.select([inbox], [], [], 0)[0] == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_an_order_to_end_interrupts_what_is_waited_for_and_is_taken_all_the_same(inbox: Inbox, signum: int) -> None:
    send(signal.SIGHUP)
    with pytest.raises(Interrupted, match="has come"), inbox.impatient(0):
        send(signum)
    assert [command.signum for command in inbox.take()] == [signal.SIGHUP, signum]
    send(signum)  # interrupts nothing any more
    assert [command.signum for command in inbox.take()] == [signum]


def test_time_that_is_over_interrupts_it_until_it_heeds_that(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palfrey.master.signals.AGAIN", 0.01)
    before = signal.getsignal(signal.SIGALRM)

    def stubborn() -> None:
        try:
            signal.pause()
        except BaseException:
            signal.pause()

    with pytest.raises(Interrupted, match=r"not done within 0\.01 s"), inbox.impatient(0.01):
        stubborn()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_what_ends_in_time_is_not_interrupted(inbox: Inbox) -> None:
    with inbox.impatient(60):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_handlers_that_it_has_put_in_place_of_ours_do_not_stay(inbox: Inbox) -> None:
    with inbox.impatient(0):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
    send(signal.SIGTERM)
    assert select.select([inbox], [], [], 5)[0] == [inbox]
    assert [command.name for command in inbox.take()] == ["SIGTERM"]
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN


def test_a_flood_is_not_lost(inbox: Inbox, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(3000):
        send(signal.SIGUSR1)
    assert len(inbox.take()) == 3000
    assert capfd.readouterr().err == ""


def test_what_the_starter_had_blocked_is_let_through_and_blocked_again_afterwards() -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGPROF})
    try:
        box = Inbox()
        box.install()
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        assert [command.name for command in box.take()] == ["SIGTERM"]
        box.uninstall()
        assert {signal.SIGTERM, signal.SIGPROF} <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_blocked_holds_back(inbox: Inbox) -> None:
    with blocked():
        # To this thread: the mask is the thread's own, and pytest's process may have others (the arbiter has not).
        signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
        assert inbox.take() == []
    assert [command.handler for command in inbox.take()] == ["reload"]


def test_uninstall_gives_back_what_was() -> None:
    before = {command.signum: signal.getsignal(command.signum) for command in SIGNALS}
    box = Inbox()
    box.install()
    assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    box.uninstall()
    assert {command.signum: signal.getsignal(command.signum) for command in SIGNALS} == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_child_sheds_everything(inbox: Inbox) -> None:
    waking = inbox.fileno()
    with blocked():
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                inbox.shed()
                right = all(signal.getsignal(signum) == wanted for signum, wanted in IN_A_WORKER.items())
                try:
                    os.fstat(waking)
                except OSError:
                    status = 0 if right and signal.set_wakeup_fd(-1) == -1 else 2
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_signal_for_a_child_that_was_just_forked_meets_its_own_dispositions(inbox: Inbox) -> None:
    with blocked():
        pid = os.fork()
        if pid == 0:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)
                inbox.shed()
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
            finally:
                os._exit(0)  # not reached: the INT is ignored, the TERM ends it
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
