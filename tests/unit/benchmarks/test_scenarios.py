"""The table of scenarios holds together, and one short round of one of them works."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.load import SCRIPTS
from benchmarks.results import Round
from benchmarks.running import Plan, measure
from benchmarks.scenarios import BROWSER, GROUPS, HTTP2_TLS, SCENARIOS
from benchmarks.servers import APPS, CONTESTANTS, Wanted


def test_contestants_applications_and_figures_exist() -> None:
    for scenario in SCENARIOS.values():
        assert set(scenario.contestants) <= set(CONTESTANTS)
        assert scenario.contestants[0] == "palfrey"
        assert (APPS / f"{scenario.app.partition(':')[0]}.py").exists()
        assert scenario.group in GROUPS


def test_a_websocket_scenario_has_a_message_and_a_request_has_none() -> None:
    assert SCENARIOS["ws-broadcast"].message.broadcast
    with pytest.raises(ValueError, match="hello has no WebSockets"):
        _ = SCENARIOS["hello"].message


def test_a_browser_sends_fifteen_fields() -> None:
    assert len(BROWSER) + len(["Host"]) == 15


def test_the_load_script_sends_what_the_scenario_says() -> None:
    length = re.search(r'string\.rep\("x", (\d+)\)', (SCRIPTS / "post.lua").read_text())
    assert length is not None
    assert b"x" * int(length[1]) == SCENARIOS["echo-10k"].content


def test_http2_is_measured_in_each_shape() -> None:
    names = [name for name in SCENARIOS if name.startswith("h2-hello-")]
    assert names == ["h2-hello-8x16", "h2-hello-64x1", "h2-hello-8x16-tls", "h2-hello-64x1-tls"]
    assert [SCENARIOS[name].title for name in names][1:3] == [
        "HTTP/2, hello, 64 x 1 stream",
        "HTTP/2, hello, 8 x 16 streams, TLS",
    ]
    assert all(SCENARIOS[name].tls == name.endswith("-tls") == (SCENARIOS[name].group == HTTP2_TLS) for name in names)
    with pytest.raises(ValueError, match="hello is not of HTTP/2"):
        _ = SCENARIOS["hello"].streams


@pytest.mark.parametrize("name", ["h2-hello-8x16", "h2-echo-10k-64x1-tls"])
def test_who_is_told_to_speak_http2(name: str, tmp_path: Path) -> None:
    wanted = Wanted(SCENARIOS[name], 1, tmp_path)
    for each, word in {"palfrey": "h2", "granian": "2", "gunicorn": "h2,h1"}.items():
        assert word in CONTESTANTS[each].command(wanted)
        assert word not in CONTESTANTS[each].command(replace(wanted, scenario=SCENARIOS["hello"]))


@pytest.mark.skipif(shutil.which("cc") is None or sys.platform != "linux", reason="wsload.c needs cc and epoll")
@pytest.mark.parametrize("name", ["ws-broadcast", "ws-deflate", "ws-echo-64k"])
def test_one_second_of_websockets(name: str, tmp_path: Path) -> None:
    done: list[Round] = []
    plan = Plan(rounds=1, seconds=1, connections=2, cores=(None, None))
    measure(SCENARIOS[name], ["palfrey"], plan, tmp_path, done.append)
    assert [(each.server, each.errors) for each in done] == [("palfrey", 0)]
    assert done[0].requests > 0


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_one_second_of_one_scenario(tmp_path: Path) -> None:
    done: list[Round] = []
    plan = Plan(rounds=1, seconds=1, connections=2, cores=(None, None))
    measure(SCENARIOS["hello-log"], ["palfrey"], plan, tmp_path, done.append)
    assert [(each.server, each.errors) for each in done] == [("palfrey", 0)]
    assert done[0].requests > 0
    assert done[0].log_lines == pytest.approx(1, abs=0.05)


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load (nghttp2-client) is not installed")
@pytest.mark.parametrize("name", ["h2-varied-64x1", "h2-echo-10k-8x16-tls"])
def test_one_second_of_http2(name: str, tmp_path: Path) -> None:
    done: list[Round] = []
    plan = Plan(rounds=1, seconds=1, connections=2, cores=(None, None))
    measure(SCENARIOS[name], ["palfrey"], plan, tmp_path, done.append)
    assert [(each.server, each.errors) for each in done] == [("palfrey", 0)]
    assert done[0].requests > 0
    assert 0 < done[0].p50 <= done[0].p99


@pytest.mark.parametrize(("name", "threads"), [("wsgi", "0"), ("wsgi-threads", "4")])
def test_who_is_told_that_the_application_is_wsgi(name: str, threads: str, tmp_path: Path) -> None:
    wanted = Wanted(SCENARIOS[name], 1, tmp_path)
    assert f"--threads {threads}" in " ".join(CONTESTANTS["palfrey"].command(wanted))
    assert "--interface wsgi" in " ".join(CONTESTANTS["granian"].command(wanted))
    assert f"--threads {threads}" in " ".join(CONTESTANTS["gthread"].command(wanted))
    asgi = replace(wanted, scenario=SCENARIOS["hello"])
    assert "--threads" not in CONTESTANTS["palfrey"].command(asgi)
    assert "--interface asgi" in " ".join(CONTESTANTS["granian"].command(asgi))
