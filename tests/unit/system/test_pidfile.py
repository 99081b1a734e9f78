"""The pid file: made whole, refused while held, replaced when left over, removed only by its owner."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from palfrey.errors import ConfigError
from palfrey.system.pidfile import Pidfile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "palfrey.pid"


@pytest.fixture
def other() -> Iterator[int]:
    """The pid of a living process that is no Python."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate()


@pytest.fixture
def dead() -> int:
    """The pid of a process that has gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_create_and_remove(path: Path) -> None:
    pidfile = Pidfile(str(path))
    pidfile.create()
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["palfrey.pid"]
    assert pidfile.remove()
    assert not path.exists()
    assert not pidfile.remove()


def test_create_twice_by_one_process(path: Path) -> None:
    Pidfile(str(path)).create()
    Pidfile(str(path)).create()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_living_holder_is_named(path: Path, other: int) -> None:
    path.write_text(f"{other}\n")
    os.utime(path, (time.time() + 10,) * 2)
    with pytest.raises(ConfigError) as caught:
        Pidfile(str(path)).create()
    assert str(caught.value) == (
        f"the pid file {path} is held by process {other}, which is running; "
        "stop it, name another pid file, or remove this one if that is no server of yours"
    )
    assert path.read_text() == f"{other}\n"
    assert len(list(path.parent.iterdir())) == 1


def test_a_holder_that_is_known_to_be_at_its_end_is_replaced(path: Path, other: int) -> None:
    path.write_text(f"{other}\n")
    Pidfile(str(path)).create(after=other)
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_dead_holder_is_replaced(path: Path, dead: int) -> None:
    path.write_text(f"{dead}\n")
    Pidfile(str(path)).create()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_zombie_holder_is_replaced(path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    path.write_text(str(process.pid))
    Pidfile(str(path)).create()
    process.wait()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_pid_that_another_program_has_got_since(path: Path, other: int) -> None:
    path.write_text(f"{other}\n")
    os.utime(path, (1, 1))
    Pidfile(str(path)).create()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_pid_that_may_be_another_palfreys_is_left(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        path.write_text(f"{process.pid}\n")
        os.utime(path, (1, 1))  # its clock may have been set
        with pytest.raises(ConfigError, match="which is running"):
            Pidfile(str(path)).create()
        process.communicate(b"\n")


@pytest.mark.parametrize("text", ["", "\n", "99999999999999999999"])
def test_a_file_without_a_possible_pid_is_replaced(path: Path, text: str) -> None:
    path.write_text(text)
    Pidfile(str(path)).create()
    assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("text", ["bind = ':80'\n", "0", "-1", "12 13"])
def test_a_file_that_is_no_pid_file_is_left(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match="holds no pid; is it really a pid file"):
        Pidfile(str(path)).create()
    assert path.read_text() == text


def test_a_symlink_is_replaced_and_not_written_through(path: Path, tmp_path: Path, dead: int) -> None:
    target = tmp_path / "target"
    target.write_text(str(dead))
    path.symlink_to(target)
    Pidfile(str(path)).create()
    assert target.read_text() == str(dead)
    assert not path.is_symlink()


def test_a_file_system_without_links(path: Path, dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    Pidfile(str(path)).create()
    assert path.read_text() == f"{os.getpid()}\n"
    path.write_text(str(dead))
    Pidfile(str(path)).create()
    assert path.read_text() == f"{os.getpid()}\n"


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Pidfile(f"{tmp_path}/no/x.pid").create()
    assert str(caught.value) == f"cannot write the pid file {tmp_path}/no/x.pid: No such file or directory"


def test_a_full_disk_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("palfrey.system.pidfile.os.fchmod", full)
    with pytest.raises(ConfigError, match=rf"cannot write the pid file {path}: No space left on device"):
        Pidfile(str(path)).create()
    assert list(path.parent.iterdir()) == []


def test_a_directory_in_its_place(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        Pidfile(str(path)).create()


def test_remove_leaves_a_successors_file(path: Path) -> None:
    pidfile = Pidfile(str(path))
    pidfile.create()
    path.write_text("1\n")
    assert not pidfile.remove()
    assert path.exists()


def test_remove_without_create_leaves_the_file(path: Path) -> None:
    path.write_text(str(os.getpid()))
    assert not Pidfile(str(path)).remove()


def test_remove_in_a_forked_child_does_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pidfile = Pidfile(str(path))
    pidfile.create()
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    assert not pidfile.remove()
    assert path.exists()


def test_remove_after_chdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pidfile = Pidfile("x.pid")
    pidfile.create()
    monkeypatch.chdir("/")
    assert pidfile.remove()
    assert list(tmp_path.iterdir()) == []


def test_rename(path: Path) -> None:
    pidfile = Pidfile(str(path))
    pidfile.create()
    pidfile.rename(f"{path}.old")
    assert not path.exists()
    assert pidfile.path == f"{path}.old"
    assert pidfile.remove()


def test_rename_of_anothers_file(path: Path) -> None:
    pidfile = Pidfile(str(path))
    pidfile.create()
    path.write_text("1\n")
    with pytest.raises(ConfigError, match="is not this process's any more"):
        pidfile.rename(f"{path}.old")
    path.write_text(str(os.getpid()))
    with pytest.raises(ConfigError, match="cannot rename the pid file"):
        pidfile.rename(f"{path}/no/dir")
