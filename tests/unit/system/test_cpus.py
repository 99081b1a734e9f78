"""The CPUs that a process may use, in trees of files like those that Linux shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from palfrey.system import cpus
from palfrey.system.cpus import Budget, budget, cgroup_quota


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight CPUs, all of them allowed."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(cpus, "_allowed", lambda: 8)


class Tree:
    """A cgroup file system, and the membership of the process."""

    def __init__(self, root: Path) -> None:
        self.root = root / "cgroup"
        self.root.mkdir()
        self.membership = root / "membership"

    def write(self, place: str, **files: str) -> Tree:
        directory = self.root / place
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name.replace("__", ".")).write_text(text + "\n")
        return self

    def member(self, *lines: str) -> Tree:
        self.membership.write_text("".join(f"{line}\n" for line in lines))
        return self

    @property
    def quota(self) -> float | None:
        return cgroup_quota(str(self.root), str(self.membership))

    @property
    def budget(self) -> Budget:
        return budget(str(self.root), str(self.membership))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


class TestVersion2:
    def test_the_cgroups_own_quota(self, tree: Tree) -> None:
        tree.member("0::/system.slice/palfrey.service").write("system.slice/palfrey.service", cpu__max="150000 100000")
        assert tree.quota == 1.5

    def test_one_above_it_may_leave_less(self, tree: Tree) -> None:
        tree.member("0::/a/b").write("a", cpu__max="100000 100000").write("a/b", cpu__max="400000 100000")
        assert tree.quota == 1.0

    def test_max_is_none(self, tree: Tree) -> None:
        tree.member("0::/a").write("a", cpu__max="max 100000")
        assert tree.quota is None

    def test_in_a_container_the_mount_is_our_own_cgroup(self, tree: Tree) -> None:
        tree.member("0::/").write(".", cpu__max="200000 100000")
        assert tree.quota == 2.0

    def test_in_a_container_that_sees_the_hosts_path(self, tree: Tree) -> None:
        tree.member("0::/../../kubepods/pod7/abc").write(".", cpu__max="50000 100000")
        assert tree.quota == 0.5

    def test_beside_version_1(self, tree: Tree) -> None:
        tree.member("4:memory:/a", "0::/a").write("unified/a", cpu__max="300000 100000")
        assert tree.quota == 3.0


class TestVersion1:
    @pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
    def test_quota_over_period(self, tree: Tree, mount: str) -> None:
        tree.member("5:cpu,cpuacct:/docker/abc", "3:memory:/docker/abc")
        tree.write(f"{mount}/docker/abc", cpu__cfs_quota_us="250000", cpu__cfs_period_us="100000")
        assert tree.quota == 2.5

    def test_minus_one_is_none(self, tree: Tree) -> None:
        tree.member("5:cpu:/a").write("cpu/a", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
        assert tree.quota is None

    def test_of_the_containers_own_mount(self, tree: Tree) -> None:
        tree.member("5:cpu:/docker/abc").write("cpu", cpu__cfs_quota_us="100000", cpu__cfs_period_us="50000")
        assert tree.quota == 2.0


class TestNothingToRead:
    def test_no_cgroups_at_all(self, tree: Tree) -> None:
        assert tree.quota is None

    @pytest.mark.parametrize("text", ["", "nonsense", "0::", ":::", "0::/gone"])
    def test_a_strange_membership(self, tree: Tree, text: str) -> None:
        assert tree.member(text).quota is None

    @pytest.mark.parametrize("text", ["", "1", "1 2 3", "a b", "100000 0", "0 100000"])
    def test_a_strange_quota(self, tree: Tree, text: str) -> None:
        assert tree.member("0::/a").write("a", cpu__max=text).quota is None


@pytest.mark.usefixtures("machine")
class TestBudget:
    def test_the_whole_machine(self, tree: Tree) -> None:
        assert tree.budget == Budget(8, "8 CPUs")

    @pytest.mark.parametrize(
        ("quota", "expected"),
        [
            ("150000 100000", Budget(2, "2 CPUs by the cgroup's quota of 1.5")),
            ("10000 100000", Budget(1, "1 CPU by the cgroup's quota of 0.1")),
            ("800000 100000", Budget(8, "8 CPUs")),
            ("6400000 100000", Budget(8, "8 CPUs")),
        ],
    )
    def test_a_quota_is_rounded_up_and_never_more_than_there_are(
        self, tree: Tree, quota: str, expected: Budget
    ) -> None:
        assert tree.member("0::/").write(".", cpu__max=quota).budget == expected

    def test_affinity(self, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cpus, "_allowed", lambda: 3)
        assert tree.budget == Budget(3, "3 CPUs of the machine's 8 by affinity")
        tree.member("0::/").write(".", cpu__max="400000 100000")
        assert tree.budget.cpus == 3
        tree.write(".", cpu__max="200000 100000")
        assert tree.budget.cpus == 2


def test_this_machine() -> None:
    assert 1 <= budget().cpus <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_this_process_pinned_to_one(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert budget(str(tmp_path), str(tmp_path)).cpus == 1
    finally:
        os.sched_setaffinity(0, before)
