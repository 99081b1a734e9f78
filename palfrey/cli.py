"""The `palfrey` command: arguments -> settings -> a check, a listing, or the arbiter.

It declares no option: they come from the table (`config/commandline.py`). Everything that a user did wrong ends here
as one line on stderr and an exit status (`errors.py`); a traceback that leaves this module is a bug of Palfrey's.
The application is imported in a forked child only, by name, so that this process, which becomes the arbiter, stays
as small as it is and never holds the user's code.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

import click

from palfrey.config import commandline
from palfrey.config.render import listing
from palfrey.config.settings import BIND_GROUP
from palfrey.config.sources import Resolved, resolve
from palfrey.errors import EXIT_BOOT, EXIT_ERROR, EXIT_OK, BootError, ConfigError, PalfreyError
from palfrey.system import inheritance
from palfrey.system.invocation import Invocation
from palfrey.system.process import change_directory, fill_standard_streams
from palfrey.system.sockets import parse_bind

_INTERRUPTED = 130
"""What shells report for a command that Ctrl-C ended: 128 + SIGINT."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and exits the process with its status. `argv` without the program's name; None: sys.argv."""
    sys.exit(run(argv))


def run(argv: Sequence[str] | None = None) -> int:
    """The same, returning the status."""
    fill_standard_streams()
    heritage = inheritance.claim()
    try:
        with _printing():  # --help and --version
            given = commandline.parse(argv)
        return EXIT_OK if given is None else _act(given)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except PalfreyError as error:
        _report(error)
        if heritage is not None:
            heritage.failed(str(error), getattr(error, "detail", ""))
        return error.exit_status
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED


def _act(given: dict[str, object]) -> int:
    check, listed = given.pop("check_config"), given.pop("print_config")
    invocation = Invocation.taken()  # before a configuration file has run
    cwd = invocation.directory

    def load() -> Resolved:
        return resolve(given, os.environ, cwd)

    resolved = resolve(given, os.environ, cwd, need_app=bool(check or not listed))
    _warn(resolved)
    if listed:
        _print(listing(resolved))
    if check:
        return _check(resolved)
    if listed:
        return EXIT_OK
    arbiter = importlib.import_module("palfrey.arbiter")
    return int(arbiter.Arbiter(load, resolved, invocation=invocation).run())


def _say(line: str) -> None:
    click.echo(f"palfrey: {line}", err=True)


def _report(error: PalfreyError) -> None:
    _say(str(error))
    if isinstance(error, BootError) and error.detail:
        click.echo(error.detail.rstrip("\n"), err=True)


def _warn(resolved: Resolved) -> None:
    for notice in resolved.notices:
        _say(f"warning: {notice.message}")


def _print(text: str) -> None:
    with _printing():
        click.echo(text)


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    """Around what writes to stdout, where the reader may leave early (`palfrey --print-config | head`)."""
    try:
        yield
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries once more at its end
        if not isinstance(error, BrokenPipeError):
            raise PalfreyError(f"cannot write to the standard output: {error.strerror}") from None


# --check-config -----------------------------------------------------------------------------------------------------


def _check(resolved: Resolved) -> int:
    """Whether this would start: a slip is an error here, addresses must parse, certificate and key
    must fit together, the application must be importable."""
    settings = resolved.settings
    mistakes = [notice.message for notice in resolved.notices if notice.mistake]
    if mistakes:
        raise ConfigError(mistakes[0])
    for address in settings.binds():
        try:
            parse_bind(address)
        except ValueError as error:
            origin = max((resolved.origins[name] for name in BIND_GROUP), key=lambda each: each.kind)
            raise ConfigError(f"bind = {address} ({origin}): {error}") from None
    from palfrey.master.generations import server_tls

    tls = server_tls(settings)
    if tls is not None and tls.notice is not None:
        _say(f"warning: {tls.notice}")
    status = _import_in_child(resolved)
    if status == EXIT_OK:
        _print(f"palfrey: OK: {resolved.config_file or 'the configuration'} is valid, {settings.app} can be imported")
    return status


def _import_in_child(resolved: Resolved) -> int:
    """Imports the application as a worker would, in a process that ends with it; returns the status to exit with."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = EXIT_ERROR
        try:
            status = _import(resolved)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        _say(f"importing {resolved.settings.app} ended with {signal.Signals(-status).name}")
        return EXIT_BOOT
    return status


def _import(resolved: Resolved) -> int:
    settings = resolved.settings
    try:
        if settings.chdir is not None:
            change_directory(settings.chdir)
        os.environ.update(resolved.environment, PALFREY_GENERATION="1", PALFREY_WORKER="1")
        load_app = importlib.import_module("palfrey.asgi.load").load_app
        load_app(settings.app, settings.factory, settings.app_dir, settings.interface)
    except PalfreyError as error:
        _report(error)
        return error.exit_status
    except KeyboardInterrupt:
        return _INTERRUPTED
    return EXIT_OK
