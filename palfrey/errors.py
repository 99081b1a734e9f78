"""The exceptions that cross Palfrey's own layers. Each says who erred and what follows from it.

`exit_status` is what the process ends with when the error reaches the command line; `str(error)` is the one
line that a user is shown. None of these is shown with a traceback: they are the user's or the machine's doing.
"""

from __future__ import annotations

import os

_OURS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
"""Where the modules of Palfrey are."""

EXIT_OK = 0
EXIT_ERROR = 1
"""The configuration or the machine does not allow what was asked."""
EXIT_USAGE = 2
"""The command line is wrong (click's and argparse's convention)."""
EXIT_BOOT = 3
"""The application could not be loaded or its lifespan failed (uvicorn's and Gunicorn's status for it)."""


class PalfreyError(Exception):
    """Anything that ends the server, or stops a reload, for a reason that its user can mend."""

    exit_status = EXIT_ERROR


class ConfigError(PalfreyError):
    """A setting that does not fit, or a configuration file that cannot be read."""


class UsageError(PalfreyError):
    """The command line asks for what does not exist or cannot be combined."""

    exit_status = EXIT_USAGE


class BindError(PalfreyError):
    """A listening socket cannot be made."""


class BootError(PalfreyError):
    """A worker cannot begin to serve.

    `detail` is text of several lines to be shown below the message, the user's own traceback as a rule; it may
    be empty. `category` is how the worker names the failure to the arbiter.
    """

    exit_status = EXIT_BOOT
    category = "boot"

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class AppLoadError(BootError):
    """The application's module or attribute cannot be had."""

    category = "load"


class LifespanError(BootError):
    """The application's lifespan startup failed."""

    category = "lifespan"


class ProtocolError(Exception):
    """The client broke the protocol. `status` is the answer it deserves; str() is the reason, for the log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def from_the_app(error: BaseException) -> BaseException:
    """The exception with the frames of ours that called the application cut off the top of its traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return error.with_traceback(trace)
