"""`python -m tests.support.seccomp UNIT [--no-writable-code] COMMAND...`: run a command as a unit's filter would.

Reads SystemCallFilter= and SystemCallErrorNumber=EPERM from the unit file, asks `systemd-analyze` what is in the sets,
and makes of it what systemd would: a seccomp(2) filter that the command inherits. With --no-writable-code also what
MemoryDenyWriteExecute= asks of newer kernels (PR_SET_MDWE). For Linux on x86-64 with its headers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
"""Where the numbers of system calls are."""

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
PR_SET_NO_NEW_PRIVS = 38
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1

LOAD_NUMBER = struct.pack("HBBI", 0x20, 0, 0, 0)
"""BPF: the system call's number is the first word of struct seccomp_data."""
ALLOW = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
REFUSE = struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | errno.EPERM)


def is_possible() -> bool:
    return (
        sys.platform == "linux"
        and platform.machine() == "x86_64"
        and HEADER.exists()
        and shutil.which("systemd-analyze") is not None
    )


def allowed_by(unit: Path) -> set[str]:
    """Names of the system calls that are left; lines take effect in their order (systemd.exec(5))."""
    sets = _sets()
    lines = re.findall(r"^SystemCallFilter=(~?)(.*)$", unit.read_text(), flags=re.MULTILINE)
    allowed = _members(sets, "@default")
    for tilde, names in lines:
        calls = set().union(*(_members(sets, name) for name in names.split()))
        allowed = allowed - calls if tilde else allowed | calls
    return allowed


def _sets() -> dict[str, list[str]]:
    listed = subprocess.run(["systemd-analyze", "syscall-filter"], check=True, capture_output=True, text=True).stdout
    sets: dict[str, list[str]] = {}
    for line in listed.splitlines():
        if line.startswith("@"):
            current = sets.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.strip().startswith("#"):
            current.append(line.strip())
    return sets


def _members(sets: dict[str, list[str]], name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    return set().union(*(_members(sets, member) for member in sets[name]))


def program(allowed: set[str]) -> bytes:
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text()))
    tests = b"".join(
        struct.pack("HBBI", 0x15, 0, 1, int(numbers[name])) + ALLOW for name in sorted(allowed) if name in numbers
    )
    return LOAD_NUMBER + tests + REFUSE


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def confine(unit: Path, *, no_writable_code: bool) -> None:
    """This process, and all that it becomes and starts. Raises OSError where the kernel does not know how."""
    code = program(allowed_by(unit))
    memory = ctypes.create_string_buffer(code)
    _prctl(PR_SET_NO_NEW_PRIVS, 1, 0)
    if no_writable_code:
        _prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0)
    whole = _Program(len(code) // 8, ctypes.addressof(memory))
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(whole))


def _prctl(*arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(*map(ctypes.c_ulong, (*arguments, 0, 0))):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    unit, *command = sys.argv[1:]
    flag = command[0] == "--no-writable-code"
    confine(Path(unit), no_writable_code=flag)
    command = command[flag:]
    os.execvp(command[0], command)
