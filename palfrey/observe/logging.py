"""The loggers "palfrey.error" and "palfrey.access": set up in the arbiter, inherited by the workers.

How it works. `configure()` opens the destinations (palfrey/observe/sink.py), applies the user's log configuration
if there is one, and puts a `SinkHandler` with uvicorn's look on the logger "palfrey", so that whatever is logged
below that name arrives. It returns a `LogSetup`: the error logger, the access log (palfrey/observe/access.py) and
what has to happen to both at a fork, a rotation and the end. A worker calls `after_fork()`, then `attach()` with
its event loop's `call_later`; the arbiter, which has no loop of that kind, calls `flush()` when it wakes up.

A user's log configuration rules: where it gives "palfrey.error" or "palfrey.access" a handler, that handler gets
ordinary records and ours stands back; where it does not mention them, ours go on.

Nothing in here raises while serving, waits for a reader, starts a thread or imports asyncio.
"""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from palfrey.errors import ConfigError
from palfrey.observe.access import AccessLog
from palfrey.observe.facts import Line
from palfrey.observe.formats import line_for, uvicorn_line, websocket_line
from palfrey.observe.sink import STDERR, STDOUT, CallLater, Sink

TRACE = 5
LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
"""The setting's words -> logging's numbers."""

ROOT, ERROR, ACCESS = "palfrey", "palfrey.error", "palfrey.access"

_LEVEL_COLORS = {
    TRACE: "34",
    logging.DEBUG: "36",
    logging.INFO: "32",
    logging.WARNING: "33",
    logging.ERROR: "31",
    logging.CRITICAL: "91",
}
_from_log_config: weakref.WeakSet[logging.Handler] = weakref.WeakSet()
"""What an earlier log_config put on our loggers: to go when the next `configure()` has another, or none."""
_STREAMS = {"/dev/stdout": STDOUT, "/dev/stderr": STDERR}
"""Names for the inherited descriptors. To open them would fail on a socket, and start a file over its end."""


class LineFormatter(logging.Formatter):
    """uvicorn's look with the process named: `INFO:     [worker 1 4712] message`."""

    def __init__(self, *, colors: bool, label: str) -> None:
        super().__init__()
        self._colors = colors
        self.set_label(label)

    def set_label(self, label: str) -> None:
        """Names the calling process: its part ("master", "worker 1"; "" for none) and pid."""
        self._label = f"[{label} {os.getpid()}] " if label else ""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text; a traceback follows on lines of its own. Does not raise."""
        try:
            record.message = record.getMessage()
        except Exception as error:  # arguments that do not fit: the message is still worth having
            record.message = f"{record.msg} (could not be filled with {record.args!r}: {error})"
        return self._level(record) + self._label + record.message + self._appendix(record)

    def _level(self, record: logging.LogRecord) -> str:
        name = record.levelname
        space = " " * max(9 - len(name), 1)
        color = _LEVEL_COLORS.get(record.levelno)
        return f"\x1b[{color}m{name}\x1b[0m:{space}" if self._colors and color else f"{name}:{space}"

    def _appendix(self, record: logging.LogRecord) -> str:
        parts = [""]
        if record.exc_info:
            parts.append(self.formatException(record.exc_info))
        elif record.exc_text:
            parts.append(record.exc_text)
        if record.stack_info:
            parts.append(self.formatStack(record.stack_info))
        return "\n".join(parts)


class SinkHandler(logging.Handler):
    """Writes records to a Sink. Its failures are counted, never raised, whatever logging.raiseExceptions says."""

    def __init__(self, sink: Sink, formatter: logging.Formatter) -> None:
        super().__init__()
        self.sink = sink
        self.failures = 0
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """One write for one record, traceback included, so that other processes' lines stay out of it."""
        try:
            self.sink.write((self.format(record) + "\n").encode("utf-8", "backslashreplace"))
        except Exception:
            self.failures += 1


