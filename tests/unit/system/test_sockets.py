"""Sockets: reading addresses, opening them, and what each failure says."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from palfrey.errors import BindError
from palfrey.system import refusals, sockets
from palfrey.system.sockets import Address, Listener, backlog_notice, open_listeners, parse_bind

Open = Callable[..., list[Listener]]


@pytest.fixture
def opened() -> Iterator[Open]:
    """open_listeners on texts or addresses, all closed at the end."""
    with contextlib.ExitStack() as stack:

        def open_(*binds: str | Address, backlog: int = 16, have: Any = ()) -> list[Listener]:
            addresses = [parse_bind(one) if isinstance(one, str) else one for one in binds]
            found = open_listeners(addresses, backlog, have)
            for listener in found:
                stack.callback(listener.close, unlink=True)
            return found

        yield open_


def refusal(*binds: str | Address, have: Any = ()) -> str:
    with pytest.raises(BindError) as caught:
        open_listeners([parse_bind(one) if isinstance(one, str) else one for one in binds], 16, have)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 1
    return str(caught.value)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


# Reading ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("localhost:1", "localhost", 1),
        ("my-host_1.example", "my-host_1.example", 8000),
        ("[::1]:80", "::1", 80),
        ("[::]", "::", 8000),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        (":80", "0.0.0.0", 80),
        ("tcp://10.0.0.1:80", "10.0.0.1", 80),
        ("  a:0  ", "a", 0),
        ("a:65535", "a", 65535),
    ],
)
def test_parse_tcp(text: str, host: str, port: int) -> None:
    assert parse_bind(text) == Address(kind="tcp", host=host, port=port)


@pytest.mark.parametrize("text", ["unix:/run/x.sock", "unix:///run/x.sock", "unix:////run/x.sock"])
def test_parse_unix(text: str) -> None:
    assert parse_bind(text) == Address(kind="unix", path="/run/x.sock")


def test_parse_unix_relative() -> None:
    assert parse_bind("unix:run/x.sock").path == "run/x.sock"


def test_parse_fd() -> None:
    assert parse_bind("fd://3") == Address(kind="fd", fd=3)
    assert parse_bind("systemd:web") == Address(kind="systemd", name="web")
    assert str(parse_bind("systemd:web")) == "systemd:web"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "an empty address; write host:port"),
        ("8000", "is a port without an address: write 127.0.0.1:8000, or :8000"),
        ("host:", "'' is not a port, a number from 0 to 65535"),
        ("host:web", "'web' is not a port"),
        ("host:65536", "'65536' is not a port"),
        ("host:-1", "'-1' is not a port"),
        ("host:٣", "'٣' is not a port"),
        ("::1:8000", "an IPv6 address stands in brackets, as in [::1]:8000"),
        ("[::1", "write an IPv6 address and its port as [::1]:8000"),
        ("[::1]8000", "write an IPv6 address and its port as [::1]:8000"),
        ("[localhost]:80", "'localhost' is not an IPv6 address"),
        ("*:80", "'*' is not a host; write host:port, :port (every address)"),
        ("a/b", "is not a host"),
        ("http://a:80", "an address has no http://"),
        ("unix:", "'unix:' without a path"),
        ("unix", "write the path of a UNIX socket as unix:/run/palfrey.sock"),
        ("unix:@name", "abstract sockets have no rights and are not supported"),
        ("unix:a\0b", "cannot hold a NUL"),
        ("fd://", "a file descriptor is a number, as in fd://3"),
        ("systemd:", "'systemd:' without a name; write systemd:NAME"),
        ("fd://-1", "a file descriptor is a number"),
        ("fd://three", "a file descriptor is a number"),
    ],
)
def test_parse_refuses(text: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_bind(text)
    assert says in str(caught.value)


@given(st.text() | st.text("[]:.%1a/@*\0-", max_size=12) | st.text("0123456789:").map(lambda rest: f"fd://{rest}"))
def test_parse_raises_value_error_and_nothing_else(text: str) -> None:
    try:
        address = parse_bind(text)
    except ValueError:
        return
    assert parse_bind(str(address)) == address


@given(
    st.builds(
        Address,
        kind=st.just("tcp"),
        host=st.ip_addresses().map(str) | st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True),
        port=st.integers(0, 65535),
    )
    | st.builds(Address, kind=st.just("fd"), fd=st.integers(0, 10**7 - 1))
    | st.builds(Address, kind=st.just("unix"), path=st.from_regex(r"/[a-z /:.]{0,20}[a-z]", fullmatch=True))
)
def test_round_trip(address: Address) -> None:
    if address.path:  # unix:// is a prefix of its own, and //x is /x
        address = Address(kind="unix", path="/" + address.path.lstrip("/"))
    assume(address.host != "unix")
    assert parse_bind(str(address)) == address


# TCP ----------------------------------------------------------------------------------------------------------------


def test_tcp_listener(opened: Open) -> None:
    (listener,) = opened("127.0.0.1:0")
    port = listener.sock.getsockname()[1]
    assert listener.url == f"http://127.0.0.1:{port}"
    assert listener.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert not listener.sock.get_inheritable()
    assert not listener.sock.getblocking()
    assert listener.fileno() == listener.sock.fileno()
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        accepted, _ = listener.sock.accept()
        accepted.close()


def test_localhost_is_ipv4(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(socket.AF_INET6, 1, 6, "", ("::1", 0, 0, 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: places)
    (listener,) = opened("localhost:0")
    assert listener.url.startswith("http://127.0.0.1:")


def test_a_name_whose_first_address_is_elsewhere(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(socket.AF_INET, 1, 6, "", ("192.0.2.1", 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: places)
    (listener,) = opened("here:0")
    assert listener.url.startswith("http://127.0.0.1:")


@needs_ipv6
def test_ipv6_listener(opened: Open) -> None:
    (listener,) = opened("[::1]:0")
    assert re.fullmatch(r"http://\[::1\]:\d+", listener.url)


@needs_ipv6
def test_ipv6_wildcard_takes_ipv4_too(opened: Open) -> None:
    (listener,) = opened("[::]:0")
    with socket.create_connection(("127.0.0.1", listener.sock.getsockname()[1]), timeout=5):
        pass


@needs_ipv6
def test_ipv6_wildcard_leaves_ipv4_to_another_bind(opened: Open) -> None:
    (probe,) = opened("[::]:0")
    port = probe.sock.getsockname()[1]
    probe.close()
    six, four = opened(f"[::]:{port}", f"0.0.0.0:{port}")
    assert six.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    assert four.url == f"http://0.0.0.0:{port}"


def send_q(port: int) -> int:
    listing = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    return int(listing.split()[2])


@pytest.mark.skipif(shutil.which("ss") is None, reason="ss (iproute2) is not installed")
def test_the_backlog_reaches_the_kernel_and_a_reload_changes_it(opened: Open) -> None:
    (listener,) = opened("127.0.0.1:0", backlog=37)
    port = listener.sock.getsockname()[1]
    assert send_q(port) == 37
    opened("127.0.0.1:0", backlog=41, have=[listener])
    assert send_q(port) == 41


def test_backlog_notice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "somaxconn"
    limit.write_text("128\n")
    monkeypatch.setattr("builtins.open", lambda path, **options: limit.open(**options))
    assert backlog_notice(128) is None
    assert backlog_notice(2048) == (
        "the kernel cuts the backlog of 2048 to 128; "
        "raise it with `sysctl net.core.somaxconn=2048` or set backlog to 128"
    )


def test_backlog_notice_where_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **options: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    assert backlog_notice(10**9) is None


def test_address_in_use_names_the_holder(opened: Open) -> None:
    (listener,) = opened("127.0.0.1:0")
    port = listener.sock.getsockname()[1]
    message = refusal(f"127.0.0.1:{port}")
    assert message.startswith(f"cannot listen on 127.0.0.1:{port}: it is in use by ")
    assert message.endswith("; stop that or choose another port")
    if sys.platform == "linux":
        assert f"in use by this server itself (pid {os.getpid()})" in message


HOLDER = """
import os, socket, sys
sock = socket.socket(); sock.bind(("127.0.0.1", 0)); sock.listen()
child = os.fork()
if child == 0:
    sys.stdin.read()
    os._exit(0)
