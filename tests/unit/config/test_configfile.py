"""The configuration file: what is a setting, what is the user's own, and how their mistakes are told."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palfrey.config import configfile
from palfrey.config.configfile import ConfigFile, Notice, near
from palfrey.errors import ConfigError

Read = Callable[..., ConfigFile]


@pytest.fixture(autouse=True)
def own_import_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """sys.path and the modules that tests import are put back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files change within a second here
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes palfrey.conf.py and reads it."""

    def read_(text: str) -> ConfigFile:
        (tmp_path / "palfrey.conf.py").write_text(textwrap.dedent(text), encoding="utf-8")
        found = configfile.read(None, str(tmp_path))
        assert found is not None
        return found

    return read_


def messages(file: ConfigFile) -> list[str]:
    return [notice.message for notice in file.notices]


def test_without_a_file_there_is_none(tmp_path: Path) -> None:
    assert configfile.read(None, str(tmp_path)) is None


def test_settings_have_their_lines(read: Read) -> None:
    file = read("""\
        import os
        if os.sep:
            workers = 3
        bind = [
            "127.0.0.1:8000",
        ]
        for port in (1, 2):
            pass
        def when_ready(server):
            host = "not a setting"
        with open(os.devnull) as _null:
            (app, factory) = ("main:app", True)
        """)
    assert {name: (each.value, each.line) for name, each in file.assigned.items() if name != "when_ready"} == {
        "workers": (3, 3),
        "bind": (["127.0.0.1:8000"], 4),
        "port": (2, 7),
        "app": ("main:app", 12),
        "factory": (True, 12),
    }
    assert file.assigned["when_ready"].line == 9
    assert file.notices == ()


def test_aliases_are_the_settings_they_stand_for(read: Read) -> None:
    file = read("keepalive = 2\nwsgi_app = 'main:app'\n")
    assert file.assigned["timeout_keep_alive"].written == "keepalive"
    assert file.assigned["app"].value == "main:app"


def test_one_setting_under_two_names_is_refused(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"palfrey\.conf\.py, line 2: timeout_keep_alive and keepalive are the same"):
        read("keepalive = 2\ntimeout_keep_alive = 5\n")


def test_an_alias_that_says_nothing_does_not_collide(read: Read) -> None:
    assert read("logconfig = None\nlogconfig_dict = {'version': 1}\n").assigned["log_config"].value == {"version": 1}
    assert read("logconfig_dict = {'version': 1}\nlogconfig = None\n").assigned["log_config"].value == {"version": 1}


def test_the_users_own_names_are_left_alone(read: Read) -> None:
    file = read("""\
        import http
        import socket as bind
        from pathlib import Path as host
        _worker = 4
        CORES = 4
        WORKERS = 4
        __version__ = "1"
        here = host(__file__).parent
        def umask(): ...
        def cores(): ...
        class Workers: ...
        """)
    assert file.assigned == {}
    assert file.notices == ()


def test_a_callable_that_is_assigned_to_a_setting_is_meant_for_it(read: Read) -> None:
    """`workers = cpu_count`, without the call, must not pass in silence."""
    assert callable(read("from os import cpu_count\nworkers = cpu_count\n").assigned["workers"].value)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("worker = 2", "workers"),
        ("workres = 2", "workers"),
        ("keep_alive = 2", "keepalive"),
        ("error_log = '-'", "errorlog"),
        ("max_request = 5", "max_requests"),
        ("Workers = 2", "workers"),
        ("def when_raedy(server): ...", "when_ready"),
        ("def onreload(server): ...", "on_reload"),
    ],
)
def test_a_near_miss_names_the_right_one(read: Read, line: str, meant: str) -> None:
    name = line.removeprefix("def ").replace("(", " ").split()[0]
    message = f"palfrey.conf.py, line 2: {name} is not a setting: did you mean {meant}?"
    assert read(f"# first\n{line}\n").notices == (Notice(message, mistake=True),)


def test_a_plain_value_without_effect_is_named_once(read: Read) -> None:
    file = read("cores = 4\nworkers = cores * 2\n")
    assert [notice.mistake for notice in file.notices] == [False]
    assert messages(file)[0].startswith("palfrey.conf.py, line 1: cores has no effect")


def test_names_of_other_servers_give_a_reason(read: Read) -> None:
    file = read("reuse_port = True\ndef post_request(worker, req): ...\n")
    assert messages(file)[0].startswith("palfrey.conf.py, line 1: reuse_port has no effect: ")
    assert messages(file)[1].startswith("palfrey.conf.py, line 2: post_request has no effect: ")


def test_near_is_silent_about_what_is_far() -> None:
    assert near("workers_per_core") is None
    assert near("database") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers = 1\nworkers = = 2\n", "palfrey.conf.py, line 2: SyntaxError: invalid syntax"),
        ("x_ = 1\n\nworkers = nonsense\n", "palfrey.conf.py, line 3: NameError: name 'nonsense' is not defined"),
        ("def f_():\n    1 / 0\n\n\nf_()\n", "palfrey.conf.py, line 2: ZeroDivisionError: division by zero"),
        (
            "import no_such_module_here",
            "palfrey.conf.py, line 1: ModuleNotFoundError: No module named 'no_such_module_here'",
        ),
        ("raise SystemExit('stop')", "palfrey.conf.py, line 1: SystemExit: stop"),
        ("\0", "palfrey.conf.py"),
        ("# -*- coding: nonsense -*-", "palfrey.conf.py"),
    ],
)
def test_the_users_mistakes_are_one_line(read: Read, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(text)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_ctrl_c_is_not_the_users_mistake(read: Read) -> None:
    with pytest.raises(KeyboardInterrupt):
        read("raise KeyboardInterrupt")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^configuration file missing\.py: No such file or directory$"):
        configfile.read("missing.py", str(tmp_path))
    with pytest.raises(ConfigError, match="Is a directory"):
        configfile.read(".", str(tmp_path))
    (tmp_path / "palfrey.conf.py").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=r"palfrey\.conf\.py: No such file"):
        configfile.read(None, str(tmp_path))


def test_a_file_is_named_by_path_with_or_without_file(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/a.py").write_text("workers = 2")
    for named in ("conf/a.py", "file:conf/a.py", str(tmp_path / "conf/a.py")):
        found = configfile.read(named, str(tmp_path))
        assert found is not None
        assert found.assigned["workers"].value == 2
        assert found.label == named.removeprefix("file:")


def test_neighbours_can_be_imported_and_are_read_anew(read: Read, tmp_path: Path) -> None:
    """What the file imported must not reach the workers of the next generation through sys.modules."""
    for count in (1, 2):
        (tmp_path / "palfrey_test_neighbour.py").write_text(f"COUNT = {count}\n")
        file = read("import palfrey_test_neighbour\nworkers = palfrey_test_neighbour.COUNT\n")
        assert file.assigned["workers"].value == count
        assert count == sys.modules["palfrey_test_neighbour"].COUNT
    with pytest.raises(ConfigError):
        read("import palfrey_test_neighbour\npalfrey_test_neighbour.COUNT = 3\nnonsense")
    assert sys.modules["palfrey_test_neighbour"].COUNT == 2, "a reload that fails leaves what is in use"
    read("")
    assert "palfrey_test_neighbour" not in sys.modules
    assert sys.path[-1] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1


def test_hooks_can_import_neighbours_later(read: Read, tmp_path: Path) -> None:
    (tmp_path / "palfrey_test_late.py").write_text("SEEN = 1\n")
    hook = read("def on_exit(server):\n    import palfrey_test_late\n    return palfrey_test_late.SEEN\n")
    assert hook.assigned["on_exit"].value(None) == 1  # type: ignore[operator]


def test_the_file_may_change_sys_path_itself(read: Read) -> None:
    read("import sys\nsys.path.insert(0, '/palfrey/test/vendored')\n")
    assert sys.path[0] == "/palfrey/test/vendored"


def test_the_file_may_define_dataclasses(read: Read) -> None:
    file = read("""\
        from __future__ import annotations
        from dataclasses import dataclass
        @dataclass
        class Choice:
            workers: int = 4
        workers = Choice().workers
        """)
    assert file.assigned["workers"].value == 4


def test_a_module_is_a_configuration_too(tmp_path: Path) -> None:
    for count in (1, 2):
        (tmp_path / "palfrey_test_deploy.py").write_text(f"# a comment\nworkers = {count}\nworker = 1\n")
        file = configfile.read("python:palfrey_test_deploy", str(tmp_path))
        assert file is not None
        assert (file.assigned["workers"].value, file.assigned["workers"].line) == (count, 2)
        assert messages(file) == ["python:palfrey_test_deploy, line 3: worker is not a setting: did you mean workers?"]


def test_a_module_that_does_not_exist_or_fails(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^configuration python:palfrey_test_no: there is no module palfrey_test_no$"
    ):
        configfile.read("python:palfrey_test_no", str(tmp_path))
    (tmp_path / "palfrey_test_bad.py").write_text("\nimport palfrey_test_missing\n")
    with pytest.raises(ConfigError, match=r"palfrey_test_bad\.py, line 2\): ModuleNotFoundError: No module named"):
        configfile.read("python:palfrey_test_bad", str(tmp_path))


def test_a_module_without_source_has_no_lines() -> None:
    file = configfile.read("python:math", "/")
    assert file is not None
    assert {message.split(" has no effect")[0] for message in messages(file)} >= {"python:math: pi", "python:math: tau"}
