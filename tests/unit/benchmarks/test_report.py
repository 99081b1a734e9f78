"""The page and its figures, made from made-up runs."""

from pathlib import Path
from xml.etree import ElementTree

from benchmarks.plot import LENGTH, NAMES, Bar, Block, figure
from benchmarks.report import write

from .made import made_round, made_run

SVG = "{http://www.w3.org/2000/svg}"


def test_the_page_has_targets_figures_and_every_flag(tmp_path: Path) -> None:
    old = made_run(made_round(rate=150), made_round(server="uvicorn", rate=100), python="3.11")
    new = made_run(made_round(rate=190), made_round(server="uvicorn", rate=100, errors=5, p99=1.0))
    paths = write({"3.11": old, "3.13": new}, tmp_path)
    assert [path.name for path in paths] == ["benchmarks.md", "plain.svg"]
    page = paths[0].read_text()
    assert "| scenario | target | Python 3.11 | Python 3.13 |" in page
    missed = "**missed**: 1.50 (1.50 to 1.50), 1.00 by processor time"
    met = "met: 1.90 (1.90 to 1.90), 1.00 by processor time"
    assert f"| hello, log off | ≥ 1.8 × uvicorn | {missed} | {met} |" in page
    assert "**missed**: 2.00 ms, uvicorn 1.00 ms" in page
    assert "5 errors in 1 of 1 rounds" in page
    assert "![Hello, world: 13 bytes, 64 keep-alive connections](benchmarks/plain.svg)" in page
    assert "Abacus (2 cores), Linux 6, CPython 3.13.0, palfrey 0.1.0, uvicorn 0.54.0." in page
    assert "shared" not in page


def test_the_page_says_when_the_machine_was_shared(tmp_path: Path) -> None:
    write({"3.13": made_run(made_round(others=0.5), made_round(server="uvicorn"))}, tmp_path)
    assert "**The machine was shared while this was measured**: in 50% of all rounds" in (
        (tmp_path / "benchmarks.md").read_text()
    )


def test_bars_are_as_long_as_their_rates_and_labelled_with_ratios() -> None:
    bars = (Bar("Palfrey", 50, 40, 100, ours=True), Bar("slow & old", 25, 20, 30), Bar("dead", 0, 0, 0))
    document = ElementTree.fromstring(figure("A figure", "foot", [Block("<hello>", bars)]))
    lengths = [
        float(each.attrib["width"]) for each in document.iter(f"{SVG}rect") if each.attrib.get("x") == str(NAMES)
    ]
    assert lengths == [LENGTH / 2, LENGTH / 4, 0]
    texts = [each.text for each in document.iter(f"{SVG}text")]
    assert texts == [
        *("A figure", "<hello>", "Palfrey", "1.00 · 50/s", "slow & old", "0.50 · 25/s", "dead", "no response", "foot"),
    ]
