"""Which files the kernel may send in the place of what is read from them."""

from __future__ import annotations

import gzip
import io
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from palfrey.asgi.wsgi.files import regular_file


class Upper(io.BufferedReader):
    """Gives something else than what its descriptor has."""

    def read(self, size=-1):
        return super().read(size).upper()


class RawUpper(io.FileIO):
    def read(self, size=-1):
        return super().read(size).upper()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    return path


def test_plain_files(path: Path) -> None:
    with path.open("rb") as file, path.open("r+b") as both, path.open("rb", buffering=0) as raw:
        for each in (file, both, raw):
            assert regular_file(each) is each
    with tempfile.NamedTemporaryFile() as temporary:
        assert regular_file(temporary) is temporary.file


def test_what_reads_something_else(path: Path) -> None:
    with path.open("rb") as file, gzip.open(path) as packed, Upper(io.FileIO(path)) as upper, RawUpper(path) as raw:
        wrapping = SimpleNamespace(file=file, read=lambda size=-1: file.read(size).upper(), fileno=file.fileno)
        for each in (wrapping, packed, upper, raw, io.BytesIO(b"a"), object()):
            assert regular_file(each) is None
        with io.BufferedReader(RawUpper(path)) as buffered:
            assert regular_file(buffered) is None
