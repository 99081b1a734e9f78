"""Listening sockets: what was asked for (`Address`), what came of it (`Listener`), and why it did not.

`parse_bind` turns text into an `Address` and touches nothing. `open_listeners` turns addresses into sockets that
listen, all of them or none; it is called at the start, before privileges are dropped, and again by a reload, which
hands in the listeners it `have`s so that an address that stays keeps its socket and the queue in it. The sockets are
non-blocking and not inheritable: they pass to workers by fork alone. They belong to the arbiter, workers borrow them.

Choices that users notice:

- `:8000` is every IPv4 address, as Gunicorn has it. A bare `8000` is refused: Gunicorn reads it as a host.
- A host name is bound at one address, an IPv4 one where it has any: `localhost` is 127.0.0.1, which is what proxies
  and health checks are told, whatever order the resolver likes.
- `[::]` takes IPv4 too, unless another bind asks for the same port on IPv4; then each keeps to its own.
- A UNIX socket is made with its final rights and owner before listen(2); until then the kernel refuses to connect.

Every failure is a BindError of one line: the address, what is wrong, what to do.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from palfrey.errors import BindError, ConfigError
from palfrey.system.process import resolve_group, resolve_user
from palfrey.system.refusals import tcp_refusal, unix_refusal

DEFAULT_PORT = 8000
"""uvicorn's and Gunicorn's."""

DEFAULT_UNIX_MODE = 0o666
"""uvicorn's (Gunicorn makes it 0777): any local proxy may connect; narrow it here or by the directory's rights."""

MAX_UNIX_PATH = 107 if sys.platform == "linux" else 103
"""Bytes; sun_path in <sys/un.h> less its NUL."""

_HOST = re.compile(r"[\w.\-]+")
_SCHEME = re.compile(r"([a-z][a-z0-9+]*)://", re.IGNORECASE)
_FAMILIES = {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}
_HAVE_MODES = sys.platform == "linux"
"""Whether a socket has a mode of its own. Elsewhere fchmod(2) refuses, or means nothing."""

Kind = Literal["tcp", "unix", "fd", "systemd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen, as asked for. `str()` of one is text that `parse_bind` reads back (systemd's nameless excepted).

    One of kind "systemd" that `parse_bind` made has a name only; the arbiter finds the descriptors that it stands for.
    """

    kind: Kind
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1
    name: str = ""
    """Of a socket of systemd's: its unit's FileDescriptorName=, which is the unit's own name by default."""
    mode: int | None = None
    """Rights of a UNIX socket's file; None: DEFAULT_UNIX_MODE."""
    owner: str | None = None
    """`user`, `user:group` or `:group` (names or numbers) that a UNIX socket's file is given to."""

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        if self.kind == "tcp":
            return _host_port(self.host, self.port)
        if self.name:
            return f"systemd:{self.name}"
        return f"{self.kind}://{self.fd}"

    @property
    def place(self) -> tuple[Kind, str, int, str, int]:
        """What makes two addresses the same socket: everything but a file's rights and owner."""
        return self.kind, self.host, self.port, self.path, self.fd


class Listener:
    """A socket that listens, the address that it was opened for, and how to name it to people.

    `url` is the real address, port 0 resolved, and stays readable after close(): `http://127.0.0.1:8000`,
    `unix:/run/x.sock`. Whether TLS is spoken there is not known here.
    """

    __slots__ = ("_inode", "_path", "address", "sock", "url")

    def __init__(self, sock: socket.socket, address: Address, file: tuple[str, tuple[int, int]] | None = None) -> None:
        """`file`: of a UNIX socket that was not opened here, what its own `file` was where it was."""
        self.sock = sock
        self.address = address
        # Absolute and with its inode: close() hits the right file after a chdir, and never another server's.
        path = os.path.abspath(address.path) if address.kind == "unix" else ""
        self._path, self._inode = file if file is not None else (path, _inode(path))
        name = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            self.url = f"unix:{self._path or os.fsdecode(name)}"
        else:
            self.url = f"http://{_host_port(name[0], name[1])}"

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def file(self) -> tuple[str, tuple[int, int]] | None:
        """Where the file of a UNIX socket that was made here is, and which one it is (device, inode)."""
        return (self._path, self._inode) if self._inode is not None else None

    def close(self, unlink: bool = False) -> None:
        """Close this process's copy. The arbiter alone passes `unlink`, when the service ends.

        The file is removed only while it is the one that was made here; systemd's and other inherited sockets
        have no file of ours. Closing twice is harmless.
        """
        if unlink and self._inode is not None and _inode(self._path) == self._inode:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self.sock.close()

    def __repr__(self) -> str:
        return f"<Listener {self.address} fd={self.sock.fileno()}>"