class LogSetup:
    """The logs of one process. Made by `configure()`; the sinks are its own to close."""

    __slots__ = ("_formatter", "_handler", "_make_access", "_sinks", "access", "error")

    def __init__(
        self,
        *,
        error: logging.Logger,
        access: AccessLog,
        formatter: LineFormatter,
        handler: logging.Handler,
        sinks: list[Sink],
        make_access: Callable[[], AccessLog],
    ) -> None:
        self.error = error
        """The logger "palfrey.error"."""
        self.access = access
        self._formatter = formatter
        self._handler = handler
        self._sinks = sinks
        self._make_access = make_access

    def after_fork(self, label: str) -> None:
        """Makes the logs a child's own. Call it first thing in the child; `label` is like "worker 1"."""
        for sink in self._sinks:
            sink.after_fork()
        self.access.after_fork()
        self._formatter.set_label(label)

    def after_daemonize(self, label: str) -> None:
        """`after_fork()` for a daemon: lets go of the terminal or pipe that it was started from as well."""
        self.after_fork(label)
        for sink in self._sinks:
            sink.follow()

    def heed_application(self) -> None:
        """Call it when the application has been imported, before `access` is handed out.

        Handlers, filters and levels that it has given "palfrey.access" count from here on, as if a log configuration
        had. Its own dictConfig() has, by its default, disabled every logger that it does not name; ours are not meant.
        """
        for name in (ROOT, ERROR, ACCESS):
            logging.getLogger(name).disabled = False
        self.access.flush()
        self.access = self._make_access()

    def attach(self, call_later: CallLater) -> None:
        """Gives the logs the calling thread's event loop: access lines are batched, slow readers tried again."""
        for sink in self._sinks:
            sink.attach(call_later)
        self.access.attach(call_later)

    def detach(self) -> None:
        """Call it before the event loop closes. What is logged later is written at once."""
        self.access.detach()
        for sink in self._sinks:
            sink.detach()

    def flush(self) -> bool:
        """Writes what was kept for slow readers, without waiting; True when something is still left."""
        self.access.flush()
        left = [sink.flush() for sink in self._sinks]
        return any(left)

    def reopen(self) -> bool:
        """Opens log files anew after a rotation, the user's own FileHandlers too. What fails is logged, and False."""
        went_well = True
        self.access.flush()
        for sink in self._sinks:
            try:
                sink.reopen()
            except ConfigError as error:
                went_well = False
                self.error.error("Log file not reopened, the old one is still in use: %s", error)
        handlers = {id(handler): handler for name in (ERROR, ACCESS) for handler in _handlers(logging.getLogger(name))}
        for handler in handlers.values():
            if isinstance(handler, logging.FileHandler):
                try:
                    _reopen_handler(handler)
                except OSError as error:
                    went_well = False
                    self.error.error("Log file not reopened, the old one is still in use: %s", error)
        return went_well

    def filenos(self) -> list[int]:
        """The descriptors that a child process of ours has to keep."""
        return [sink.fileno() for sink in self._sinks if sink.fileno() >= 0]

    def error_fileno(self) -> int:
        """The error log's descriptor, for what is written from C (faulthandler); stderr where it has none."""
        sink = getattr(self._handler, "sink", None)
        return sink.fileno() if isinstance(sink, Sink) and sink.fileno() >= 0 else STDERR

    def close(self) -> None:
        """Writes what is left, giving slow readers a bounded time, and takes our handler away.

        The last one to be closed leaves the loggers as an embedding program knows them.
        """
        self.detach()
        root = logging.getLogger(ROOT)
        root.removeHandler(self._handler)
        if not any(_is_not_access in handler.filters for handler in root.handlers):
            root.propagate = True
            root.setLevel(logging.NOTSET)
        for sink in self._sinks:
            sink.close()


def configure(
    *,
    level: str | None = None,
    use_colors: bool | None = None,
    errorlog: str | None = "-",
    accesslog: str | None = "-",
    access_log: bool = True,
    access_log_format: str | None = None,
    log_config: str | Mapping[str, Any] | None = None,
    process_label: str = "master",
    owner: tuple[int, int] | None = None,
) -> LogSetup:
    """Sets up both loggers. May be called again with new settings; the LogSetup before that is then to be closed.

    `errorlog` and `accesslog` are paths, "-" for stderr and stdout, or None or "off" for nowhere. Access lines
    count as level info: a higher `level` silences them on stdout, as in uvicorn, but not in a file that was named
    for them, as in Gunicorn. `level` None is info, or what a `log_config` says. `use_colors` None: on a terminal,
    unless NO_COLOR is set. `log_config` is a path (.json, .yaml, .yml; anything else is read as ini) or a mapping
    for logging.config.dictConfig; the levels that it sets hold. `owner` (uid, gid) is whom log files are given to:
    the workers' user.

    Raises ConfigError and then leaves our own logs as they were.
    """
    logging.addLevelName(TRACE, "TRACE")
    style = access_log_format or "uvicorn"
    line = line_for(style) if style != "uvicorn" else None
    sinks: dict[str | int, Sink] = {}
    try:
        error_sink = _open(errorlog, STDERR, "errorlog", owner, sinks)
        access_sink = _open(accesslog, STDOUT, "accesslog", owner, sinks) if access_log else None
        _prepare(log_config)
    except BaseException:
        for sink in sinks.values():
            sink.close(0)
        raise
    user = log_config is not None
    palfrey, error = logging.getLogger(ROOT), logging.getLogger(ERROR)
    ours = not (user and error.hasHandlers())
    if palfrey.level == logging.NOTSET and (ours or level):
        palfrey.setLevel(LEVELS[level or "info"])

    colors = _colors(use_colors, access_sink)

    def make_access() -> AccessLog:
        return _access_log(access_sink, style, line, colors=colors, user=user) if access_log else AccessLog.off()

    access = make_access()
    formatter = LineFormatter(colors=_colors(use_colors, error_sink), label=process_label)
    handler = SinkHandler(error_sink, formatter) if ours and error_sink else logging.NullHandler()
    handler.addFilter(_is_not_access)
    palfrey.addHandler(handler)
    return LogSetup(
        error=error,
        access=access,
        formatter=formatter,
        handler=handler,
        sinks=[*sinks.values()],
        make_access=make_access,
    )


