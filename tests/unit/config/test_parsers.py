"""Values: what fits is read to one type, what does not is refused in words that say what would."""

from __future__ import annotations

import pathlib
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palfrey.config import parsers
from palfrey.config.parsers import Parser, Shape
from palfrey.config.settings import ROWS

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.text()),
    st.dictionaries(st.text(), st.text()),
    st.tuples(st.text(), st.text()),
)


@pytest.mark.parametrize(
    ("value", "expected"), [("3", 3), (3, 3), (" 3 ", 3), ("1_000", 1000), (ssl.CERT_REQUIRED, 2), ("-0", 0)]
)
def test_integer(value: object, expected: int) -> None:
    found = parsers.integer(0).read(value)
    assert found == expected
    assert type(found) is int


@pytest.mark.parametrize("value", ["", "three", "3.5", 3.0, True, None, [3], b"3", "0x10"])
def test_integer_refuses_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(ValueError, match="must be a whole number, at least 0"):
        parsers.integer(0).read(value)


@given(st.integers())
def test_integer_keeps_to_its_bounds(number: int) -> None:
    parser = parsers.integer(1, 9)
    for value in (number, str(number)):
        if 1 <= number <= 9:
            assert parser.read(value) == number
        else:
            with pytest.raises(ValueError, match=r"^must be from 1 to 9$"):
                parser.read(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        (4096, 4096),
        ("4096", 4096),
        ("512m", 512 << 20),
        ("512M", 512 << 20),
        (" 1.5 GiB ", 3 << 29),
        ("64kb", 64 << 10),
        ("2t", 2 << 40),
    ],
)
def test_size(value: object, expected: int) -> None:
    assert parsers.size("never").read(value) == expected


@pytest.mark.parametrize("value", ["", "m", "1x", "-1", "1 2m", -1, 1.5, True, None, "1e3", "9" * 400, b"1m"])
def test_size_refuses_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match=r"must be a size such as 512m or 1.5g, .* \(0: never\)"):
        parsers.size("never").read(value)


@pytest.mark.parametrize(("value", "expected"), [("auto", "auto"), (" AUTO ", "auto"), ("3", 3), (4, 4)])
def test_count_or_auto(value: object, expected: object) -> None:
    assert parsers.count_or_auto(1, 9).read(value) == expected


@pytest.mark.parametrize("value", ["0", 10, "many", "", None, 1.0])
def test_count_or_auto_refuses_the_rest(value: object) -> None:
    with pytest.raises(ValueError, match="from 1 to 9, or auto"):
        parsers.count_or_auto(1, 9).read(value)


@pytest.mark.parametrize(
    ("value", "expected"), [("none", 0), (" Optional ", 1), ("2", 2), (1, 1), (ssl.CERT_REQUIRED, 2), ("required", 2)]
)
def test_numbered(value: object, expected: int) -> None:
    found = parsers.numbered("none", "optional", "required").read(value)
    assert found == expected
    assert type(found) is int


@pytest.mark.parametrize("value", ["3", 3, -1, "", True, None, 1.0, "all", b"1", [1]])
def test_numbered_refuses_others(value: object) -> None:
    with pytest.raises(ValueError, match=r"^must be one of: none \(0\), optional \(1\), required \(2\)$"):
        parsers.numbered("none", "optional", "required").read(value)


@pytest.mark.parametrize(("value", "expected"), [("2.5", 2.5), (0, 0.0), (30, 30.0), ("1e2", 100.0)])
def test_seconds(value: object, expected: float) -> None:
    found = parsers.seconds("off").read(value)
    assert found == expected
    assert type(found) is float


@pytest.mark.parametrize("value", ["nan", "inf", float("inf"), -1, "-0.1", True, "soon", None, 10**400])
def test_seconds_refuses(value: object) -> None:
    with pytest.raises(ValueError, match=r"must be a number of seconds \(0: off\)"):
        parsers.seconds("off").read(value)


def test_seconds_takes_zero_only_where_it_means_something() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        parsers.seconds().read(0)


@pytest.mark.parametrize(("words", "expected"), [("true Yes ON 1", True), ("false no Off 0", False)])
def test_boolean_words(words: str, expected: bool) -> None:
    assert {parsers.boolean.read(word) for word in words.split()} == {expected}
    assert parsers.boolean.read(expected) is expected
    assert parsers.boolean.read(int(expected)) is expected


