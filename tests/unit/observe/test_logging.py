"""configure(): the look, destinations, levels, user configurations, forks, rotation; and that nothing raises."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from palfrey.errors import ConfigError
from palfrey.observe.logging import ACCESS, ERROR, ROOT, TRACE, LogSetup, configure

PID = os.getpid()
FACTS: Any = SimpleNamespace(
    client=("127.0.0.1", 5000),
    method="GET",
    target=b"/a?b=1",
    http_version="1.1",
    status=200,
    body_bytes=5,
    started=1.0,
    request_id="abc",
    request_headers=[],
    response_headers=[],
)
LINE = 'INFO:     127.0.0.1:5000 - "GET /a?b=1 HTTP/1.1" 200 OK\n'

Setup = Callable[..., LogSetup]


class Recorder(logging.Handler):
    """A user's handler."""

    records: list[logging.LogRecord] = []  # noqa: RUF012 (dictConfig makes the instances)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, ROOT, ERROR, ACCESS)]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    Recorder.records = []
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate
    # `disable_existing_loggers` of the configurations that are tried here hits every other test's logger.
    for other in [*logging.Logger.manager.loggerDict.values(), *loggers]:
        if isinstance(other, logging.Logger):
            other.disabled = False


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    """configure() into files error.log and access.log."""
    made: list[LogSetup] = []

    def make(**options: Any) -> LogSetup:
        options = {"errorlog": str(tmp_path / "error.log"), "accesslog": str(tmp_path / "access.log"), **options}
        logging.getLogger().handlers.clear()  # pytest's, which would count as a user's
        made.append(configure(**options))
        return made[-1]

    yield make
    for logs in made:
        logs.close()


def recorder(*names: str, **more: Any) -> dict[str, Any]:
    """A log_config that sends the named loggers to Recorder."""
    return {
        "version": 1,
        "handlers": {"rec": {"()": Recorder}},
        "loggers": {name: {"handlers": ["rec"], "level": "INFO"} for name in names if name},
        **({"root": {"handlers": ["rec"], "level": "INFO"}} if "" in names else {}),
        **more,
    }


