"""How this process was started: its command, environment, directory and umask, to be able to start it again.

Taken once, before a configuration file can change any of it. A command is started again *as the shell did it*: what
has no slash is looked up in PATH, what is relative counts from the directory by its name ($PWD), and a script that
was called by its own name is called by it again, so that its first line, which the kernel has turned into an
interpreter by now, is read anew. A symlink that has been switched to another release is thereby followed, to its
interpreter and its packages.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from palfrey.system.process import own_directory

_HEAD = 512
"""Bytes of a script that are looked at for its interpreter; Linux itself reads 256."""


@dataclass(frozen=True, slots=True)
class Invocation:
    command: tuple[str, ...]
    """Program and arguments; empty where there is nothing that could be started again."""
    environment: Mapping[str, str]
    directory: str
    """By the name that its user knows it by."""
    umask: int

    @classmethod
    def taken(cls, environ: MutableMapping[str, str] = os.environ) -> Invocation:
        """This process's. Raises ConfigError when the working directory is gone."""
        directory = own_directory(environ)
        mask = os.umask(0o022)
        os.umask(mask)
        return cls(command(sys.orig_argv, sys.argv), {**environ, "PWD": directory}, directory, mask)

    def execute(self, environment: Mapping[str, str]) -> NoReturn:
        """Become the command, with this environment. Raises OSError with the name of what could not be used."""
        os.umask(self.umask)
        os.chdir(self.directory)
        program = self.command[0]
        try:
            os.execvpe(program, list(self.command), dict(environment))
        except OSError as error:
            error.filename = program  # execvpe() names the last place of PATH that it looked at
            raise


def command(arguments: Sequence[str], script: Sequence[str]) -> tuple[str, ...]:
    """What to execute, from the interpreter's command line (sys.orig_argv) and the program's (sys.argv)."""
    path = script[0] if script else ""
    if not arguments or path in ("", "-"):
        return ()  # an embedded interpreter, a session, or a program that was read from standard input
    if path in arguments[1:]:
        index = arguments.index(path, 1)
        if arguments[0] in _interpreters(path):
            return tuple(arguments[index:])
    if shutil.which(arguments[0]) is None:  # started under a name of its starter's choice
        return (sys.executable, *arguments[1:])
    return tuple(arguments)


def _interpreters(path: str) -> set[str]:
    """The words of a script's first lines that may be its interpreter; empty for what is no executable script."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return set()
    if not head.startswith(b"#!") or not os.access(path, os.X_OK):
        return set()
    # Two lines: where the interpreter's path is too long for the kernel, installers have /bin/sh execute it.
    return set(re.split(r"[\s'\"#!]+", "\n".join(os.fsdecode(head).split("\n")[:2])))
