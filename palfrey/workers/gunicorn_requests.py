"""Requests in the shapes that Gunicorn's users know: for the hooks pre_request and post_request, and for logger classes
that have an `access` of their own (Gunicorn's statsd logger, and many a user's).

They are views, made for one request each: to change one changes nothing. A hook may put attributes on the request, as
hooks do to remember when it began, and finds them in post_request.
"""

from __future__ import annotations

import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from palfrey.observe.access import AccessLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from palfrey.observe.facts import AccessFacts
    from palfrey.types import ASGIApp, Header, HostPort, Message, Receive, Scope, Send

UNQUOTED = "/!$&'()*+,;=:@-._~"
"""What a path may have as it is (RFC 3986 section 3.3)."""

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

    @classmethod
    def of(cls, environ: Mapping[str, Any]) -> RequestView:
        """Of a WSGI request."""
        fields = [(key.removeprefix("HTTP_"), value) for key, value in environ.items() if key.startswith("HTTP_")]
        fields += [(key, environ[key]) for key in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(key)]
        headers = [(key.replace("_", "-").encode("latin-1"), value.encode("latin-1")) for key, value in fields]
        query = environ.get("QUERY_STRING", "")
        path = quote(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""), encoding="latin-1", safe=UNQUOTED)
        target = f"{path}?{query}" if query else path
        client = (environ.get("REMOTE_ADDR", ""), int(environ.get("REMOTE_PORT") or 0))
        version = environ["SERVER_PROTOCOL"].removeprefix("HTTP/")
        return cls(environ["REQUEST_METHOD"], target.encode("latin-1"), version, headers, client)

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


def hooked(app: ASGIApp, worker: Any) -> ASGIApp:
    """The application with Gunicorn's hooks around each request. What pre_request raises is answered with 500."""
    cfg = worker.cfg

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        method = scope.get("method", "GET")
        request = RequestView(method, target, scope["http_version"], scope["headers"], scope["client"])
        response = ResponseView()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                response.begin(message["status"], list(message.get("headers", ())))
            elif message["type"] == "websocket.accept":
                response.begin(101, list(message.get("headers", ())))
            else:
                response.sent += len(message.get("body", b""))
            await send(message)

        cfg.pre_request(worker, request)
        try:
            await app(scope, receive, watched)
        finally:
            _after(worker, request, request.environ(), response)

    return run


def hooked_wsgi(call: Any, worker: Any) -> Any:
    """The same for a WSGI application. Its hooks run where it runs, and files are read rather than sent by the kernel:
    what is returned has to be watched for its end."""

    def run(environ: dict[str, Any], start_response: Any) -> _Watched:
        request = RequestView.of(environ)
        response = ResponseView()

        def begin(status: str, headers: Texts, exc_info: Any = None) -> Any:
            response.status_code, response.status, response.headers = int(status[:3]), status, list(headers)
            write = start_response(status, headers, exc_info)

            def counted(data: bytes) -> None:
                write(data)
                response.sent += len(data)

            return counted

        worker.cfg.pre_request(worker, request)
        try:
            result = call(environ, begin)
        except BaseException:
            _after(worker, request, environ, response)
            raise
        return _Watched(result, response, lambda: _after(worker, request, environ, response))

    return run


class _Watched:
    """A WSGI application's iterable, its bytes counted and its end told."""

    def __init__(self, result: Any, response: ResponseView, end: Callable[[], None]) -> None:
        self._result = result
        self._response = response
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._result:
            self._response.sent += len(piece)
            yield piece

    def close(self) -> None:
        try:
            if hasattr(self._result, "close"):
                self._result.close()
        finally:
            self._end()


def _after(worker: Any, request: RequestView, environ: dict[str, Any], response: ResponseView) -> None:
    try:
        worker.cfg.post_request(worker, request, environ, response)
    except Exception:
        worker.log.exception("the hook post_request failed")


def _texts(headers: Iterable[Header]) -> Texts:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
