"""Why a socket could not be made, in one line that says what to do. `sockets.py` asks here once something has failed.

Only reads: the error at hand and, for an address in use, the kernel's table of sockets, to name the process to stop.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from palfrey.errors import BindError


def tcp_refusal(address: str, where: tuple[Any, ...], error: OSError) -> BindError:
    """`address` as asked for, `where` it resolved to (host, port, ...) and what bind(2) or listen(2) said."""
    host, port = where[:2]
    if error.errno == errno.EADDRINUSE:
        holder = find_holder(host, port)
        reason = f"it is in use by {holder or 'another process'}; stop that or choose another port"
        if not holder:
            reason += f" (as root, `ss -ltnp 'sport = :{port}'` names it)"
    elif error.errno in (errno.EACCES, errno.EPERM):
        reason = (
            "permission denied; ports below 1024 need root (with --user to drop it), CAP_NET_BIND_SERVICE "
            "or systemd's palfrey.socket; else choose a port from 1024 up"
        )
    elif error.errno == errno.EADDRNOTAVAIL:
        reason = f"this machine has no address {host}; use one that it has, or 0.0.0.0 for all of them"
    else:
        reason = error.strerror or str(error)
    return BindError(f"cannot listen on {address}: {reason}")


def unix_refusal(address: str, path: str, error: OSError) -> BindError:
    """`address` as asked for, its `path`, and what the kernel said to bind(2) or about the file."""
    folder = os.path.dirname(os.path.abspath(path))
    reasons = {
        errno.ENOENT: f"the directory {folder} does not exist; create it (systemd: RuntimeDirectory=)",
        errno.ENOTDIR: f"{folder} is not a directory",
        errno.EACCES: f"permission denied in {folder}; let this user write there",
        errno.EROFS: f"{folder} is on a read-only file system",
        errno.EADDRINUSE: "another server took the path just now; stop it or choose another path",
    }
    return BindError(f"cannot listen on {address}: {reasons.get(error.errno or 0, error.strerror or str(error))}")


def find_holder(host: str, port: int) -> str | None:
    """The process that listens on a port, as `nginx (pid 12)`, where the kernel lets this user see it.

    Of a server with workers the outermost process that holds the socket is named, which is the one to stop.
    """
    import psutil

    def listens(connection: Any) -> bool:
        local = connection.laddr
        if connection.status != psutil.CONN_LISTEN or not local or local.port != port:
            return False
        return local.ip == host or not {local.ip, host}.isdisjoint(("0.0.0.0", "::"))

    def holds(process: psutil.Process) -> bool:
        try:
            return any(map(listens, process.net_connections(kind="tcp")))
        except psutil.AccessDenied:  # a user's server has root's processes above it
            return False

    try:
        pid = next((one.pid for one in psutil.net_connections(kind="tcp") if one.pid and listens(one)), None)
        if pid is None:
            return None
        process = psutil.Process(pid)
        while (parent := process.parent()) and holds(parent):
            process = parent
        name = "this server itself" if process.pid == os.getpid() else process.name()
    except (psutil.Error, OSError):
        return None
    return f"{name} (pid {process.pid})"
