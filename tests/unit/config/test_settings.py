"""The table: every row is whole, no name means two things, and defaults are values that their own parsers accept."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
from collections import Counter

import pytest

from palfrey.config import settings as table
from palfrey.config.foreign import FOREIGN
from palfrey.config.parsers import Shape
from palfrey.config.settings import ALIASES, GROUPS, ROWS, Row, Settings, canonical

PLAIN_ROWS = [row for row in ROWS.values() if row.parser.shape is not Shape.CODE]


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.name)
def test_each_row_is_whole(row: Row) -> None:
    assert row.name.islower()
    assert row.group in GROUPS
    assert row.doc.endswith((".", ")"))
    assert row.type in inspect.getsource(table.Settings)
    if row.default is not None and row.parser.shape is not Shape.CODE:
        read = row.parser.read(row.default)
        assert read == row.default
        assert type(read) is type(row.default)


@pytest.mark.parametrize("row", PLAIN_ROWS, ids=lambda row: row.name)
def test_each_setting_has_its_variable_and_all_but_app_a_flag(row: Row) -> None:
    assert row.env[0] == f"PALFREY_{row.name.upper()}"
    assert (row.name == "app") == (not row.flags)
    assert all(flag.startswith("-") for flag in (*row.flags, *row.also))
    assert not row.flags or row.flags[-1].startswith("--")


def test_no_name_flag_or_variable_means_two_things() -> None:
    names = Counter([*ROWS, *(alias for row in ROWS.values() for alias in row.aliases), *FOREIGN])
    variables = Counter(variable for row in ROWS.values() for variable in row.env)
    flags = Counter(
        flag
        for row in ROWS.values()
        for given in (*row.flags, *row.also)
        for flag in ([given, "--no-" + given[2:]] if row.parser.shape is Shape.SWITCH else [given])
    ) + Counter(flag for foreign in FOREIGN.values() for flag in foreign.flags)
    for counted in (names, variables, flags):
        assert [name for name, times in counted.items() if times > 1] == []


def test_settings_are_frozen_and_keyword_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().workers = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        Settings("main:app")  # type: ignore[misc]
    assert not hasattr(Settings(), "__dict__")


def test_secrets_are_not_in_the_repr() -> None:
    assert "hunter2" not in repr(Settings(ssl_keyfile_password="hunter2", raw_env=("A=hunter2",)))


def test_canonical_knows_every_name() -> None:
    assert canonical("workers") == "workers"
    assert canonical("keepalive") == "timeout_keep_alive"
    assert canonical("nonsense") is None
    assert set(ALIASES.values()) <= set(ROWS)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ("127.0.0.1:8000",)),
        ({"host": "::1", "port": 0}, ("[::1]:0",)),
        ({"host": "[::]"}, ("[::]:8000",)),
        ({"uds": "/run/x.sock"}, ("unix:/run/x.sock",)),
        ({"fd": 0}, ("fd://0",)),
        ({"bind": ("a:1", "unix:/b")}, ("a:1", "unix:/b")),
    ],
)
def test_binds(values: dict[str, object], expected: tuple[str, ...]) -> None:
    assert Settings(**values).binds() == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *[(word, word) for word in ("auto", "httptools", "h11", "h2")],
        *[("fast", "httptools"), ("python", "h11")],
        *[("h1", "auto"), ("h2,h1", "h2"), ("h2, h1", "h2")],
        *[("1", "auto"), ("2", "h2"), ("H2", "h2")],
    ],
)
def test_what_is_spoken_by_every_servers_word_for_it(written: str, read: str) -> None:
    assert ROWS["http"].parser.read(written) == read


@pytest.mark.parametrize("written", ["h3", "h2,h3", "h1,h2", "http/2", "", 2])
def test_what_is_not_spoken_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="must be auto, httptools, h11 or h2"):
        ROWS["http"].parser.read(written)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("http2_max_concurrent_streams", 1, 2**31 - 1),
        ("http2_initial_window_size", 1024, 2**31 - 1),  # RFC 9113 section 6.9.1
        ("http2_initial_connection_window_size", 65535, 2**31 - 1),  # it can only be raised (section 6.9.2)
        ("http2_max_frame_size", 2**14, 2**24 - 1),  # section 6.5.2
    ],
)
def test_settings_of_http2_are_within_what_it_can_say(name: str, least: int, most: int) -> None:
    read = ROWS[name].parser.read
    assert (read(least), read(most)) == (least, most)
    for wrong in (least - 1, most + 1):
        with pytest.raises(ValueError, match=f"from {least} to {most}"):
            read(wrong)


def test_settings_are_cheap_to_import() -> None:
    code = "import sys, palfrey.config.settings; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "click", "ssl", "uvloop"} & set(modules)


def test_each_field_is_declared_by_the_table() -> None:
    """A field without a row would be a setting that no source can set."""
    tree = ast.parse(inspect.getsource(table))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings").body
    declared = [
        node.target.id for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    assert declared == list(ROWS)