class TestLook:
    def test_a_line_names_level_and_process(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup(process_label="master", level="trace")
        logs.error.info("Listening on %s", "http://127.0.0.1:8000")
        logs.error.critical("bad")
        logs.error.log(TRACE, "fine")
        logging.getLogger("palfrey.anything").warning("below")
        assert (tmp_path / "error.log").read_text().splitlines() == [
            f"INFO:     [master {PID}] Listening on http://127.0.0.1:8000",
            f"CRITICAL: [master {PID}] bad",
            f"TRACE:    [master {PID}] fine",
            f"WARNING:  [master {PID}] below",
        ]

    def test_colours_paint_the_level_alone(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup(use_colors=True)
        logs.error.error("red")
        logs.access.log(FACTS, 2.0)
        assert (tmp_path / "error.log").read_text() == f"\x1b[31mERROR\x1b[0m:    [master {PID}] red\n"
        assert "\x1b[32m200 OK\x1b[0m" in (tmp_path / "access.log").read_text()

    def test_a_traceback_follows_in_the_same_write(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup(process_label="")
        try:
            raise ValueError("boom")
        except ValueError:
            logs.error.exception("Failed\nin two lines", stack_info=True)
        text = (tmp_path / "error.log").read_text()
        assert text.startswith("ERROR:    Failed\nin two lines\nTraceback (most recent call last):\n")
        assert "ValueError: boom\nStack (most recent call last):\n" in text
        assert text.endswith("\n")

    @pytest.mark.parametrize(
        ("environ", "wanted", "painted"),
        [
            ({}, None, True),
            ({"NO_COLOR": "1"}, None, False),
            ({"NO_COLOR": "1"}, True, True),
            ({"NO_COLOR": ""}, None, True),
            ({"TERM": "dumb"}, None, False),
            ({}, False, False),
        ],
    )
    def test_colours_on_a_terminal(
        self, environ: dict[str, str], wanted: bool | None, painted: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import pty

        for name in ("NO_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        ours, theirs = pty.openpty()
        try:
            logs = configure(errorlog=os.ttyname(theirs), accesslog=None, use_colors=wanted)
            logs.error.info("hello")
            assert os.read(ours, 200).startswith(b"\x1b[32mINFO" if painted else b"INFO")
            logs.close()
        finally:
            os.close(ours)
            os.close(theirs)


class TestDestinations:
    def test_standard_streams(self) -> None:
        script = (
            "from palfrey.observe.logging import configure\n"
            "from tests.unit.observe.test_logging import FACTS\n"
            "logs = configure(process_label='')\n"
            "logs.error.info('to stderr'); logs.access.log(FACTS, 2.0); logs.close()\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
        assert (done.stdout, done.stderr) == (LINE, "INFO:     to stderr\n")

    def test_both_logs_in_one_file_share_a_sink(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup(accesslog=str(tmp_path / "error.log"), process_label="")
        logs.access.log(FACTS, 2.0)
        logs.error.info("second")
        assert len(logs.filenos()) == 1
        assert (tmp_path / "error.log").read_text() == LINE + "INFO:     second\n"

    @pytest.mark.parametrize("off", [None, "off", ""])
    def test_off(self, setup: Setup, off: str | None, capfd: pytest.CaptureFixture[str]) -> None:
        logs = setup(accesslog=off, errorlog=off)
        assert not logs.access.enabled
        logs.error.error("nowhere")
        logs.access.log(FACTS, 2.0)
        assert capfd.readouterr() == ("", "")

    def test_access_log_off_opens_nothing(self, setup: Setup, tmp_path: Path) -> None:
        assert not setup(access_log=False).access.enabled
        assert not (tmp_path / "access.log").exists()

    def test_a_path_that_cannot_be_opened(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="errorlog: cannot open"):
            configure(errorlog=str(tmp_path / "no" / "log"))
        with pytest.raises(ConfigError, match="accesslog: cannot open"):
            configure(accesslog=str(tmp_path / "no" / "log"))

    @pytest.mark.parametrize(
        ("level", "accesslog", "enabled"),
        [("info", "-", True), ("warning", "-", False), ("warning", "/dev/stdout", False), ("warning", "file", True)],
    )
    def test_a_level_above_info_silences_access_lines_on_stdout_alone(
        self, setup: Setup, tmp_path: Path, level: str, accesslog: str, enabled: bool
    ) -> None:
        name = str(tmp_path / "access.log") if accesslog == "file" else accesslog
        assert setup(level=level, accesslog=name).access.enabled is enabled

    def test_access_records_do_not_stray_into_the_error_log(self, setup: Setup, tmp_path: Path) -> None:
        setup()
        logging.getLogger(ACCESS).info("by hand")
        assert (tmp_path / "error.log").read_text() == ""

    def test_an_applications_basic_config_does_not_double_lines(self, setup: Setup) -> None:
        logs = setup()
        root = Recorder()
        logging.getLogger().addHandler(root)
        logs.error.info("once")
        assert root.records == []


class TestUserConfiguration:
    @pytest.mark.parametrize("names", [(ERROR, ACCESS), (ROOT,)])
    def test_their_handlers_get_records(self, setup: Setup, tmp_path: Path, names: tuple[str, ...]) -> None:
        logs = setup(log_config=recorder(*names), accesslog="-")
        logs.error.info("hello")
        assert logs.access.enabled
        logs.access.log(FACTS, 2.0)
        assert [record.name for record in Recorder.records] == [ERROR, ACCESS]
        assert Recorder.records[1].args == ("127.0.0.1:5000", "GET", "/a?b=1", "1.1", 200)
        assert Recorder.records[1].getMessage() == '127.0.0.1:5000 - "GET /a?b=1 HTTP/1.1" 200'
        assert (tmp_path / "error.log").read_text() == ""

    def test_a_root_handler_gets_them_unless_a_file_was_named(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup(log_config=recorder(""), accesslog="-")
        logs.access.log(FACTS, 2.0)
        assert len(Recorder.records) == 1
        logs.close()
        logs = setup(log_config=recorder(""))
        logs.access.log(FACTS, 2.0)
        assert len(Recorder.records) == 1
        assert (tmp_path / "access.log").read_text() == LINE

    def test_one_that_does_not_mention_us_leaves_ours(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup(log_config=recorder("uvicorn.error", "uvicorn.access"), process_label="")
        logs.error.info("hello")
        logs.access.log(FACTS, 2.0)
        assert (tmp_path / "error.log").read_text() == "INFO:     hello\n"
        assert (tmp_path / "access.log").read_text() == LINE

    def test_levels_of_theirs_hold(self, setup: Setup) -> None:
        config = recorder(ROOT)
        config["loggers"][ROOT]["level"] = "ERROR"
        logs = setup(log_config=config, level="debug", accesslog="-")
        logs.error.warning("not wanted")
        assert Recorder.records == []
        assert not logs.access.enabled

    def test_a_format_of_ours_makes_the_message(self, setup: Setup) -> None:
        logs = setup(log_config=recorder(ACCESS), access_log_format="%(m)s %(s)s")
        logs.access.log(FACTS, 2.0)
        assert Recorder.records[0].getMessage() == "GET 200"

    def test_handlers_added_by_hand_count_too(self, setup: Setup) -> None:
        logging.getLogger(ACCESS).addHandler(Recorder())
        setup().access.log(FACTS, 2.0)
        assert len(Recorder.records) == 1

    def test_records_carry_more_than_their_arguments(self, setup: Setup) -> None:
        setup(log_config=recorder(ACCESS)).access.log(FACTS, 2.5)
        record = Recorder.records[0]
        names = ("client_addr", "method", "target", "status", "body_bytes", "duration", "request_id")
        found = {name: getattr(record, name) for name in names}
        assert found == dict(zip(names, ("127.0.0.1:5000", "GET", "/a?b=1", 200, 5, 1.5, "abc"), strict=True))

    def test_json_yaml_and_ini(self, setup: Setup, tmp_path: Path) -> None:
        config = recorder(ERROR)
        config["handlers"]["rec"]["()"] = f"{__name__}.Recorder"
        (tmp_path / "log.json").write_text(json.dumps(config))
        (tmp_path / "log.yaml").write_text(json.dumps(config))  # YAML holds JSON
        (tmp_path / "log.ini").write_text(
            "[loggers]\nkeys=root,error\n[handlers]\nkeys=rec\n[formatters]\nkeys=\n"
            "[logger_root]\nhandlers=\n[logger_error]\nqualname=palfrey.error\nhandlers=rec\nlevel=INFO\n"
            f"[handler_rec]\nclass={__name__}.Recorder\nargs=()\n"
        )
        for name in ("log.json", "log.yaml", "log.ini"):
            Recorder.records.clear()
            logs = setup(log_config=str(tmp_path / name))
            logs.error.info("from %s", name)
            assert [record.getMessage() for record in Recorder.records] == [f"from {name}"]

    @pytest.mark.parametrize(
        ("name", "text", "expected"),
        [
            ("a.json", "{", "a.json: Expecting property name"),
            ("a.json", "[]", "holds a list where a mapping is wanted"),
            ("a.json", '{"version": 3}', "Unsupported version: 3"),
            ("a.yaml", "a: [", "while parsing"),
            ("a.ini", "[loggers]\n", "there is no section or key 'formatters'"),
            ("a.json", '{"version": 1, "handlers": {"h": {"class": "no.Such"}}}', "Unable to configure handler 'h'"),
        ],
    )
    def test_what_is_wrong_is_one_line(self, setup: Setup, tmp_path: Path, name: str, text: str, expected: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError) as caught:
            setup(log_config=str(tmp_path / name))
        assert str(caught.value).startswith(f"log_config: {tmp_path / name}: ")
        assert "\n" not in str(caught.value)
        assert expected in str(caught.value) or name == "a.ini"

    def test_a_missing_file(self, setup: Setup) -> None:
        for name in ("/nowhere/a.json", "/nowhere/a.ini"):
            with pytest.raises(ConfigError, match=f"log_config: {name}: No such file or directory"):
                setup(log_config=name)

    def test_yaml_without_pyyaml(self, setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "yaml", None)
        (tmp_path / "log.yaml").write_text("version: 1")
        with pytest.raises(ConfigError, match=r"pip install 'palfrey\[yaml\]'"):
            setup(log_config=str(tmp_path / "log.yaml"))

    def test_a_failed_one_leaves_ours_as_they_were(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup(process_label="")
        with pytest.raises(ConfigError):
            setup(log_config={"version": 1, "handlers": {"h": {"class": "no.Such"}}})
        logs.error.info("still here")
        assert (tmp_path / "error.log").read_text() == "INFO:     still here\n"

    def test_disable_existing_loggers_spares_us(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup(log_config={"version": 1, "disable_existing_loggers": True}, process_label="")
        logs.error.info("hello")
        assert (tmp_path / "error.log").read_text() == "INFO:     hello\n"


class TestApplication:
    """What an application does to our loggers when it is imported."""

    def test_its_handler_gets_records(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup()
        logs.access.log(FACTS, 2.0)
        logging.getLogger(ACCESS).addHandler(Recorder())
        logs.heed_application()
        logs.access.log(FACTS, 2.0)
        assert [record.getMessage() for record in Recorder.records] == ['127.0.0.1:5000 - "GET /a?b=1 HTTP/1.1" 200']
        assert (tmp_path / "access.log").read_text() == LINE

    def test_its_filter_is_asked(self, setup: Setup, tmp_path: Path) -> None:
        asked: list[object] = []

        def probe(record: logging.LogRecord) -> bool:
            assert record.args is not None
            asked.append(record.args[2])  # type: ignore[index]
            return "/health" not in record.getMessage()

        logs = setup()
        logging.getLogger(ACCESS).addFilter(probe)
        try:
            logs.heed_application()
            for target in (b"/health", b"/a?b=1"):
                logs.access.log(SimpleNamespace(**{**vars(FACTS), "target": target}), 2.0)
        finally:
            logging.getLogger(ACCESS).removeFilter(probe)
        assert asked == ["/health", "/a?b=1"]
        assert (tmp_path / "access.log").read_text() == LINE
        logs.heed_application()
        logs.access.log(FACTS, 2.0)
        assert len(asked) == 2

    def test_a_filter_that_fails_loses_no_line(self, setup: Setup, tmp_path: Path) -> None:
        def broken(record: logging.LogRecord) -> bool:
            raise KeyError("path")

        logs = setup()
        logging.getLogger(ACCESS).addFilter(broken)
        try:
            logs.heed_application()
            logs.access.log(FACTS, 2.0)
        finally:
            logging.getLogger(ACCESS).removeFilter(broken)
        assert logs.access.failures == 1
        assert (tmp_path / "access.log").read_text() == LINE

    def test_its_level_holds(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup()
        logging.getLogger(ACCESS).setLevel("WARNING")
        logs.heed_application()
        assert not logs.access.enabled

    def test_its_dict_config_does_not_silence_us(self, setup: Setup, tmp_path: Path) -> None:
        import logging.config

        logs = setup(process_label="")
        logging.config.dictConfig({"version": 1})
        assert logs.error.disabled
        logs.heed_application()
        logs.error.info("hello")
        logs.access.log(FACTS, 2.0)
        assert (tmp_path / "error.log").read_text() == "INFO:     hello\n"
        assert (tmp_path / "access.log").read_text() == LINE

    def test_lines_that_wait_are_not_lost(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup()
        logs.attach(lambda delay, callback: None)
        logs.access.log(FACTS, 2.0)
        logs.heed_application()
        assert (tmp_path / "access.log").read_text() == LINE

    def test_without_an_access_log_there_stays_none(self, setup: Setup) -> None:
        logs = setup(access_log=False)
        logging.getLogger(ACCESS).addHandler(Recorder())
        logs.heed_application()
        assert not logs.access.enabled


class TestLife:
    def test_configuring_again_replaces(self, setup: Setup, tmp_path: Path) -> None:
        setup(log_config=recorder(ERROR, ACCESS)).close()
        first = setup(process_label="")
        second = setup(process_label="", level="error")
        first.close()
        second.error.info("too low")
        second.error.error("once")
        assert (tmp_path / "error.log").read_text() == "ERROR:    once\n"
        assert Recorder.records == []

    def test_after_fork_names_the_child(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup()
        logs.after_fork("worker 1")
        logs.error.info("ready")
        assert (tmp_path / "error.log").read_text() == f"INFO:     [worker 1 {PID}] ready\n"

    def test_after_daemonize_files_stay_what_they_are(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup()
        logs.after_daemonize("master")
        logs.error.info("here")
        assert (tmp_path / "error.log").read_text() == f"INFO:     [master {PID}] here\n"

    def test_where_stacks_are_dumped(self, setup: Setup, tmp_path: Path) -> None:
        assert os.fstat(setup().error_fileno()).st_ino == (tmp_path / "error.log").stat().st_ino
        assert setup(errorlog="off").error_fileno() == 2

    def test_batches_survive_rotation_and_the_end(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup(process_label="")
        timers: list[Callable[[], None]] = []
        logs.attach(lambda delay, callback: timers.append(callback))
        logs.access.log(FACTS, 2.0)
        logs.access.log(FACTS, 2.0)
        assert len(timers) == 1
        assert (tmp_path / "access.log").read_text() == ""
        (tmp_path / "access.log").rename(tmp_path / "access.log.1")
        assert logs.reopen()
        assert (tmp_path / "access.log.1").read_text() == LINE * 2
        logs.access.log(FACTS, 2.0)
        logs.close()
        assert (tmp_path / "access.log").read_text() == LINE

    def test_detached_lines_are_written_at_once(self, setup: Setup, tmp_path: Path) -> None:
        logs = setup()
        logs.attach(lambda delay, callback: None)
        logs.access.log(FACTS, 2.0)
        logs.detach()
        logs.access.log(FACTS, 2.0)
        assert (tmp_path / "access.log").read_text() == LINE * 2
        assert not logs.flush()

    def test_a_reopen_that_fails_is_logged(self, setup: Setup, tmp_path: Path) -> None:
        folder = tmp_path / "logs"
        folder.mkdir()
        logs = setup(accesslog=str(folder / "access.log"))
        folder.rename(tmp_path / "gone")
        assert not logs.reopen()
        logs.access.log(FACTS, 2.0)
        assert "not reopened, the old one is still in use: accesslog:" in (tmp_path / "error.log").read_text()
        assert (tmp_path / "gone" / "access.log").read_text() == LINE

    def test_reopen_takes_the_users_files_along(self, setup: Setup, tmp_path: Path) -> None:
        path = tmp_path / "theirs.log"
        handler = {"class": "logging.FileHandler", "filename": str(path), "mode": "w", "encoding": "utf-8"}
        logs = setup(
            log_config={
                "version": 1,
                "handlers": {"file": handler},
                "loggers": {ERROR: {"handlers": ["file"], "level": "INFO"}},
            }
        )
        logs.error.info("one")
        path.rename(tmp_path / "theirs.log.1")
        logs.reopen()
        logs.error.info("two")
        assert (path.read_text(), (tmp_path / "theirs.log.1").read_text()) == ("two\n", "one\n")
        for user in logging.getLogger(ERROR).handlers:
            user.close()

    def test_nothing_raises(self, setup: Setup, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        class Rude:
            def __str__(self) -> str:
                raise RuntimeError("no text")

        logs = setup(process_label="")
        logs.error.info("%d things", "many")
        logs.error.info("%s", Rude())
        logs.error.info("\udc80 \u20ac")
        logs.close()
        logs.error.info("after the end")
        lines = (tmp_path / "error.log").read_text().splitlines()
        assert lines[0].startswith("INFO:     %d things (could not be filled with ('many',)")
        assert lines[-1] == "INFO:     \\udc80 \u20ac"
        assert capfd.readouterr() == ("", "")

    def test_no_event_loop_is_imported(self) -> None:
        script = "import sys, palfrey.observe.logging; sys.exit('asyncio' in sys.modules)"
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_closing_the_last_setup_leaves_the_loggers_as_they_were(tmp_path: Path) -> None:
    root = logging.getLogger("palfrey")
    root.propagate, root.level = True, logging.NOTSET
    first = configure(level="debug", errorlog=str(tmp_path / "one"), access_log=False)
    second = configure(level="debug", errorlog=str(tmp_path / "two"), access_log=False)
    first.close()
    assert not root.propagate
    second.close()
    assert root.propagate
    assert root.level == logging.NOTSET
