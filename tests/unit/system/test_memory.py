"""What a process holds by itself."""

from __future__ import annotations

import mmap
import os
import sys

import pytest

from palfrey.system import memory

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_of_a_rollup() -> None:
    text = b"00400000-7ffe0000 ---p 00000000 00:00 0 [rollup]\nRss:    9000 kB\nPss:    1234 kB\nPss_Anon:  1000 kB\n"
    assert memory.proportional(text) == 1234 * 1024


@pytest.mark.parametrize("text", [b"", b"Rss: 5 kB\n"])
def test_of_a_rollup_that_does_not_tell(text: bytes) -> None:
    with pytest.raises(OSError, match="does not tell"):
        memory.proportional(text)


@linux
def test_own_memory_grows_with_what_is_held_and_is_never_more_than_what_is_resident() -> None:
    before = memory.own()
    held = mmap.mmap(-1, 64 << 20)
    held.write(b"x" * len(held))
    assert memory.own() - before > 60 << 20
    assert memory.own() <= memory.resident() * 1.1
    held.close()


@linux
def test_what_is_shared_with_a_child_counts_by_its_share() -> None:
    held = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held.write(b"x" * len(held))
    alone = memory.own()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the other is done
        os._exit(0)
    os.close(reader)
    try:
        assert alone - memory.own() > 20 << 20
    finally:
        os.close(writer)
        os.waitpid(pid, 0)
        held.close()
