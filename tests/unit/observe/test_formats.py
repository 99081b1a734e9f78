"""Formats: uvicorn's look, combined, JSON, every atom, and that no request can forge a line."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palfrey.errors import ConfigError
from palfrey.observe import facts as module
from palfrey.observe.atoms import ATOMS, compile_format
from palfrey.observe.facts import MEMO_ENTRIES, MEMO_LENGTH, Counts, WebSocketFacts, escape, fields_of, time_stamp
from palfrey.observe.formats import COMBINED, combined_line, json_line, line_for, uvicorn_line, websocket_line
from tests.support.facts import facts


class TestUvicornLook:
    line = staticmethod(uvicorn_line())

    def test_default(self) -> None:
        assert self.line(facts(), 11.0) == 'INFO:     127.0.0.1:53412 - "GET /path?query HTTP/1.1" 200 OK'

    @pytest.mark.parametrize(
        ("client", "text"),
        [
            (None, "-"),
            (("::1", 80), "[::1]:80"),
            (("/run/client.sock", None), "/run/client.sock"),
            (("", None), "unix"),
            (("ev\nil", 1), r"ev\x0ail:1"),
        ],
    )
    def test_clients(self, client: object, text: str) -> None:
        assert self.line(facts(client=client), 0.0).startswith(f'INFO:     {text} - "GET')

    @pytest.mark.parametrize(("status", "text"), [(404, "404 Not Found"), (299, "299"), (999, "999")])
    def test_statuses(self, status: int, text: str) -> None:
        assert self.line(facts(status=status, http_version="2"), 0.0).endswith(f' HTTP/2" {text}')

    @pytest.mark.parametrize(("status", "color"), [(200, 32), (304, 33), (404, 31), (500, 91), (101, 97), (999, 0)])
    def test_colours(self, status: int, color: int) -> None:
        text = uvicorn_line(colors=True)(facts(status=status), 0.0)
        assert text.startswith('\x1b[32mINFO\x1b[0m:     127.0.0.1:53412 - "\x1b[1mGET /path?query HTTP/1.1\x1b[0m" ')
        assert text.endswith("\x1b[0m")
        assert f'" \x1b[{color}m{status}' in text

    def test_caches_are_bounded(self) -> None:
        line = uvicorn_line()
        memos = [cell.cell_contents for cell in line.__closure__ or () if isinstance(cell.cell_contents, dict)]
        assert len(memos) == 3
        for number in range(3 * MEMO_ENTRIES):
            line(facts(client=("10.0.0.1", number), method=f"M{number}", status=number), 0.0)
            line(facts(client=("h" * 5000, number)), 0.0)
        assert all(0 < len(memo) <= MEMO_ENTRIES for memo in memos)
        assert all(len(text) <= MEMO_LENGTH for memo in memos for text in memo.values())


class TestAtoms:
    @pytest.mark.parametrize(
        ("atom", "text"),
        [
            ("h", "127.0.0.1"),
            ("l", "-"),
            ("u", "-"),
            ("r", "GET /path?query HTTP/1.1"),
            ("m", "GET"),
            ("U", "/path"),
            ("q", "query"),
            ("H", "HTTP/1.1"),
            ("s", "200"),
            ("B", "13"),
            ("b", "13"),
            ("f", "http://a/"),
            ("a", "curl/8"),
            ("T", "1"),
            ("M", "1234"),
            ("D", "1234567"),
            ("L", "1.234567"),
            pytest.param("p", f"<{os.getpid()}>", id="p"),
            ("{Host}i", "example.org"),
            ("{x-none}i", "-"),
            ("{content-type}o", "text/plain"),
            ("{X-One}o", "1"),
            ("{x-none}o", "-"),
            ("{PALFREY_TEST}e", "value"),
            ("{PALFREY_NONE}e", "-"),
            ("request_id", "-"),
            ("{REMOTE_ADDR}e", "127.0.0.1"),
            ("{HTTP_USER_AGENT}e", "curl/8"),
        ],
    )
    def test_each(self, atom: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        line = compile_format(f"<%({atom})s>")
        monkeypatch.setenv("PALFREY_TEST", "value")  # after compiling: a worker's environment is completed later
        assert line(facts(), 11.2345674) == f"<{text}>"

    def test_time_stamp(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "UTC-2")
        time.tzset()
        try:
            monkeypatch.setattr(time, "time", lambda: 1_795_156_800.9)
            stamp = time_stamp()
            assert [stamp() for _ in range(2)] == ["[20/Nov/2026:08:40:00 +0200]"] * 2
            monkeypatch.setattr(time, "time", lambda: 1_795_156_801.0)
            assert stamp() == "[20/Nov/2026:08:40:01 +0200]"
        finally:
            monkeypatch.undo()
            time.tzset()

    @pytest.mark.parametrize(
        ("credentials", "user"),
        [
            (b"Basic " + base64.b64encode(b"ann:secret"), "ann"),
            (b"basic " + base64.b64encode(b'a"\n:x'), r"a\x22\x0a"),
            (b"Basic " + base64.b64encode(b":x"), "-"),
            (b"Basic !!!", "-"),
            (b"Basic", "-"),
            (b"Bearer " + base64.b64encode(b"ann:secret"), "-"),
        ],
    )
    def test_user(self, credentials: bytes, user: str) -> None:
        login = facts(request_headers=[(b"authorization", credentials)])
        assert compile_format("%(u)s")(login, 0.0) == user
        assert f" - {user} [" in combined_line()(login, 0.0)

    def test_the_rest(self) -> None:
        assert ATOMS["b"](facts(body_bytes=0), 0.0, {}) == "-"
        assert ATOMS["B"](facts(body_bytes=0), 0.0, {}) == "0"
        assert ATOMS["h"](facts(client=None), 0.0, {}) == "-"
        assert ATOMS["h"](facts(client=("", None)), 0.0, {}) == "-"
        assert ATOMS["q"](facts(target=b"/"), 0.0, {}) == ""
        assert ATOMS["D"](facts(), 9.0, {}) == "0"
        assert ATOMS["request_id"](facts(request_id="abc"), 9.0, {}) == "abc"
        twice = facts(request_headers=[(b"x-forwarded-for", b"a"), (b"x-forwarded-for", b"b")])
        assert compile_format("%({x-forwarded-for}i)s")(twice, 0.0) == "a, b"

    def test_literals_and_widths(self) -> None:
        assert compile_format("100%% é %(s)5s|%(m)-5s|%(r).3s")(facts(), 0.0) == "100% é   200|GET  |GET"
        assert compile_format("plain %%")(facts(), 0.0) == "plain %"

    def test_fields_are_joined(self) -> None:
        assert fields_of([(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"a", b"")]) == {b"a": b"1, 3, ", b"b": b"2"}
        assert fields_of([]) == {}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("%(x)s", r"there is no atom %\(x\)s; known are %\(h\)s %\(l\)s"),
            ("%({name}x)s", r"there is no atom %\({name}x\)s"),
            ("%({}i)s", "there is no atom"),
            ("%(s)d", r"%\(s\)d has to end in s: write %\(s\)s"),
            ("%(s)", "has to end in s"),
            ("100%", "a lone % at character 4"),
            ("%(s", "a lone % at character 1"),
        ],
    )
    def test_what_is_no_format(self, text: str, message: str) -> None:
        with pytest.raises(ConfigError, match=f"^access_log_format: .*{message}") as caught:
            compile_format(text)
        assert "\n" not in str(caught.value)


class TestNamed:
    def test_names_and_other_formats(self) -> None:
        assert line_for("uvicorn")(facts(), 0.0) == uvicorn_line()(facts(), 0.0)
        assert line_for("%(m)s")(facts(), 0.0) == "GET"
        assert json.loads(line_for("json")(facts(), 0.0))["status"] == 200
        with pytest.raises(
            ConfigError, match=r"^access_log_format: there is no format 'jason'; known are uvicorn, combined"
        ):
            line_for("jason")
        with pytest.raises(ConfigError, match=r"^access_log_format: there is no atom"):
            line_for("%(x)s")

    def test_combined(self) -> None:
        pattern = r'^127\.0\.0\.1 - - \[[^]]+\] "GET /path\?query HTTP/1\.1" 200 13 "http://a/" "curl/8"$'
        for line in (line_for("combined"), line_for(COMBINED), compile_format(COMBINED)):
            assert re.match(pattern, line(facts(), 0.0))

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"client": None, "body_bytes": 0, "request_headers": []},
            {"client": ("", None), "target": b'/\xff"', "status": 999, "http_version": "2"},
            {"request_headers": [(b"user-agent", b"a"), (b"user-agent", b""), (b"referer", b"")]},
        ],
    )
    def test_combined_is_what_its_atoms_say(self, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module.time, "time", lambda: 1_795_156_800.9)
        assert combined_line()(facts(**changes), 11.0) == compile_format(COMBINED)(facts(**changes), 11.0)

    def test_json(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time", lambda: 1_795_156_800.9876)
        assert json.loads(json_line()(facts(request_id="abc"), 11.2345674)) == {
            "time": "2026-11-20T06:40:00.987Z",
            "client": "127.0.0.1",
            "client_port": 53412,
            "method": "GET",
            "target": "/path?query",
            "version": "1.1",
            "status": 200,
            "bytes": 13,
            "duration": 1.234567,
            "request_id": "abc",
            "host": "example.org",
            "referer": "http://a/",
            "user_agent": "curl/8",
        }

    def test_json_of_nothing(self) -> None:
        found = json.loads(json_line()(facts(client=None, request_headers=[]), 9.0))
        assert {name for name, value in found.items() if value is None} == {
            *("client", "client_port", "request_id", "host", "referer", "user_agent")
        }
        assert found["duration"] == 0
        assert json.loads(json_line()(facts(client=("/run/c.sock", None)), 9.0))["client"] == "/run/c.sock"

    def test_json_shows_utf8_and_escapes_other_bytes(self) -> None:
        found = json.loads(json_line()(facts(request_headers=[(b"user-agent", "é".encode() + b"\xff")]), 9.0))
        assert found["user_agent"] == "é\\xff"


class TestWebSockets:
    """One that is over has its handshake's line, and what went over it."""

    over = WebSocketFacts(facts(status=101, body_bytes=0), Counts(3, 5, 120, 300, 1001))

    @pytest.mark.parametrize(
        ("style", "ends"),
        [
            (
                "uvicorn",
                '1" 101 Switching Protocols - 1.235 s, messages in 3 (120 bytes), out 5 (300 bytes), closed with 1001',
            ),
            ("combined", ' "curl/8" "1.235 s, messages in 3 (120 bytes), out 5 (300 bytes), closed with 1001"'),
            ("%(messages_in)s %(messages_out)s %(bytes_in)s %(B)s %(close_code)s %(D)s", "3 5 120 300 1001 1234567"),
        ],
    )
    def test_text(self, style: str, ends: str) -> None:
        line = websocket_line(style, line_for(style))(self.over, 11.234567)
        assert line.startswith(line_for(style)(self.over, 11.234567))
        assert line.endswith(ends)

    def test_json(self) -> None:
        line = json.loads(websocket_line("json", json_line())(self.over, 11.234567))
        added = {"messages_in": 3, "messages_out": 5, "bytes_in": 120, "close_code": 1001}
        assert line == json.loads(json_line()(self.over, 11.234567)) | added | {"time": line["time"]}
        assert (line["status"], line["bytes"], line["duration"]) == (101, 300, 1.234567)

    def test_atoms_of_other_requests(self) -> None:
        assert compile_format("%(messages_in)s %(close_code)s")(facts(), 11.0) == "- -"

    def test_a_combined_format_in_atoms_has_what_the_user_wants(self) -> None:
        assert websocket_line(COMBINED, line_for(COMBINED))(self.over, 11.0).endswith('101 300 "http://a/" "curl/8"')


