"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling")."""

from __future__ import annotations

import io
import os
import stat
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
    # tempfile's wrappers have the file in an attribute.
    file: Any = filelike if isinstance(filelike, io.IOBase) else getattr(filelike, "file", None)
    if isinstance(file, (io.BufferedReader, io.BufferedRandom)):
        plain = isinstance(file.raw, io.FileIO)
    else:
        plain = isinstance(file, io.FileIO)
    if not plain:
        return None
    try:
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, ValueError):
        return None
    found: io.IOBase | None = file if regular else None
    return found
