"""`python -m tests.corpus` writes docs/conformance-http1.md: what is refused and what is served, out of the corpus.

`--check` writes nothing and fails when the file is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.corpus.legal import LEGAL
from tests.corpus.refused import REFUSED, Refused

PAGE = Path(__file__).parents[2] / "docs" / "conformance-http1.md"

INTRODUCTION = """\
# HTTP/1.1: what is refused, and what is served

Generated from `tests/corpus` by `python -m tests.corpus`; do not edit. Every request there is replayed whole, split at
every byte and byte by byte, with a second request behind it and with either parser (`--http httptools|h11`). All of
them come to the same verdict. `python -m tests.fuzz --seconds 300` looks for what nobody thought of.

A refused request gets its status and the end of its connection, and one line in the error log with the reason and the
client. The application never sees it, unless the fault is in chunked content that it was already reading: then it is
told that the client has left.

Choices that a reader may ask about:

- **Methods** are those of the IANA registry and llhttp's; any other is answered with 501, whatever the parser.
- **Targets** may have the visible ASCII characters that RFC 3986 does not know (`"<>\\^{|}` and the backtick), since
  browsers and curl's users send them and no reader takes them for anything else. Userinfo is refused, a fragment too.
- **CONNECT** is not served: 501.
- **White space behind a value** is taken off, before it everywhere refused: in front of the colon, of a line, of a
  chunk size or behind one.
- **Underscores** in names are kept; `header_map` drops or refuses them.
- **Numbers**: Content-Length has at most 18 digits, a chunk size 15, so that no reader's integers overflow.
- **Trailers** are read, checked and dropped: none of them reaches the application (RFC 9110 section 6.5.1).
- **Upgrades** that are not taken are plain requests, and their content is content.
- **Expect** with anything but `100-continue` is ignored, which RFC 9110 section 10.1.1 allows.
"""


def _section(text: str) -> str:
    """`9112 6.1` -> a link."""
    number, _, part = text.partition(" ")
    return f"[RFC {number} {part}](https://www.rfc-editor.org/rfc/rfc{number}#section-{part})"


def _code(raw: bytes) -> str:
    text = repr(raw if len(raw) <= 110 else raw[:80] + b"..." + raw[-20:])[2:-1]
    return "``" + text.replace("|", "\\|") + "``"


def _row(cases: list[Refused]) -> str:
    first = cases[0]
    settings = "".join(f" (`{name} = {value!r}`)" for name, value in first.settings.items())
    return (
        f"| {first.rule}{settings} | {first.status} | {_section(first.section)} | {len(cases)} | {_code(first.raw)} |"
    )


def render() -> str:
    """The page."""
    rules: dict[str, list[Refused]] = {}
    for case in REFUSED:
        rules.setdefault(case.rule, []).append(case)
    return "\n".join(
        [
            INTRODUCTION,
            f"## Refused: {len(REFUSED)} requests by {len(rules)} rules\n",
            "| rule | status | section | requests | the first of them |\n|---|---|---|---|---|",
            *map(_row, rules.values()),
            f"\n## Served: {len(LEGAL)} requests, odd ones chiefly\n",
            "| request | section | raw |\n|---|---|---|",
            *(f"| {case.name} | {_section(case.section)} | {_code(case.raw)} |" for case in LEGAL),
            "",
        ]
    )


def main(arguments: list[str]) -> int:
    page = render()
    if "--check" in arguments:
        return int(not PAGE.exists() or PAGE.read_text() != page)
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
