"""Sinks on real descriptors: pipes that nobody reads, full disks, sockets, terminals, rotation, forked writers."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palfrey.errors import ConfigError
from palfrey.observe import sink as sinks
from palfrey.observe.sink import KEEP, PIECE, Kind, Sink

LINE = b"x" * 99 + b"\n"
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


FORKED_WRITERS = """
import os, sys
from palfrey.observe import sink as sinks
if sys.argv[1] == "0":
    sinks._own_description = lambda fd: None
sink = sinks.Sink.standard(1)
children = []
for letter in b"abcd":
    pid = os.fork()
    if pid == 0:
        sink.after_fork()
        for start in range(0, 3000, 30):
            sink.write(b"".join(b"%d %s\\n" % (n, bytes([letter]) * (20 + n % 400)) for n in range(start, start + 30)))
        sink.close(30)
        os._exit(0)
    children.append(pid)
sys.exit(sum(os.waitpid(pid, 0)[1] for pid in children))
"""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ours, theirs = os.pipe()
    yield ours, theirs
    for fd in (ours, theirs):
        try:
            os.close(fd)
        except OSError:
            pass


def drain(fd: int) -> bytes:
    """Everything that is in the pipe or socket now."""
    parts = []
    while select.select([fd], [], [], 0)[0]:
        part = os.read(fd, 1 << 16)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def fill(sink: Sink) -> int:
    """Writes lines until one has been dropped; how many were written in all."""
    written = 0
    while not sink.lost:
        sink.write(LINE)
        written += 1
        assert written < 200_000
    return written


class TestPipe:
    def test_lines_arrive(self, pipe: tuple[int, int]) -> None:
        sink = Sink.standard(pipe[1])
        sink.write(b"one\ntwo\n")
        assert drain(pipe[0]) == b"one\ntwo\n"
        assert not sink.flush()
        sink.close()

    @linux
    def test_the_shared_description_keeps_its_flags(self, pipe: tuple[int, int]) -> None:
        before = fcntl.fcntl(pipe[1], fcntl.F_GETFL)
        sink = Sink.standard(pipe[1])
        assert fcntl.fcntl(sink.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
        assert fcntl.fcntl(pipe[1], fcntl.F_GETFL) == before
        sink.close()
        os.write(pipe[1], b"still open\n")

    @pytest.mark.parametrize("own_description", [True, False])
    def test_a_reader_that_stops_costs_lines_and_never_time(
        self, pipe: tuple[int, int], own_description: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not own_description:
            monkeypatch.setattr(sinks, "_own_description", lambda fd: None)
        sink = Sink.standard(pipe[1])
        written = fill(sink)  # would hang for ever if a write blocked
        for _ in range(9):
            sink.write(LINE)
        assert sink.lost == 10
        assert sink.flush()
        received = b""
        while sink.flush():
            received += drain(pipe[0])
        received += drain(pipe[0])
        lines = received.splitlines(keepends=True)
        name = sink.name
        assert lines[-1] == f"WARNING:  10 log lines were dropped: the reader of {name} is too slow\n".encode()
        assert lines[:-1] == [LINE] * (written - 1)
        sink.write(b"flows again\n")
        assert drain(pipe[0]) == b"flows again\n"
        sink.close()

    def test_one_notice_stands_where_the_lines_are_missing(self, pipe: tuple[int, int]) -> None:
        sink = Sink.standard(pipe[1])
        fill(sink)
        received = b""
        number = 0
        while sink.flush() or number < 20:
            received += drain(pipe[0])
            sink.write(b"late %d\n" % number)
            number += 1
        received += drain(pipe[0])
        tail = received[received.index(b"WARNING") :].splitlines()
        assert received.count(b"WARNING") == 1
        late = [int(line.split()[1]) for line in tail[1:] if line.startswith(b"late")]
        assert late == list(range(late[0], number))
        assert int(tail[0].split()[1]) == late[0] + 1
        sink.close()

    def test_memory_is_bounded(self, pipe: tuple[int, int]) -> None:
        sink = Sink.standard(pipe[1])
        for _ in range(40):
            sink.write(LINE * 1000)
        assert len(sink._pending) <= KEEP
        assert sink.lost > 20_000
        os.close(pipe[0])
        sink.close(0)

    def test_a_line_longer_than_a_piece_goes_through_whole(self, pipe: tuple[int, int]) -> None:
        sink = Sink.standard(pipe[1])
        giant = b"g" * (3 * KEEP) + b"\n"
        sink.write(b"a\n" + giant)
        sink.write(b"z\n")
        received = b""
        while sink.flush():
            received += drain(pipe[0])
        received += drain(pipe[0])
        assert received.startswith(b"a\n" + giant)
        sink.close()

    def test_a_reader_that_went_away_raises_nothing(self, pipe: tuple[int, int]) -> None:
        sink = Sink.standard(pipe[1])
        os.close(pipe[0])
        sink.write(LINE)
        assert sink.flush()
        started = time.monotonic()
        sink.close(30)
        assert time.monotonic() - started < 10
        assert sink.lost == 1

    def test_close_waits_for_a_slow_reader(self, pipe: tuple[int, int]) -> None:
        sink = Sink.standard(pipe[1])
        for _ in range(3000):
            sink.write(LINE)
        received: list[bytes] = []

        def read() -> None:
            while part := os.read(pipe[0], 1 << 16):
                received.append(part)

        reader = threading.Thread(target=read)
        reader.start()
        sink.close(30)
        os.close(pipe[1])
        reader.join(30)
        assert b"".join(received) == LINE * 3000

    def test_close_gives_up_in_time(self, pipe: tuple[int, int]) -> None:
        sink = Sink.standard(pipe[1])
        fill(sink)
        sink.close(0.01)
        assert sink.fileno() == -1
        sink.write(b"nobody\n")
        assert not sink.isatty()

    @pytest.mark.parametrize("own_description", [True, False])
    def test_lines_of_forked_writers_never_mix(self, own_description: bool) -> None:
        # In a process of its own, since this one has a thread (pytest-timeout's) and must not fork.
        with subprocess.Popen(
            [sys.executable, "-c", FORKED_WRITERS, str(int(own_description))], stdout=subprocess.PIPE
        ) as process:
            received, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        seen: dict[bytes, int] = {}
        for line in received.splitlines():
            number, text = line.split()
            letter = text[:1]
            assert text == letter * (20 + int(number) % 400)
            assert seen.setdefault(letter, 0) == int(number)
            seen[letter] += 1
        assert seen == dict.fromkeys([b"a", b"b", b"c", b"d"], 3000)

    def test_a_fork_does_not_write_the_parents_rest_again(self, pipe: tuple[int, int]) -> None:
        sink = Sink.standard(pipe[1])
        for _ in range(2000):
            sink.write(LINE)
        assert sink.flush()
        sink.after_fork()
        assert not sink.flush()
        sink.close()

    def test_it_follows_a_stream_that_was_replaced(self, pipe: tuple[int, int]) -> None:
        sink = Sink.standard(pipe[1])
        sink.write(b"before\n")
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, pipe[1])
        os.close(null)
        sink.write(b"still to the pipe\n")
        sink.follow()
        sink.write(b"to nowhere\n")
        parts = []
        while part := os.read(pipe[0], 100):  # to its end: nobody holds the pipe any more
            parts.append(part)
        assert b"".join(parts) == b"before\nstill to the pipe\n"
        sink.close()


class TestTimer:
    def test_a_blocked_sink_asks_for_one_timer_at_a_time(self, pipe: tuple[int, int]) -> None:
        asked: list[tuple[float, Callable[[], None]]] = []
        sink = Sink.standard(pipe[1])
        sink.attach(lambda delay, callback: asked.append((delay, callback)))
        sink.write(LINE)
        assert asked == []
        for _ in range(2000):
            sink.write(LINE)
        assert len(asked) == 1
        for _ in range(10):
            asked[-1][1]()
        delays = [delay for delay, _ in asked]
        assert delays == sorted(delays)
        assert delays[-1] == sinks.RETRY_LAST
        received = b""
        while sink.flush():
            received += drain(pipe[0])
        count = len(asked)
        asked[-1][1]()
        assert len(asked) == count
        assert received + drain(pipe[0]) == LINE * 2001
        sink.close()

    def test_a_reader_that_is_back_is_not_kept_waiting(self, pipe: tuple[int, int]) -> None:
        asked: list[tuple[float, Callable[[], None]]] = []
        sink = Sink.standard(pipe[1])
        sink.attach(lambda delay, callback: asked.append((delay, callback)))
        for _ in range(8000):
            sink.write(LINE)
        for _ in range(10):
            asked[-1][1]()
        assert asked[-1][0] == sinks.RETRY_LAST
        drain(pipe[0])
        asked[-1][1]()
        assert asked[-1][0] == sinks.RETRY_FIRST, "a pipe's worth has gone and more is left"
        sink.close(0)

    def test_other_threads_leave_the_loop_alone(self, pipe: tuple[int, int]) -> None:
        asked: list[object] = []
        sink = Sink.standard(pipe[1])
        sink.attach(lambda delay, callback: asked.append(callback))
        thread = threading.Thread(target=lambda: [sink.write(LINE) for _ in range(2000)])
        thread.start()
        thread.join()
        assert asked == []
        sink.write(LINE)
        assert len(asked) == 1
        sink.close(0)

    def test_a_closed_loop_is_no_error(self, pipe: tuple[int, int]) -> None:
        def call_later(delay: float, callback: object) -> None:
            raise RuntimeError("Event loop is closed")

        sink = Sink.standard(pipe[1])
        sink.attach(call_later)
        for _ in range(2000):
            sink.write(LINE)
        sink.close(0)


class TestOtherKinds:
    def test_a_stream_socket(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            sink = Sink.standard(theirs.fileno())
            assert sink._kind is Kind.SOCKET
            written = fill(sink)
            assert not fcntl.fcntl(theirs.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
            received = b""
            while sink.flush():
                received += drain(ours.fileno())
            received += drain(ours.fileno())
            lines = received.splitlines(keepends=True)
            assert lines[:-1] == [LINE] * (written - 1)
            assert b"1 log line was dropped" in lines[-1]
            sink.close()
            theirs.sendall(b"the inherited one is still open\n")

    @linux
    def test_a_terminal(self) -> None:
        ours, theirs = pty.openpty()
        try:
            sink = Sink.standard(theirs)
            assert sink._kind is Kind.STREAM
            assert sink.isatty()
            sink.write(b"hello\n")
            assert os.read(ours, 100) == b"hello\r\n"
            fill(sink)
            sink.close(0)
        finally:
            os.close(ours)
            os.close(theirs)

    def test_a_closed_standard_stream_writes_nowhere(self, pipe: tuple[int, int]) -> None:
        os.close(pipe[1])
        sink = Sink.standard(pipe[1])
        sink.write(LINE)
        assert not sink.flush()
        sink.close()

    @linux
    def test_a_full_disk_is_counted(self) -> None:
        sink = Sink.open("/dev/full", setting="accesslog")
        fill(sink)
        assert sink.flush()
        assert sink._error == os.strerror(errno.ENOSPC)
        sink.close()

    def test_a_disk_that_has_room_again_says_what_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sink = Sink.open(str(tmp_path / "log"), setting="accesslog")
        write = os.write

        def full(fd: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        written = fill(sink)
        monkeypatch.setattr(os, "write", write)
        assert not sink.flush()
        sink.close()
        lines = (tmp_path / "log").read_bytes().splitlines(keepends=True)
        assert lines[:-1] == [LINE] * (written - 1)
        text = f"WARNING:  1 log line was dropped: {tmp_path}/log: No space left on device\n"
        assert lines[-1] == text.encode()


class TestFile:
    def test_it_is_appended_to_and_private_to_this_process(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        path.write_bytes(b"old\n")
        sink = Sink.open(str(path), setting="errorlog")
        assert not os.get_inheritable(sink.fileno())
        sink.write(b"new\n")
        sink.close()
        assert path.read_bytes() == b"old\nnew\n"

    def test_a_relative_path_survives_a_chdir(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        sink = Sink.open("log", setting="errorlog")
        monkeypatch.chdir("/")
        sink.reopen()
        sink.write(b"here\n")
        sink.close()
        assert (tmp_path / "log").read_bytes() == b"here\n"

    def test_rotation_loses_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        sink = Sink.open(str(path), setting="errorlog")
        fd = sink.fileno()
        for number in range(10):
            sink.write(b"%d\n" % number)
            path.rename(tmp_path / f"log.{number}")
            sink.write(b"%d late\n" % number)
            sink.reopen()
        assert sink.fileno() == fd
        sink.write(b"end\n")
        sink.close()
        for number in range(10):
            assert (tmp_path / f"log.{number}").read_bytes() == b"%d\n%d late\n" % (number, number)
        assert path.read_bytes() == b"end\n"

    def test_rotation_that_fails_goes_on_with_the_old_file(self, tmp_path: Path) -> None:
        folder = tmp_path / "logs"
        folder.mkdir()
        sink = Sink.open(str(folder / "log"), setting="errorlog")
        folder.rename(tmp_path / "gone")
        with pytest.raises(ConfigError, match="does not exist"):
            sink.reopen()
        sink.write(b"still here\n")
        sink.close()
        assert (tmp_path / "gone" / "log").read_bytes() == b"still here\n"

    def test_reopening_a_standard_stream_changes_nothing(self, pipe: tuple[int, int]) -> None:
        sink = Sink.standard(pipe[1])
        sink.reopen()
        sink.write(LINE)
        assert drain(pipe[0]) == LINE
        sink.close()

    def test_a_named_pipe(self, tmp_path: Path) -> None:
        path = tmp_path / "fifo"
        os.mkfifo(path)
        with pytest.raises(ConfigError, match="nobody reads"):
            Sink.open(str(path), setting="accesslog")
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        sink = Sink.open(str(path), setting="accesslog")
        sink.write(LINE)
        assert drain(reader) == LINE
        sink.close()
        os.close(reader)

    def test_errors_name_the_setting_and_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            Sink.open(str(tmp_path / "missing" / "log"), setting="accesslog")
        text = str(caught.value)
        assert text.startswith(f"accesslog: cannot open {tmp_path}/missing/log: the directory {tmp_path}/missing does")
        assert "\n" not in text
        with pytest.raises(ConfigError, match=r"errorlog: .* it is a directory"):
            Sink.open(str(tmp_path), setting="errorlog")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_directory_that_is_not_ours(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(ConfigError, match="may not write there"):
            Sink.open(str(tmp_path / "log"), setting="errorlog")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_a_workers_user_is_given_the_file(self, tmp_path: Path) -> None:
        sink = Sink.open(str(tmp_path / "log"), setting="errorlog", owner=(12345, 54321))
        sink.close()
        found = (tmp_path / "log").stat()
        assert (found.st_uid, found.st_gid) == (12345, 54321)


@linux
def test_a_blocked_stdout_does_not_stop_a_process(tmp_path: Path) -> None:
    """The whole promise, in a process of its own with a stdout that nobody reads."""
    script = (
        "import sys; from palfrey.observe.sink import Sink\n"
        "sink = Sink.standard(1)\n"
        "for n in range(50000): sink.write(b'%d a line of an access log\\n' % n)\n"
        "sink.close(0.01)\n"
        "sys.exit(0 if sink.lost else 9)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        try:
            assert process.wait(30) == 0
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)


def test_pieces_are_whole_lines() -> None:
    data = b"".join(b"%d\n" % n for n in range(5000))
    start = 0
    while start < len(data):
        end = sinks._end_of_piece(data, start, PIECE)
        assert end - start <= PIECE
        assert data[end - 1 : end] == b"\n"
        start = end