def parse_bind(text: str) -> Address:
    """Read `host`, `host:port`, `[v6]:port`, `:port`, `unix:/path`, `fd://N` or `systemd:NAME`. Raises ValueError and
    nothing else."""
    text = text.strip()
    if not text:
        raise ValueError("an empty address; write host:port, [v6]:port, unix:/path or fd://N")
    if text.startswith("unix:"):
        return Address(kind="unix", path=_parse_path(text.removeprefix("unix:").removeprefix("//")))
    if text.startswith("systemd:"):
        name = text.removeprefix("systemd:")
        if not name:
            raise ValueError("'systemd:' without a name; write systemd:NAME, the unit's FileDescriptorName=")
        return Address(kind="systemd", name=name)
    if text.startswith("fd://"):
        digits = text.removeprefix("fd://")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 8):
            raise ValueError(f"{text!r}: a file descriptor is a number, as in fd://3")
        return Address(kind="fd", fd=int(digits))
    if scheme := _SCHEME.match(text):
        if scheme[1].lower() != "tcp":  # Gunicorn reads tcp:// too
            raise ValueError(f"{text!r}: an address has no {scheme[1]}://; write host:port, unix:/path or fd://N")
        text = text[scheme.end() :]
    host, port = _split_port(text)
    return Address(kind="tcp", host=host, port=port)


def open_listeners(addresses: Iterable[Address], backlog: int, have: Sequence[Listener] = ()) -> list[Listener]:
    """Open one listener an address, in order, and reuse those of `have` that are in the same place.

    All or nothing: on failure what was opened here is closed again, `have` still listens, and BindError tells why.
    The caller closes those of `have` that are not in the result, and may show `backlog_notice(backlog)`.
    """
    wanted = list(addresses)
    spare = list(have)
    opened: list[Listener] = []
    result: list[Listener] = []
    try:
        _refuse_twins(wanted)
        for address in wanted:
            kept = next((one for one in spare if one.address.place == address.place), None)
            if kept is not None:
                spare.remove(kept)
                result.append(kept)
            else:
                made = _open(address, backlog, wanted)
                opened.append(made)
                result.append(made)
        _renew(zip(wanted, result, strict=True), backlog)
    except BaseException:
        for listener in opened:
            if listener.address.kind in ("fd", "systemd"):
                listener.sock.detach()  # its opener may be asked for it again
            else:
                listener.close(unlink=True)
        raise
    return result


def backlog_notice(backlog: int) -> str | None:
    """One line when the kernel cuts `backlog` (Linux: net.core.somaxconn), else None."""
    try:
        with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
            limit = int(file.read())
    except (OSError, ValueError):
        return None
    if backlog <= limit:
        return None
    return (
        f"the kernel cuts the backlog of {backlog} to {limit}; "
        f"raise it with `sysctl net.core.somaxconn={backlog}` or set backlog to {limit}"
    )


# Reading an address ------------------------------------------------------------------------------------------------


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse_path(path: str) -> str:
    if not path:
        raise ValueError("'unix:' without a path; write unix:/run/palfrey.sock")
    if path.startswith("@"):
        raise ValueError(f"'unix:{path}': abstract sockets have no rights and are not supported; write unix:/path")
    if "\0" in path:
        raise ValueError("a socket's path cannot hold a NUL character")
    return "/" + path.lstrip("/") if path.startswith("/") else path


