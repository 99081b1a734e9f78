"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling")."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections.abc import Iterator
from typing import Any

BLOCK_SIZE = 1 << 16


class FileWrapper:
    """What an application returns to have a file sent. Middleware may iterate over it as well; who returns it as it is
    has it sent by the kernel, where it is a file of the system's and where the connection allows."""

    def __init__(self, filelike: Any, block_size: int = BLOCK_SIZE) -> None:
        self.filelike = filelike
        self.block_size = block_size
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.block_size)
        if not data:
            raise StopIteration
        return data


def regular_file(filelike: Any) -> io.IOBase | None:
    """The file behind it, if its content is what the descriptor has: not so for what unpacks or decrypts as it reads,
    though that has a fileno(), too."""
    # tempfile's wrapper has the file in an attribute. So have others, whose read() may give something else; and so may
    # that of any class which derives from these.
    file: Any = filelike.file if type(filelike) is tempfile._TemporaryFileWrapper else filelike
    raw: Any = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
    if type(raw) is not io.FileIO:
        return None
    try:
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, ValueError):
        return None
    found: io.IOBase | None = file if regular else None
    return found
