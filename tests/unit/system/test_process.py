"""The process's own affairs, as far as they can be tried without leaving one's own identity behind.

Real daemons and real drops of privileges are in tests/process/test_system_process.py.
"""

from __future__ import annotations

import errno
import grp
import os
import platform
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from palfrey.errors import ConfigError
from palfrey.system import process
from palfrey.system.process import (
    Launcher,
    User,
    change_directory,
    close_fds,
    drop_privileges,
    own_directory,
    resolve_group,
    resolve_user,
    set_title,
)

# Memory -------------------------------------------------------------------------------------------------------------

FAULTS = """
import resource, sys
from palfrey.system.process import keep_freed_memory
if sys.argv[1:]:
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    held = [bytearray(65536) for _ in range(64)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""How many pages the kernel has to give while 4 MB of messages come and go 20 times: once they are 1024."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_freed_memory_is_kept() -> None:
    def faults(*words: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, *words], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < 2500 < faults()


# Who ----------------------------------------------------------------------------------------------------------------


def test_resolve_user_by_name_and_number() -> None:
    me = pwd.getpwuid(os.getuid())
    expected = User(me.pw_uid, me.pw_name, me.pw_gid)
    assert resolve_user(me.pw_name) == expected
    assert resolve_user(str(me.pw_uid)) == expected


def test_resolve_a_number_without_an_account() -> None:
    assert resolve_user("3999999999") == User(3999999999, None, None)
    assert resolve_group("3999999999") == 3999999999


def test_resolve_group_by_name() -> None:
    mine = grp.getgrgid(os.getgid())
    assert resolve_group(mine.gr_name) == mine.gr_gid


def test_resolve_unknown_names() -> None:
    with pytest.raises(ConfigError, match="there is no user 'nosuchuser' on this system; create it or give a number"):
        resolve_user("nosuchuser")
    with pytest.raises(ConfigError, match="there is no group 'nosuchgroup' on this system"):
        resolve_group("nosuchgroup")


@pytest.mark.parametrize("text", [str(2**32 - 1), "99999999999999999999"])
def test_numbers_out_of_range(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a user or group number"):
        resolve_user(text)
    with pytest.raises(ConfigError, match="is not a user or group number"):
        resolve_group(text)


def test_nothing_to_drop() -> None:
    drop_privileges(None, None)


@pytest.fixture
def nobody_special(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process seems to be user 1000, group 1000."""
    for name in ("getuid", "geteuid", "getgid", "getegid"):
        monkeypatch.setattr(os, name, lambda: 1000)


@pytest.mark.usefixtures("nobody_special")
def test_only_root_may_drop() -> None:
    with pytest.raises(ConfigError) as caught:
        drop_privileges("0", None)
    assert str(caught.value) == "only root may switch to user '0'; start as root, or leave user and group unset"
    with pytest.raises(ConfigError, match="only root may switch to group '5'"):
        drop_privileges(None, "5")


@pytest.mark.usefixtures("nobody_special")
def test_being_that_user_already_is_fine() -> None:
    drop_privileges("1000", "1000")


def test_a_number_without_an_account_needs_a_group() -> None:
    with pytest.raises(ConfigError, match="its group is unknown; set `group` too"):
        drop_privileges("3999999999", None)


@pytest.fixture
def root_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[object, ...]]]:
    """This process seems to be root; what it would do is recorded."""
    calls: list[tuple[str, tuple[object, ...]]] = []
    for name in ("getuid", "geteuid", "getgid", "getegid"):
        monkeypatch.setattr(os, name, lambda: 0)
    for name in ("initgroups", "setgroups", "setgid", "setuid"):

        def record(*args: object, name: str = name) -> None:
            calls.append((name, args))
            if name == "setuid" and args == (0,):
                raise PermissionError

        monkeypatch.setattr(os, name, record)
    return calls