print(sock.getsockname()[1], flush=True)
sys.stdin.read()
os.waitpid(child, 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a user its own processes' sockets")
def test_the_holder_is_the_outermost_process_of_a_server() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=-1, stdout=-1, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        assert f"(pid {server.pid}); stop that" in refusal(f"127.0.0.1:{port}")
        server.communicate()


def test_a_server_below_processes_that_we_may_not_see(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    look = psutil.Process.net_connections

    def refuse_above(process: psutil.Process, **options: Any) -> Any:
        if process.pid != os.getpid():
            raise psutil.AccessDenied
        return look(process, **options)

    monkeypatch.setattr(psutil.Process, "net_connections", refuse_above)
    (listener,) = opened("127.0.0.1:0")
    holder = refusals.find_holder("127.0.0.1", listener.sock.getsockname()[1])
    if sys.platform == "linux":
        assert holder == f"this server itself (pid {os.getpid()})"


def test_address_in_use_by_a_process_we_may_not_see(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "find_holder", lambda host, port: None)
    (listener,) = opened("127.0.0.1:0")
    port = listener.sock.getsockname()[1]
    assert refusal(f"127.0.0.1:{port}") == (
        f"cannot listen on 127.0.0.1:{port}: it is in use by another process; stop that or choose another port "
        f"(as root, `ss -ltnp 'sport = :{port}'` names it)"
    )


def test_address_of_another_machine() -> None:
    assert refusal("192.0.2.1:8000") == (
        "cannot listen on 192.0.2.1:8000: this machine has no address 192.0.2.1; "
        "use one that it has, or 0.0.0.0 for all of them"
    )


def test_low_port() -> None:
    message = str(refusals.tcp_refusal("a:80", ("1.2.3.4", 80), PermissionError(errno.EACCES, "no")))
    assert "ports below 1024 need root (with --user to drop it), CAP_NET_BIND_SERVICE" in message


def test_another_error_is_passed_on() -> None:
    message = str(refusals.tcp_refusal("a:80", ("1.2.3.4", 80), OSError(errno.ENOBUFS, "No buffer space")))
    assert message == "cannot listen on a:80: No buffer space"


def test_a_host_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "the host 'nowhere' does not resolve (Name or service not known)" in refusal("nowhere:80")


def test_a_host_that_is_no_name() -> None:
    assert "does not resolve (it is no valid host name)" in refusal("a..b:80")


# UNIX ---------------------------------------------------------------------------------------------------------------


def test_unix_listener(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    (listener,) = opened(f"unix:{path}")
    assert listener.url == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_unix_mode_and_owner(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    opened(Address(kind="unix", path=str(path), mode=0o620, owner=f"{os.getuid()}:{os.getgid()}"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o620
    assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_unix_owner_given_away(opened: Open, tmp_path: Path) -> None:
    for owner, uid, gid in (("1234:2345", 1234, 2345), ("1234", 1234, os.getgid()), (":2345", os.getuid(), 2345)):
        path = tmp_path / f"{uid}{gid}.sock"
        opened(Address(kind="unix", path=str(path), owner=owner))
        assert (path.stat().st_uid, path.stat().st_gid) == (uid, gid)


def refuse(number: int, mode: int) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("modes", [True, False], ids=["the socket's mode", "the umask"])
def test_unix_socket_has_its_final_rights_before_it_listens(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modes: bool
) -> None:
    if not modes:
        monkeypatch.setattr(os, "fchmod", refuse)
    seen: list[str] = []
    apply_rights = sockets._apply_rights

    def watch(address: Address, path: str) -> None:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            assert client.connect_ex(path) == errno.ECONNREFUSED
        apply_rights(address, path)
        seen.append(path)

    monkeypatch.setattr(sockets, "_apply_rights", watch)
    mask = os.umask(0o027)
    try:
        opened(f"unix:{tmp_path}/x.sock")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(mask)
    assert seen == [f"{tmp_path}/x.sock"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket has no mode of its own")
def test_a_unix_socket_does_without_the_umask(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the whole process's: another thread's files would be made with it."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))
    opened(f"unix:{tmp_path}/x.sock")


def test_unix_unknown_owner_leaves_no_file(tmp_path: Path) -> None:
    address = Address(kind="unix", path=f"{tmp_path}/x.sock", owner="nosuchuser")
    assert "to 'nosuchuser': there is no user 'nosuchuser' on this system" in refusal(address)
    address = Address(kind="unix", path=f"{tmp_path}/x.sock", owner=":nosuchgroup")
    assert "there is no group 'nosuchgroup' on this system" in refusal(address)
    assert list(tmp_path.iterdir()) == []


def test_unix_owner_not_permitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    message = refusal(Address(kind="unix", path=f"{tmp_path}/x.sock", owner="0"))
    assert "Operation not permitted; start as root, or name a group that this user is in (':group')" in message


def test_unix_stale_socket_is_replaced(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    (old,) = opened(f"unix:{path}")
    inode = path.stat().st_ino
    os.link(path, tmp_path / "kept")  # keeps the inode's number from being used again
    old.close()
    opened(f"unix:{path}")
    assert path.stat().st_ino != inode


def test_unix_live_socket_is_refused(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    (listener,) = opened(f"unix:{path}")
    assert refusal(f"unix:{path}") == (
        f"cannot listen on unix:{path}: another server is listening there; stop it or choose another path"
    )
    assert path.exists()
    listener.sock.accept()[0].close()  # the probe is nobody's request: it sent nothing and has closed


@pytest.mark.skipif(sys.platform != "linux", reason="how a full queue answers is Linux's")
def test_unix_live_socket_with_a_full_queue_is_refused(opened: Open, tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    opened(f"unix:{path}", backlog=0)
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            status = client.connect_ex(path)
        assert status == errno.EAGAIN
        assert "another server is listening there" in refusal(f"unix:{path}")


def test_unix_socket_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(path)
        assert "wrong type for socket" in refusal(f"unix:{path}")


def test_unix_other_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    assert "a file that is no socket is there; remove it or choose another path" in refusal(f"unix:{path}")
    assert path.read_text() == "precious"


def test_unix_dangling_symlink_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to("nowhere")
    assert "a file that is no socket is there" in refusal(f"unix:{path}")


def test_unix_stale_socket_that_cannot_be_removed(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = opened(f"unix:{tmp_path}/x.sock")
    old.close()

    def refuse(path: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        message = refusal(f"unix:{tmp_path}/x.sock")
    assert "a stale socket is there and cannot be removed (Operation not permitted); remove it" in message


def test_unix_socket_that_goes_away_meanwhile(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "x.sock")
    (old,) = opened(f"unix:{path}")
    old.close()
    lstat = os.lstat

    def look_and_lose(where: str) -> os.stat_result:
        found = lstat(where)
        monkeypatch.setattr(os, "lstat", lstat)
        os.unlink(where)
        return found

    monkeypatch.setattr(os, "lstat", look_and_lose)
    opened(f"unix:{path}")


def test_unix_path_too_long(tmp_path: Path) -> None:
    path = "/tmp/" + "é" * 60
    message = refusal(f"unix:{path}")
    assert f"the path has 125 bytes and this system takes {sockets.MAX_UNIX_PATH}; choose a shorter one" in message


def test_unix_longest_path(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened("unix:" + "x" * sockets.MAX_UNIX_PATH)


def test_unix_directory_missing(tmp_path: Path) -> None:
    assert f"the directory {tmp_path}/no does not exist; create it" in refusal(f"unix:{tmp_path}/no/x.sock")


def test_unix_directory_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file is not a directory" in refusal(f"unix:{tmp_path}/file/x.sock")


def test_unix_directory_closed() -> None:
    message = str(refusals.unix_refusal("unix:/run/x", "/run/x", PermissionError(errno.EACCES, "no")))
    assert message == "cannot listen on unix:/run/x: permission denied in /run; let this user write there"


# Closing ------------------------------------------------------------------------------------------------------------


def test_close_keeps_the_file_unless_told(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    (listener,) = opened(f"unix:{path}")
    listener.close()
    assert path.exists()
    listener.close(unlink=True)
    assert not path.exists()
    listener.close(unlink=True)
    assert listener.url == f"unix:{path}"


def test_close_leaves_another_servers_file(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    (listener,) = opened(f"unix:{path}")
    path.rename(tmp_path / "moved")
    opened(f"unix:{path}")
    listener.close(unlink=True)
    assert path.exists()


def test_close_finds_a_relative_path_after_chdir(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (listener,) = opened("unix:x.sock")
    assert listener.url == f"unix:{tmp_path}/x.sock"
    monkeypatch.chdir("/")
    listener.close(unlink=True)
    assert not (tmp_path / "x.sock").exists()


# Several at once ----------------------------------------------------------------------------------------------------


def test_what_stays_is_reused(opened: Open) -> None:
    first, second = opened("127.0.0.1:0", "127.0.0.1:0")
    (kept, new) = opened("127.0.0.1:0", "localhost:0", have=[second])
    assert kept is second
    assert new not in (first, second)


def test_two_that_ask_for_any_port_stay_two(opened: Open) -> None:
    have = opened("127.0.0.1:0", "127.0.0.1:0")
    assert opened("127.0.0.1:0", "127.0.0.1:0", have=have) == have


def test_a_twin_is_refused() -> None:
    assert refusal("127.0.0.1:81", "127.0.0.1:81") == "127.0.0.1:81 is asked for twice; remove one of the two binds"


def test_a_reused_socket_takes_new_rights(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    have = opened(f"unix:{path}")
    address = Address(kind="unix", path=str(path), mode=0o600)
    assert opened(address, have=have) == have
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert have[0].address == address


def test_all_or_nothing(opened: Open, tmp_path: Path) -> None:
    have = opened(f"unix:{tmp_path}/kept.sock")
    refusal(f"unix:{tmp_path}/kept.sock", f"unix:{tmp_path}/new.sock", "192.0.2.1:80", have=have)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.sock"]
    assert have[0].fileno() >= 0


# Handed in ----------------------------------------------------------------------------------------------------------


def test_fd(opened: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        os.set_inheritable(server.fileno(), True)
        (listener,) = opened(f"fd://{server.fileno()}")
        assert listener.url == f"http://127.0.0.1:{server.getsockname()[1]}"
        assert not os.get_inheritable(server.fileno())
        assert opened(f"fd://{server.fileno()}", have=[listener]) == [listener]
        server.detach()


def test_fd_of_a_unix_socket_keeps_its_file(opened: Open, tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        (listener,) = opened(Address(kind="systemd", fd=server.detach()))
    assert listener.url == f"unix:{path}"
    listener.close(unlink=True)
    assert os.path.exists(path)


def test_fd_stays_open_when_another_bind_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        refusal(f"fd://{server.fileno()}", "192.0.2.1:80")
        os.fstat(server.fileno())


def test_fd_closed() -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    assert f"file descriptor {read} is not open; was the server started by" in refusal(f"fd://{read}")


def test_fd_of_a_file(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        assert refusal(f"fd://{file.fileno()}").endswith(f"file descriptor {file.fileno()} is not a socket")


def test_fd_of_a_wrong_socket() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert "is not a stream socket (systemd: ListenStream=)" in refusal(f"fd://{sock.fileno()}")
    with socket.socket() as sock:
        assert "is not listening; its opener must bind it" in refusal(f"fd://{sock.fileno()}")
        os.fstat(sock.fileno())


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="netlink sockets are Linux's")
def test_fd_of_an_unknown_family() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock:
        assert "and must be TCP or UNIX" in refusal(f"fd://{sock.fileno()}")