def _split_port(text: str) -> tuple[str, int]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r}: write an IPv6 address and its port as [::1]:8000")
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError(f"{text!r}: {host!r} is not an IPv6 address") from None
        return host, _parse_port(text, rest[1:]) if rest else DEFAULT_PORT
    if text.count(":") > 1:
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets, as in [::1]:8000")
    host, colon, port = text.partition(":")
    if not colon and host.isdigit():
        raise ValueError(f"{text!r} is a port without an address: write 127.0.0.1:{text}, or :{text} for every address")
    if host == "unix":  # with a port it would read as a path
        raise ValueError(f"{text!r}: write the path of a UNIX socket as unix:/run/palfrey.sock")
    if host and not _HOST.fullmatch(host):
        raise ValueError(f"{text!r}: {host!r} is not a host; write host:port, :port (every address) or unix:/path")
    return host or "0.0.0.0", _parse_port(text, port) if colon else DEFAULT_PORT


def _parse_port(text: str, port: str) -> int:
    if port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535:
        return int(port)
    raise ValueError(f"{text!r}: {port!r} is not a port, a number from 0 to 65535")


# Opening ------------------------------------------------------------------------------------------------------------


def _refuse_twins(wanted: Sequence[Address]) -> None:
    seen = set()
    for address in wanted:
        any_port = address.kind == "tcp" and address.port == 0
        if address.place in seen and not any_port:
            raise BindError(f"{address} is asked for twice; remove one of the two binds")
        seen.add(address.place)


def _open(address: Address, backlog: int, wanted: Sequence[Address]) -> Listener:
    if address.kind == "tcp":
        sock = _open_tcp(address, backlog, wanted)
    elif address.kind == "unix":
        sock = _open_unix(address, backlog)
    else:
        sock = _adopt(address)
    sock.setblocking(False)
    sock.set_inheritable(False)
    return Listener(sock, address)


def _open_tcp(address: Address, backlog: int, wanted: Sequence[Address]) -> socket.socket:
    on_v4_too = any(one.kind == "tcp" and one.port == address.port and ":" not in one.host for one in wanted)
    places = _resolve(address)
    for family, where in places:
        try:
            return _listen_tcp(family, where, backlog, v6_only=on_v4_too)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL and where != places[-1][1]:
                continue
            raise tcp_refusal(str(address), where, error) from None
    raise BindError(f"cannot listen on {address}: the host {address.host!r} has no IPv4 or IPv6 address")


