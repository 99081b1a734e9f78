"""A working directory that can be come back to, wherever its name leads by now.

A release is deployed beside the one that serves, and a symlink is switched to it. To go to a directory *by its name*
(`palfrey.system.process.change_directory`) is to follow the switch; to go to a `Place` is to be where one was, also
where the name is another directory's by now, or nobody's. It costs a descriptor.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from palfrey.errors import ConfigError
from palfrey.system.process import close_fds, own_directory

_LOOK = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
"""Where there is O_PATH, a directory that may be searched and not be read will do, as it does for chdir(2)."""


class Place:
    """A directory, and the name by which it was gone to."""

    __slots__ = ("_fd", "name")

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        """Where this process is. Raises ConfigError."""
        self.name = own_directory(environ)
        try:
            self._fd = os.open(".", _LOOK)
        except OSError as error:
            raise ConfigError(f"cannot keep the working directory {self.name}: {error.strerror}") from None

    def fileno(self) -> int:
        """-1 once it is closed."""
        return self._fd

    def enter(self, environ: MutableMapping[str, str] = os.environ) -> None:
        """Go there again, and call it in $PWD what it was called. Raises OSError."""
        os.fchdir(self._fd)
        environ["PWD"] = self.name

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        close_fds([fd])