def test_the_order_of_a_drop(root_calls: list[tuple[str, tuple[object, ...]]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "resolve_user", lambda text: User(33, "www", 34))
    drop_privileges("www", None)
    assert root_calls == [("initgroups", ("www", 34)), ("setgid", (34,)), ("setuid", (33,)), ("setuid", (0,))]


def test_numbers_have_no_further_groups(root_calls: list[tuple[str, tuple[object, ...]]]) -> None:
    drop_privileges("3999999999", "5")
    assert root_calls[:3] == [("setgroups", ([5],)), ("setgid", (5,)), ("setuid", (3999999999,))]


def test_root_that_could_be_had_back(
    root_calls: list[tuple[str, tuple[object, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "setuid", lambda uid: None)
    with pytest.raises(ConfigError, match="root could be had back"):
        drop_privileges("3999999999", "5")


def test_a_container_without_the_capability(
    root_calls: list[tuple[str, tuple[object, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(groups: list[int]) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "setgroups", refuse)
    with pytest.raises(ConfigError, match="Operation not permitted; a container needs the capabilities SETUID and"):
        drop_privileges("3999999999", "5")


# Where --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two releases and a symlink `current` to the first, which is the working directory."""
    for name in ("one", "two"):
        (tmp_path / name / "app").mkdir(parents=True)
    (tmp_path / "current").symlink_to("one")
    monkeypatch.chdir(tmp_path / "current")
    return tmp_path


def switch(releases: Path) -> None:
    (releases / "next").symlink_to("two")
    (releases / "next").rename(releases / "current")


def test_own_directory_keeps_the_symlink(releases: Path) -> None:
    assert own_directory({"PWD": f"{releases}/current"}) == f"{releases}/current"


@pytest.mark.parametrize("pwd", ["", "relative", "/", "/nowhere/at/all"])
def test_own_directory_does_not_believe_another_programs_pwd(releases: Path, pwd: str) -> None:
    assert own_directory({"PWD": pwd}) == f"{releases.resolve()}/one"
    assert own_directory({}) == f"{releases.resolve()}/one"


def test_own_directory_after_a_switch_is_where_we_are(releases: Path) -> None:
    switch(releases)
    assert own_directory({"PWD": f"{releases}/current"}) == f"{releases.resolve()}/one"


def test_own_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="the working directory no longer exists"):
        own_directory({})
    monkeypatch.chdir(tmp_path)


def test_change_directory_follows_a_switched_symlink(releases: Path) -> None:
    environ = {"PWD": f"{releases}/current"}
    assert change_directory(".", environ) == f"{releases}/current"
    assert os.getcwd() == f"{releases.resolve()}/one"
    switch(releases)
    assert change_directory(".", environ) == f"{releases}/current"
    assert os.getcwd() == f"{releases.resolve()}/two"


def test_change_directory_to_a_relative_path_and_again(releases: Path) -> None:
    environ = {"PWD": f"{releases}/current"}
    path = change_directory("app", environ)
    assert path == environ["PWD"] == f"{releases}/current/app"
    switch(releases)
    assert change_directory(path, environ) == path
    assert os.getcwd() == f"{releases.resolve()}/two/app"


def test_change_directory_without_pwd(releases: Path) -> None:
    environ: dict[str, str] = {}
    assert change_directory("app", environ) == f"{releases.resolve()}/one/app"


def test_change_directory_failure(releases: Path) -> None:
    environ = {"PWD": f"{releases}/current"}
    with pytest.raises(ConfigError) as caught:
        change_directory("no", environ)
    assert str(caught.value) == f"cannot change to the directory {releases}/current/no: No such file or directory"
    assert environ == {"PWD": f"{releases}/current"}


# Name, descriptors, launcher ----------------------------------------------------------------------------------------


def test_set_title() -> None:
    from setproctitle import getproctitle

    before = getproctitle()
    try:
        set_title("palfrey: master [main:app]")
        assert getproctitle() == "palfrey: master [main:app]"
    finally:
        set_title(before)


def test_close_fds() -> None:
    read, write = os.pipe()
    close_fds([read, write, -1, read])
    for fd in (read, write):
        with pytest.raises(OSError):
            os.fstat(fd)


def said(launcher_does: str, *args: object) -> bytes:
    read, write = os.pipe()
    launcher = Launcher(write)
    assert launcher.fileno() == write
    getattr(launcher, launcher_does)(*args)
    getattr(launcher, launcher_does)(*args)  # the second time says nothing
    assert launcher.fileno() == -1
    with open(read, "rb") as pipe:
        return pipe.read()


def test_launcher() -> None:
    assert said("ready") == b"0 "
    assert said("failed", 3, "no app\nat all") == b"3 no app\nat all"
    assert said("close") == b""


def test_launcher_whose_command_has_gone() -> None:
    read, write = os.pipe()
    os.close(read)
    Launcher(write).failed(1, "text")
