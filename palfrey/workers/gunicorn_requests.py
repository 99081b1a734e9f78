"""Requests in the shapes that Gunicorn's users know: for the hooks around requests (gunicorn_hooks.py), and for logger
classes that have an `access` of their own (Gunicorn's statsd logger, and many a user's). And SCRIPT_NAME.

They are views, made for one request each: to change one changes nothing. A hook may put attributes on the request, as
hooks do to remember when it began, and finds them in post_request.
"""

from __future__ import annotations

import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from palfrey.observe.access import AccessLog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palfrey.observe.facts import AccessFacts
    from palfrey.types import Header, HostPort

Texts = list[tuple[str, str]]


class RequestView:
    """Gunicorn's `req`: method, uri, path, query, version, headers (names in upper case)."""

    def __init__(
        self, method: str, target: bytes, version: str, headers: Iterable[Header], client: HostPort | None
    ) -> None:
        self.method = method
        self.uri = target.decode("latin-1")
        self.path, _, self.query = self.uri.partition("?")
        self.fragment = ""
        self.version = tuple(int(digit) for digit in f"{version}.0".split(".")[:2])
        self.headers = [(name.upper(), value) for name, value in _texts(headers)]
        self.remote_addr = self.peer_addr = client

    def environ(self) -> dict[str, Any]:
        """As WSGI has it, in so far as requests and logs ask for it."""
        found: dict[str, Any] = {
            "REQUEST_METHOD": self.method,
            "RAW_URI": self.uri,
            "PATH_INFO": self.path,
            "QUERY_STRING": self.query,
            "SERVER_PROTOCOL": "HTTP/{}.{}".format(*self.version),
            "REMOTE_ADDR": self.remote_addr[0] if self.remote_addr is not None else "",
        }
        for name, value in self.headers:
            key = name.replace("-", "_")
            found[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        return found


class ResponseView:
    """Gunicorn's `resp`: status (`200 OK`), status_code, headers, sent (bytes of content)."""

    def __init__(self, status: int = 0, headers: Iterable[Header] = (), sent: int = 0) -> None:
        self.status_code = 0
        self.status = ""
        self.headers: Texts = []
        self.sent = sent
        if status:
            self.begin(status, headers)

    def begin(self, status: int, headers: Iterable[Header]) -> None:
        """The head."""
        self.status_code = status
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
        self.status = f"{status} {phrase}".rstrip()
        self.headers = _texts(headers)


class LoggerAccess(AccessLog):
    """Hands each request to `log.access(resp, req, environ, request_time)`."""

    __slots__ = ("_log",)

    def __init__(self, log: Any) -> None:
        super().__init__(enabled=True)
        self._log = log
        self.log = self.log_websocket = self._hand_on

    def _hand_on(self, facts: AccessFacts, ended: float) -> None:
        try:
            request = RequestView(facts.method, facts.target, facts.http_version, facts.request_headers, facts.client)
            response = ResponseView(facts.status, facts.response_headers, facts.body_bytes)
            taken = datetime.timedelta(seconds=max(0.0, ended - facts.started))
            self._log.access(response, request, request.environ(), taken)
        except Exception:
            self.failures += 1
            self._log.exception("the logger's access() failed")


def below(prefix: str, app: Any) -> Any:
    """A WSGI application that Gunicorn's users have put below a path by the environment variable SCRIPT_NAME: it is
    part of the path as it comes."""
    prefix = prefix.rstrip("/")

    def run(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        rest = path.removeprefix(prefix)
        if rest != path and (not rest or rest[0] == "/"):  # PEP 3333: what is left begins with a slash
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = prefix, rest
        return app(environ, start_response)

    return run


def _texts(headers: Iterable[Header]) -> Texts:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
