"""The kernel's count of OOM kills, on a tree of files that looks like /proc and /sys/fs/cgroup."""

from __future__ import annotations

from pathlib import Path

import pytest

from palfrey.system.oom import FRESH, OomKills

EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill {}\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"


class Tree:
    def __init__(self, root: Path, cgroup: str, file: str, text: str = EVENTS) -> None:
        self.root, self.file, self.text = root, root / "sys/fs/cgroup" / file, text
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text(cgroup)
        self.file.parent.mkdir(parents=True)
        self.kills(0)

    def kills(self, count: int) -> None:
        self.file.write_text(self.text.format(count))

    def watch(self) -> OomKills:
        return OomKills(str(self.root))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path, "0::/system.slice/palfrey.service\n", "system.slice/palfrey.service/memory.events")


def test_a_kill_that_was_counted_explains_one_death(tree: Tree) -> None:
    kills = tree.watch()
    assert not kills.struck(1.0)
    tree.kills(1)
    assert kills.struck(2.0)
    assert not kills.struck(2.0)


def test_two_at_once_explain_two(tree: Tree) -> None:
    kills = tree.watch()
    tree.kills(2)
    assert [kills.struck(1.0), kills.struck(1.5), kills.struck(1.5)] == [True, True, False]


def test_those_before_the_start_explain_none(tree: Tree) -> None:
    tree.kills(7)
    assert not tree.watch().struck(1.0)


def test_one_of_some_other_process_explains_no_later_death(tree: Tree) -> None:
    kills = tree.watch()
    tree.kills(1)
    kills.look(5.0)
    assert not kills.struck(5.0 + FRESH + 0.1)


@pytest.mark.parametrize(
    ("cgroup", "file", "text"),
    [
        ("0::/\n", "memory.events", EVENTS),
        ("0::/docker/abc\n", "memory.events", EVENTS),
        ("12:pids:/docker/abc\n9:memory:/docker/abc\n0::/docker/abc\n", "memory/memory.oom_control", CONTROL),
        ("9:memory:/user\n", "memory/user/memory.oom_control", CONTROL),
        ("3:cpu,memory:/user\n", "memory/user/memory.oom_control", CONTROL),
        ("9:pids:/user\n0::/user\n", "unified/user/memory.events", EVENTS),
    ],
    ids=["a namespace of its own", "the host's path", "v1 in a container", "v1", "v1 mounted together", "hybrid"],
)
def test_where_the_count_is_found(tmp_path: Path, cgroup: str, file: str, text: str) -> None:
    tree = Tree(tmp_path, cgroup, file, text)
    kills = tree.watch()
    tree.kills(1)
    assert kills.struck(1.0)


def test_without_cgroups_nobody_is_said_to_have_starved(tmp_path: Path) -> None:
    assert not OomKills(str(tmp_path)).struck(1.0)


def test_a_group_that_is_gone_is_no_error(tree: Tree) -> None:
    kills = tree.watch()
    tree.file.unlink()
    assert not kills.struck(1.0)


def test_this_very_machine_is_no_error() -> None:
    OomKills().look(1.0)