@pytest.mark.parametrize("value", ["", "y", 2, None, 0.0, []])
def test_boolean_refuses(value: object) -> None:
    with pytest.raises(ValueError, match="must be true or false"):
        parsers.boolean.read(value)


@pytest.mark.parametrize(("value", "expected"), [("022", 0o22), ("22", 0o22), ("0o22", 0o22), (18, 0o22), (0, 0)])
def test_octal_text_is_octal_and_a_number_is_itself(value: object, expected: int) -> None:
    assert parsers.octal("a mask", 0o777).read(value) == expected


@pytest.mark.parametrize("value", ["9", "1000", -1, 0o1000, True, None, "rwx"])
def test_octal_refuses(value: object) -> None:
    with pytest.raises(ValueError, match="must be a mask in octal, from 0 to 777"):
        parsers.octal("a mask", 0o777).read(value)


def test_choice_ignores_case_and_knows_synonyms() -> None:
    parser = parsers.choice("auto", "httptools", synonyms={"fast": "httptools"})
    assert parser.read("AUTO") == "auto"
    assert parser.read("fast") == "httptools"
    with pytest.raises(ValueError, match=r"^must be auto or httptools$"):
        parser.read("h11")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("X-A:b", ("X-A", "b")),
        ("X-A: b:c ", ("X-A", "b:c")),
        ("X-Empty:", ("X-Empty", "")),
        (("X-A", "b"), ("X-A", "b")),
        ([b"X-A", b"\xe9"], ("X-A", "é")),
    ],
)
def test_header(value: object, expected: tuple[str, str]) -> None:
    assert parsers.header.read(value) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("X-A", "must be NAME:VALUE"),
        (":b", "is not a header name"),
        ("X A:b", "is not a header name"),
        ("X-A:b\r\nSet-Cookie: c", "line break"),
        ("X-A:b\0", "NUL"),
        ("X-A:\u20ac", "latin-1"),
        ("X-Ä:b", "is not a header name"),
        ("Content-Length: 5", "cannot be the same in all responses"),
        (("transfer-encoding", "chunked"), "cannot be the same in all responses"),
        ("Connection: close", "cannot be the same in all responses"),
        (("X-A", 1), "pair of text"),
        (7, "must be NAME:VALUE"),
    ],
)
def test_header_refuses(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parsers.header.read(value)


@given(st.text(), st.text())
def test_a_header_that_is_accepted_cannot_split_a_response(name: str, content: str) -> None:
    try:
        found = parsers.header.read((name, content))
    except ValueError:
        return
    line = f"{found[0]}: {found[1]}".encode("latin-1")
    assert not {0, 10, 13} & set(line)
    assert b":" not in line.partition(b": ")[0]


def test_peers() -> None:
    text = "127.0.0.1, ::1,10.0.0.0/8,10.1.2.3/8 , unix, /run/a.sock,unix:/run/b.sock,*,"
    assert parsers.peers.read(text) == "127.0.0.1,::1,10.0.0.0/8,10.1.2.3/8,unix,/run/a.sock,unix:/run/b.sock,*"
    assert parsers.peers.read(["127.0.0.1", "::1"]) == "127.0.0.1,::1"
    assert parsers.peers.read("") == ""


@pytest.mark.parametrize("value", ["localhost", "10.0.0.0/33", "1.2.3.4:80", "127.0.0.1 ::1", "run/a.sock", "unix:a"])
def test_peers_that_would_match_nobody_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        parsers.peers.read(f"127.0.0.1,{value}")
    with pytest.raises(ValueError, match="must be text"):
        parsers.peers.read([1])


def test_lists_split_text_and_never_their_items() -> None:
    names = parsers.many(parsers.text())
    assert names.read("a, b,,c") == ("a", "b", "c")
    assert names.read(["a,b"]) == ("a,b",)
    assert names.read(()) == ()
    with pytest.raises(ValueError, match="must be a list"):
        names.read(7)


def test_headers_come_as_lines_pairs_or_a_mapping() -> None:
    headers = parsers.many(parsers.header, separator=None)
    expected = (("X-A", "1, 2"), ("X-B", "3"))
    assert headers.read("X-A: 1, 2\nX-B: 3") == expected
    assert headers.read([("X-A", "1, 2"), "X-B: 3"]) == expected
    assert headers.read({"X-A": "1, 2", "X-B": "3"}) == expected


def test_paths_take_path_objects() -> None:
    assert parsers.path().read(pathlib.PurePosixPath("/run/x")) == "/run/x"
    with pytest.raises(ValueError, match="not empty"):
        parsers.path().read("")
    with pytest.raises(ValueError, match="NUL"):
        parsers.path().read("a\0b")


def test_app_dir_is_one_directory() -> None:
    with pytest.raises(ValueError, match="PYTHONPATH"):
        parsers.directory.read("src,lib")


def test_accounts_by_name_or_number() -> None:
    parser = parsers.account("USER")
    assert parser.read("www-data") == "www-data"
    assert parser.read(0) == "0"
    with pytest.raises(ValueError, match="a name or a number"):
        parser.read(-1)


@pytest.mark.parametrize(
    "name",
    [
        "asgi",
        "uvicorn.workers.UvicornWorker",
        "uvicorn.workers.UvicornH11Worker",
        "uvicorn_worker.UvicornWorker",
        "palfrey.workers.PalfreyWorker",
        "gthread",
        "sync",
    ],
)
def test_worker_classes_whose_work_palfrey_does_are_accepted(name: str) -> None:
    assert parsers.worker_class_name.read(name) == name


def test_a_worker_class_may_be_a_class() -> None:
    kind = type("UvicornWorker", (), {"__module__": "uvicorn.workers"})
    assert parsers.worker_class_name.read(kind) == "uvicorn.workers.UvicornWorker"


@pytest.mark.parametrize("name", ["eventlet", "gevent", "tornado", "my.UvicornWorker", None, 1])
def test_other_worker_classes_are_refused(name: object) -> None:
    with pytest.raises(ValueError, match="Palfrey serves applications"):
        parsers.worker_class_name.read(name)


def test_hooks_are_checked_for_their_arguments() -> None:
    parser = parsers.hook("server", "worker")
    for fits in (lambda server, worker: None, lambda *arguments: None, lambda a, b, c=1: None, print, max):
        assert parser.read(fits) is fits
    for wrong in (lambda server: None, lambda a, b, c: None, lambda *, server, worker: None):
        with pytest.raises(ValueError, match=r"must be callable as \(server, worker\)"):
            parser.read(wrong)
    with pytest.raises(ValueError, match="must be a function"):
        parser.read("module.function")


def test_log_config_is_a_file_or_a_dictionary() -> None:
    assert parsers.logging_configuration.read("log.json") == "log.json"
    assert parsers.logging_configuration.read({"version": 1}) == {"version": 1}
    with pytest.raises(ValueError, match="dictConfig"):
        parsers.logging_configuration.read(3)


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.name)
@settings(max_examples=25, deadline=None)
@given(value=ANYTHING)
def test_no_parser_raises_anything_but_value_error(row: object, value: object) -> None:
    parser: Parser[object] = row.parser  # type: ignore[attr-defined]
    try:
        found = parser.read(value)
    except ValueError as error:
        reason = str(error)
    else:
        reason = "fits"
        if parser.shape is not Shape.CODE:
            assert parser.read(found) == found, "what a parser returns, it accepts"
    assert reason
    assert "\n" not in reason


def test_some() -> None:
    parser = parsers.some("a", "b", "c")
    for value in ("a, B,", ["a", "b"], ("a,b",)):
        assert parser.read(value) == ("a", "b")
    assert parser.read("") == parser.read([]) == ()
    for wrong in ("a,x", ["x"], 3, [3]):
        with pytest.raises(ValueError, match=r"^must be (a, b or c|text)$"):
            parser.read(wrong)


@pytest.mark.parametrize("value", ["", "x request", "x:y", "é", 3, None])
def test_field_name_refuses(value: object) -> None:
    assert parsers.free_field_name.read(" X-Request-ID ") == "x-request-id"
    with pytest.raises(ValueError, match="must be the name of a header"):
        parsers.free_field_name.read(value)


@pytest.mark.parametrize("value", ["Content-Length", "connection", "Set-Cookie", "date"])
def test_a_field_name_that_has_a_meaning_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=f"x-request-id: {value.lower()} has a meaning"):
        parsers.free_field_name.read(value)