BYTES = st.binary(max_size=60) | st.sampled_from(
    [b"\r\nINFO:     forged", b'" 200 OK\n', b"\x1b[2J", b"\\x0a", b"\xff"]
)
TEXT = st.text(max_size=30) | st.sampled_from(["\n", "\u2028", "\x85", '"', "\ud800"])


class TestInjection:
    @settings(deadline=None)  # a busy machine is no failure
    @given(target=BYTES, value=BYTES, method=TEXT, host=TEXT, version=TEXT)
    def test_a_request_is_one_line_of_printable_ascii(
        self, target: bytes, value: bytes, method: str, host: str, version: str
    ) -> None:
        headers = [(b"referer", value), (b"user-agent", value), (b"x", value), (b"authorization", b"Basic " + value)]
        evil = facts(
            target=target,
            method=method,
            client=(host, 1),
            http_version=version,
            request_headers=headers,
            response_headers=[(b"x", value)],
        )
        atoms = compile_format(COMBINED + '"%(U)s" "%(q)s" "%(m)s" "%({x}i)s" "%({x}o)s"')
        for line in (uvicorn_line(), combined_line(), atoms):
            text = line(evil, 11.0)
            assert text.isascii()
            assert text.isprintable()
            # Every quote is the format's own: fields cannot be closed from within.
            assert text.count('"') == line(facts(), 11.0).count('"')

    @settings(deadline=None)  # a busy machine is no failure
    @given(target=BYTES, value=BYTES, method=TEXT, host=TEXT, version=TEXT)
    def test_json_is_one_line_of_valid_json_whatever_is_sent(
        self, target: bytes, value: bytes, method: str, host: str, version: str
    ) -> None:
        headers = [(b"host", value), (b"referer", value), (b"user-agent", value)]
        evil = facts(target=target, method=method, client=(host, 1), http_version=version, request_headers=headers)
        text = json_line()(evil, 11.0)
        assert text.isascii()
        assert text.isprintable()
        found = json.loads(text)
        assert found["user_agent"] == value.decode("utf-8", "backslashreplace")
        assert found["target"] == target.decode("utf-8", "backslashreplace")
        assert list(found) == list(json.loads(json_line()(facts(), 11.0)))

    @settings(deadline=None)  # a busy machine is no failure
    @given(data=st.binary())
    def test_escaping_can_be_undone(self, data: bytes) -> None:
        text = escape(data)
        assert text.encode("ascii").decode("unicode_escape").encode("latin-1") == data