def _resolve(address: Address) -> list[tuple[int, tuple[Any, ...]]]:
    """The places that a host stands for, as (family, what bind(2) takes), IPv4 first."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no valid host name"
        raise BindError(
            f"cannot listen on {address}: the host {address.host!r} does not resolve ({reason}); "
            "use one of this machine's addresses, or 0.0.0.0 for all of them"
        ) from None
    places: list[tuple[int, tuple[Any, ...]]] = [(family, where) for family, _, _, _, where in found]
    return sorted(places, key=lambda place: place[0] != socket.AF_INET)


def _listen_tcp(family: int, where: tuple[Any, ...], backlog: int, v6_only: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without it a restart fails for as long as old connections linger in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6_only)
        sock.bind(where)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(address: Address, backlog: int) -> socket.socket:
    length = len(os.fsencode(address.path))
    if length > MAX_UNIX_PATH:
        raise BindError(
            f"cannot listen on {address}: the path has {length} bytes and this system takes {MAX_UNIX_PATH}; "
            "choose a shorter one"
        )
    _clear_stale(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound = False
    try:
        _bind_unix(sock, address.path)
        bound = True
        _apply_rights(address, address.path)
        sock.listen(backlog)
    except BaseException as error:
        sock.close()
        if bound:
            with contextlib.suppress(OSError):
                os.unlink(address.path)
        if isinstance(error, OSError):
            raise unix_refusal(str(address), address.path, error) from None
        raise
    return sock


def _bind_unix(sock: socket.socket, path: str) -> None:
    """So that nobody but this user can connect before the rights are set."""
    if _takes_mode(sock):
        sock.bind(path)
        return
    mask = os.umask(0o177)  # the whole process's: what another thread makes meanwhile has it, too
    try:
        sock.bind(path)
    finally:
        os.umask(mask)


def _takes_mode(sock: socket.socket) -> bool:
    """Whether the socket has a mode of its own now, 0600, which its file takes when it is bound."""
    if not _HAVE_MODES:
        return False
    try:
        os.fchmod(sock.fileno(), 0o600)
    except OSError:  # a kernel that stands for Linux (gVisor)
        return False
    return True


def _clear_stale(address: Address) -> None:
    """Remove a socket file that nobody listens on; refuse anything else that is there."""
    try:
        there = os.lstat(address.path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unix_refusal(str(address), address.path, error) from None
    if not stat.S_ISSOCK(there.st_mode):
        raise BindError(
            f"cannot listen on {address}: a file that is no socket is there; remove it or choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        status = probe.connect_ex(address.path)
    if status == errno.ENOENT:
        return
    if status != errno.ECONNREFUSED:  # EAGAIN too: its queue is full, so it is listened on
        detail = "another server is listening there" if status in (0, errno.EAGAIN) else os.strerror(status)
        raise BindError(f"cannot listen on {address}: {detail}; stop it or choose another path")
    try:
        if _inode(address.path) == (there.st_dev, there.st_ino):
            os.unlink(address.path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise BindError(
            f"cannot listen on {address}: a stale socket is there and cannot be removed "
            f"({error.strerror}); remove it or give this user the right to"
        ) from None


def _apply_rights(address: Address, path: str) -> None:
    if address.owner is not None:
        user, _, group = address.owner.partition(":")
        try:
            uid = resolve_user(user).uid if user else -1
            gid = resolve_group(group) if group else -1
        except ConfigError as error:
            raise BindError(f"cannot give {address} to {address.owner!r}: {error}") from None
        try:
            os.chown(path, uid, gid)
        except OSError as error:
            raise BindError(
                f"cannot give {address} to {address.owner!r}: {error.strerror}; "
                "start as root, or name a group that this user is in (':group')"
            ) from None
    os.chmod(path, DEFAULT_UNIX_MODE if address.mode is None else address.mode)


def _adopt(address: Address) -> socket.socket:
    """Take over a socket that this process was started with. Its backlog is its opener's business."""
    fd = address.fd
    try:
        os.fstat(fd)
    except OSError:
        raise BindError(
            f"cannot listen on {address}: file descriptor {fd} is not open; "
            "was the server started by what should have opened it (systemd, circus)?"
        ) from None
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        raise BindError(f"cannot listen on {address}: file descriptor {fd} is not a socket") from None
    wrong = ""
    if sock.family not in _FAMILIES:
        wrong = f"a socket of family {sock.family}, and must be TCP or UNIX"
    elif sock.type != socket.SOCK_STREAM:
        wrong = "not a stream socket (systemd: ListenStream=)"
    elif not _is_listening(sock):
        wrong = "not listening; its opener must bind it and call listen() (systemd: Accept=no)"
    if wrong:
        sock.detach()
        raise BindError(f"cannot listen on {address}: file descriptor {fd} is {wrong}")
    return sock


def _is_listening(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:  # a system that cannot tell; accept() will
        return True


def _renew(pairs: Iterable[tuple[Address, Listener]], backlog: int) -> None:
    """Bring reused listeners up to date: the backlog, and a file's rights and owner."""
    for address, listener in pairs:
        if address.kind in ("tcp", "unix"):
            listener.sock.listen(backlog)
        if address.kind == "unix" and listener.address != address:
            try:
                _apply_rights(address, listener._path)
            except OSError as error:
                raise unix_refusal(str(address), address.path, error) from None
        listener.address = address


def _inode(path: str) -> tuple[int, int] | None:
    try:
        there = os.lstat(path)
    except OSError:
        return None
    return there.st_dev, there.st_ino