def _open(
    destination: str | None, stream: int, setting: str, owner: tuple[int, int] | None, sinks: dict[str | int, Sink]
) -> Sink | None:
    """The sink for a setting's value, shared with the other log when both name the same file. None: nowhere."""
    if not destination or destination == "off":
        return None
    key: str | int = stream if destination == "-" else _STREAMS.get(destination) or os.path.abspath(destination)
    if key not in sinks:
        sinks[key] = Sink.standard(key) if isinstance(key, int) else Sink.open(key, setting=setting, owner=owner)
    return sinks[key]


def _access_log(sink: Sink | None, style: str, line: Line | None, *, colors: bool, user: bool) -> AccessLog:
    """Records where the user's handlers would get them; else lines, unless the level is against it. `line` makes the
    lines of `style`, and is None for uvicorn's, which records have by their arguments."""
    logger = logging.getLogger(ACCESS)
    in_file = sink is not None and sink.path is not None
    theirs = any(_is_not_access not in handler.filters for handler in _handlers(logger))
    if logger.handlers or (user and not in_file and theirs):
        return AccessLog.to_logger(logger, line, line and websocket_line(style, line))
    # The level that was set for all is for the terminal; one that was set for this logger alone holds for a file, too.
    silenced = logger.level > logging.INFO if in_file else not logger.isEnabledFor(logging.INFO)
    if sink is None or silenced:
        return AccessLog.off()
    line = line or uvicorn_line(colors=colors)
    return AccessLog.to_sink(sink, line, logger if logger.filters else None, websocket_line(style, line))


def _is_not_access(record: logging.LogRecord) -> bool:
    # Access records on their way up to a user's handler do not belong among the errors.
    return record.name != ACCESS


def _colors(wanted: bool | None, sink: Sink | None) -> bool:
    if wanted is not None:
        return wanted
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"  # https://no-color.org
    return sink is not None and sink.isatty() and not plain


def _prepare(log_config: str | Mapping[str, Any] | None) -> None:
    """Brings our loggers to their beginnings and applies the user's configuration, or leaves them as they were."""
    loggers = [logging.getLogger(name) for name in (ROOT, ERROR, ACCESS)]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        # What a configuration did not put there is the user's own doing, in palfrey.conf.py for one.
        logger.handlers[:] = [] if log_config is not None else [h for h in logger.handlers if not _is_ours(h)]
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    try:
        if log_config is None:
            loggers[0].propagate = False  # an application's basicConfig() must not double our lines
        else:
            _apply(log_config)
            for logger in loggers:
                _from_log_config.update(logger.handlers)
    except ConfigError:
        for logger, handlers, level, propagate in before:
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate
        raise
    finally:
        for logger in loggers:  # `disable_existing_loggers` is not meant for these
            logger.disabled = False


def _is_ours(handler: logging.Handler) -> bool:
    return _is_not_access in handler.filters or handler in _from_log_config


def _apply(log_config: str | Mapping[str, Any]) -> None:
    """Reads and applies a log configuration. Whatever is wrong with it becomes a ConfigError of one line."""
    import logging.config  # heavy, and rarely wanted

    where = f"log_config: {log_config}" if isinstance(log_config, str) else "log_config"
    try:
        found = _read(log_config) if isinstance(log_config, str) else log_config
        if found is None:
            logging.config.fileConfig(str(log_config), disable_existing_loggers=False)
        elif isinstance(found, Mapping):
            logging.config.dictConfig(dict(found))
        else:
            raise ConfigError(f"{where}: holds a {type(found).__name__} where a mapping is wanted")
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror or error}") from None
    except Exception as error:  # user's classes are called, so that it may be any
        reasons = [str(error) or type(error).__name__]
        if error.__cause__ is not None:  # dictConfig says which part, its cause says why
            reasons.append(f"{type(error.__cause__).__name__}: {error.__cause__}")
        elif isinstance(error, KeyError):
            reasons = [f"there is no section or key {error}"]
        raise ConfigError(f"{where}: {' '.join(': '.join(reasons).split())}") from None


def _read(path: str) -> object:
    """What a JSON or YAML file holds; None for any other, which logging reads itself."""
    kind = os.path.splitext(path)[1].lower()
    with open(path, encoding="utf-8") as file:
        if kind == ".json":
            import json

            return json.load(file)
        if kind in {".yaml", ".yml"}:
            try:
                import yaml
            except ModuleNotFoundError:
                raise ConfigError(
                    f"log_config: {path} is YAML, and PyYAML is not installed: pip install 'palfrey[yaml]', "
                    "or write the same as .json"
                ) from None
            return yaml.safe_load(file) or {}
    return None


def _handlers(logger: logging.Logger | None) -> list[logging.Handler]:
    """The handlers that a logger's records reach."""
    found: list[logging.Handler] = []
    while logger is not None:
        found += logger.handlers
        logger = logger.parent if logger.propagate else None
    return found


def _reopen_handler(handler: logging.FileHandler) -> None:
    with handler.lock or contextlib.nullcontext():
        if handler.stream is not None:
            handler.mode = "a"  # "w" would empty the file once a process
            old, handler.stream = handler.stream, handler._open()
            old.close()
