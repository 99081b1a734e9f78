"""What `scripts/autobahn` makes of the suite's verdicts, and what it says where there is no Python 2.7."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.autobahn import __main__ as command
from tests.autobahn import contestants, results, suite
from tests.autobahn.results import BAD, BEGIN, END, GOOD, GROUPS, LAX, UNOFFERED, UNSURE, Result


def index(**verdicts: str) -> dict[str, dict[str, object]]:
    """`c7_1_5="OK/FAILED"` for the case 7.1.5, its behavior and its behaviorClose."""
    found = {}
    for name, verdict in verdicts.items():
        behavior, _, close = verdict.partition("/")
        found[name[1:].replace("_", ".")] = {"behavior": behavior, "behaviorClose": close or behavior}
    return found


def test_the_worse_of_both_counts() -> None:
    result = results.judge(
        "one",
        "2026-11-20",
        index(
            c1_1_1="OK",
            c1_1_2="INFORMATIONAL/OK",
            c7_1_5="OK/FAILED",
            c7_1_6="NON-STRICT/OK",
            c7_10_1="OK/WRONG CODE",
            c12_1_1="UNIMPLEMENTED",
        ),
    )
    assert result.counts == {"1": {GOOD: 1, UNSURE: 1}, "7": {BAD: 2, LAX: 1}, "12": {UNOFFERED: 1}}
    assert list(result.exceptions) == ["1.1.2", "7.1.5", "7.1.6", "7.10.1"]
    assert not result.clean
    assert results.notes([result]) == "- one, failed: 7.1.5, 7.10.1\n- one, not strict: 7.1.6"


def test_clean() -> None:
    assert results.judge("one", "", index(c1_1_1="OK", c7_1_6="INFORMATIONAL")).clean
    assert not results.judge("one", "", index(c1_1_1="NON-STRICT")).clean
    assert not results.judge("one", "", index(c12_1_1="UNIMPLEMENTED")).clean


def test_the_table_shows_what_was_not_run(tmp_path: Path) -> None:
    part = results.judge("part", "2026-11-20", index(c2_1="OK", c2_2="NON-STRICT"))
    whole = Result("whole", "2026-11-20", {group: {GOOD: size} for group, (_, size) in GROUPS.items()})
    document = tmp_path / "conformance.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        results.write(document, [whole, part])
    lines = document.read_text().splitlines()
    assert "| 2.* | Pings and pongs | 11 OK | 1 OK, 1 not strict (2 of 11 run) |" in lines
    assert "| 6.* | UTF-8 | 145 OK | not run |" in lines
    assert (lines[0], lines[-1], lines.count(BEGIN), "old" in lines) == ("before", "after", 1, False)


def test_results_are_kept(tmp_path: Path) -> None:
    kept = {"one": results.judge("one", "2026-11-20", index(c2_1="OK", c2_2="NON-STRICT"))}
    assert results.load(tmp_path / "none.json") == {}
    results.save(tmp_path / "results.json", kept)
    assert results.load(tmp_path / "results.json") == kept


def test_the_document_shows_what_is_kept(tmp_path: Path) -> None:
    copy = tmp_path / "conformance.md"
    copy.write_text(command.DOCUMENT.read_text())
    results.write(copy, [*results.load(command.RESULTS).values()])
    assert copy.read_text() == command.DOCUMENT.read_text()


def test_palfrey_has_passed_all_of_it() -> None:
    palfrey = results.load(command.RESULTS)["palfrey"]
    assert palfrey.clean
    assert {group: sum(counts.values()) for group, counts in palfrey.counts.items()} == {
        group: size for group, (_, size) in GROUPS.items()
    }


class TestWithoutPython2:
    @pytest.fixture
    def nowhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
        monkeypatch.delenv("PYTHON2", raising=False)

    @pytest.mark.usefixtures("nowhere")
    def test_it_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main([]) == command.NO_PYTHON_2
        assert "there is no Python 2.7 with pip here" in capsys.readouterr().err

    @pytest.mark.usefixtures("nowhere")
    def test_another_python_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "python2").symlink_to(shutil.which("true", path="/usr/bin:/bin") or "/bin/true")
        assert suite.python2({"PYENV_ROOT": str(tmp_path)}) == str(tmp_path / "python2")
        (tmp_path / "python2").unlink()
        (tmp_path / "python2").symlink_to(shutil.which("false", path="/usr/bin:/bin") or "/bin/false")
        with pytest.raises(suite.NotHere):
            suite.python2({"PYENV_ROOT": str(tmp_path)})


class TestSuite:
    """With a stand-in for wstest."""

    @pytest.fixture
    def site(self, tmp_path: Path) -> Path:
        (tmp_path / "bin").mkdir()
        return tmp_path

    def run(self, site: Path, code: str) -> suite.Index:
        head = "import json, os, sys\nspec = json.load(open(sys.argv[4]))\nos.mkdir(spec['outdir'])\n"
        (site / "bin" / "wstest").write_text(head + code)
        return suite.run(sys.executable, site, site, 1, ["7.*"], 1)

    def test_its_index(self, site: Path) -> None:
        code = (
            "print('Ok, will run 1 test cases against 1 servers')\n"
            "index = {server['agent']: {case: spec['servers'][0]['url'] for case in spec['cases']}"
            " for server in spec['servers']}\n"
            "json.dump(index, open(spec['outdir'] + '/index.json', 'w'))\n"
        )
        assert self.run(site, code) == {"7.*": "ws://127.0.0.1:1"}

    def test_cases_that_were_passed_over_are_no_success(self, site: Path) -> None:
        code = "print('will run 37 test cases')\nopen(spec['outdir'] + '/index.json', 'w').write('{}')\n"
        with pytest.raises(RuntimeError, match="only 0 cases were run"):
            self.run(site, code)

    def test_it_fails(self, site: Path) -> None:
        with pytest.raises(RuntimeError, match="ended with status 3"):
            self.run(site, "sys.exit(3)")


def test_a_server_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["hypercorn"])
    assert "known are palfrey, uvicorn, gunicorn, granian" in capsys.readouterr().err


def test_a_server_is_started_asked_and_stopped(tmp_path: Path) -> None:
    with contestants.running("palfrey", tmp_path / "log") as port:
        assert port
    assert (tmp_path / "log").read_text() == ""
