"""When the files of TLS are looked at, and what is made of what is there; on a clock of the test's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from palfrey.config.sources import Resolved, from_arguments
from palfrey.master.generations import Generation, Generations
from palfrey.master.renewal import Renewal
from tests.support.inprocess import Records, logged

CA = trustme.CA()
OLD, NEW = CA.issue_cert("app.test"), CA.issue_cert("app.test")


class Files:
    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"

    def write(self, leaf: trustme.LeafCert, *, cert: bool = True, key: bool = True) -> None:
        """As renewals do: a new file in the place of the old one."""
        for path, blob, wanted in (
            (self.cert, leaf.cert_chain_pems[0], cert),
            (self.key, leaf.private_key_pem, key),
        ):
            if wanted:
                blob.write_to_path(path.with_suffix(".new"))
                os.replace(path.with_suffix(".new"), path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    made.write(OLD)
    return made


@pytest.fixture
def generations() -> Iterator[Generations]:
    them = Generations()
    yield them
    them.close()


@pytest.fixture
def records() -> Iterator[Records]:
    with logged() as found:
        yield found


def resolved(files: Files, **settings: Any) -> Resolved:
    tls = {"ssl_certfile": str(files.cert), "ssl_keyfile": str(files.key), "ssl_reload_interval": 10}
    return from_arguments({"app": "main:app", "bind": "127.0.0.1:0", **tls, **settings}, os.getcwd())


def look(renewal: Renewal, generation: Generation, now: float) -> bool:
    return renewal.wants_reload(generation, now, logging.getLogger("palfrey.error"))


def test_it_looks_each_interval_and_no_sooner(files, generations, records):
    current, renewal = generations.first(resolved(files)), Renewal()
    assert not look(renewal, current, 100.0)
    assert renewal.due == 110.0
    files.write(NEW)
    assert not look(renewal, current, 109.9)
    assert look(renewal, current, 110.0)
    assert renewal.due == 120.0
    assert records.warnings == []


def test_it_never_looks_unless_asked_to(files, generations):
    renewal = Renewal()
    for settings in ({"ssl_reload_interval": 0}, {"ssl_certfile": None, "ssl_keyfile": None, "ssl_reload_interval": 0}):
        assert not look(renewal, generations.first(resolved(files, **settings)), 100.0)
        assert renewal.due is None


def test_half_a_renewal_waits_for_the_other_half_and_is_said_once(files, generations, records):
    current, renewal = generations.first(resolved(files)), Renewal()
    look(renewal, current, 0.0)
    files.write(NEW, key=False)
    assert not look(renewal, current, 10.0)
    assert not look(renewal, current, 20.0)
    (warning,) = records.warnings
    assert warning.startswith("The TLS files have changed and cannot be used (yet): ssl_keyfile ")
    assert warning.endswith(" comes first. The old ones serve on")
    files.write(NEW, cert=False)
    assert look(renewal, current, 30.0)


def test_a_file_that_is_not_there_or_not_whole(files, generations, records):
    current, renewal = generations.first(resolved(files)), Renewal()
    look(renewal, current, 0.0)
    files.cert.unlink()
    assert not look(renewal, current, 10.0)
    files.cert.write_bytes(NEW.cert_chain_pems[0].bytes()[:300])
    assert not look(renewal, current, 20.0)
    assert len(records.warnings) == 2
    files.write(OLD)
    assert look(renewal, current, 30.0)


def test_a_reload_that_is_refused_is_not_tried_again_with_the_same_files(files, generations):
    current, renewal = generations.first(resolved(files)), Renewal()
    look(renewal, current, 0.0)
    files.write(NEW)
    assert look(renewal, current, 10.0)
    candidate, _ = generations.propose(resolved(files))
    assert not look(renewal, current, 20.0), "it is being tried"
    generations.refuse(candidate.number)
    assert not look(renewal, current, 30.0)


def test_a_new_generation_has_read_its_files_itself(files, generations):
    current, renewal = generations.first(resolved(files)), Renewal()
    look(renewal, current, 0.0)
    files.write(NEW)
    generations.adopt(generations.propose(resolved(files))[0].number)
    assert not look(renewal, generations.current, 10.0)
    assert renewal.due == 20.0
    assert not look(renewal, generations.current, 20.0)
    files.write(OLD)
    assert look(renewal, generations.current, 30.0)
