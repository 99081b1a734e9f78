"""Which files `--reload` watches, and what counts as one change of them. Pure but for `scan`, which asks for stats.

    Targets     the directories, single files and patterns that the settings name
    Filter      whether a file below a watched directory is meant
    scan        the watched files as they are: path -> Stamp; two of them compared give what changed
    Debounce    one change out of the many that an editor's save or a checkout makes

A pattern is a shell glob. Without a slash it is compared with a name, with one (`templates/*.html`) with the end of a
path. Includes are asked about files. Excludes are asked about files and about each directory on the way to them, so
that `.*` keeps `.git`, `.venv` and `.tox` out. A default pattern falls away when it is given on the other side.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from palfrey.config.settings import Settings

INCLUDE = ("*.py",)
EXCLUDE = (".*", ".py[cod]", ".sw.*", "~*")
"""What is watched, and not watched, unless it is said otherwise; uvicorn's patterns."""
NEVER_ENTERED = frozenset({"__pycache__", "node_modules"})
"""Directories with very many files, none of which an application is made of."""
ENVIRONMENT_MARK = "pyvenv.cfg"
"""A directory that has it is a virtual environment, and is not entered either."""
LONGEST = 1.0
"""Seconds, at least, after which a change is reported although the files do not come to rest: a program that writes a
watched file all the time must not hold reloads back for ever."""

Stamp = tuple[int, int, int]
"""Of a file: modification time in ns, size, inode. A rename over a file (an editor's atomic save) changes the inode."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What to watch. All paths are absolute, directories real."""

    directories: tuple[str, ...]
    files: tuple[str, ...]
    """Beside those in the directories, and whatever their names."""
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    delay: float
    engine: str
    """auto, watchfiles or poll."""


def targets(settings: Settings, config_file: str | None) -> Targets:
    """What the settings of a start or reload say. Relative paths start from the working directory."""
    named = [*settings.reload_dirs, *(each for each in settings.reload_include if os.path.isdir(each))]
    if not settings.reload_dirs:
        named += [os.curdir, *([settings.app_dir] if settings.app_dir is not None else [])]
    single = [config_file, settings.env_file, *settings.reload_extra_files]
    if isinstance(settings.log_config, str):
        single.append(settings.log_config)
    include = tuple(each for each in settings.reload_include if not os.path.isdir(each))
    exclude = settings.reload_exclude
    return Targets(
        directories=_outermost(os.path.realpath(each) for each in named),
        files=tuple(dict.fromkeys(os.path.abspath(each) for each in single if each is not None)),
        include=(*(each for each in INCLUDE if each not in exclude), *include),
        exclude=(*(each for each in EXCLUDE if each not in include), *exclude),
        delay=settings.reload_delay,
        engine=settings.reload_engine,
    )


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Without those that lie in another."""
    unique = sorted(set(paths))
    return tuple(
        path
        for path in unique
        if not any(path != other and path.startswith(os.path.join(other, "")) for other in unique)
    )


class Filter:
    """Whether paths below one of the directories are meant. All paths are absolute."""

    def __init__(self, watched: Targets) -> None:
        self._roots = watched.directories
        self._included = _Globs(watched.include)
        self._excluded = _Globs(watched.exclude)

    def wants(self, path: str) -> bool:
        """A file, wherever it lies."""
        return self.takes(path) and self.enters(os.path.dirname(path))

    def takes(self, path: str) -> bool:
        """A file in a directory that was entered."""
        return self._included.match(path) and not self._excluded.match(path)

    def enters(self, path: str) -> bool:
        """A directory: whether files in it can be meant."""
        return any(
            path == root or (path.startswith(os.path.join(root, "")) and self._leads(root, path))
            for root in self._roots
        )

    def _leads(self, root: str, path: str) -> bool:
        while path != root:
            if os.path.basename(path) in NEVER_ENTERED or self._excluded.match(path):
                return False
            if os.path.lexists(os.path.join(path, ENVIRONMENT_MARK)):
                return False
            path = os.path.dirname(path)
        return True


class _Globs:
    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = [os.path.expanduser(each).rstrip("/") for each in patterns]
        names = [fnmatch.translate(each) for each in patterns if "/" not in each]
        self._names = re.compile("|".join(names)) if names else None
        self._paths = [each for each in patterns if "/" in each]

    def match(self, path: str) -> bool:
        if self._names is not None and self._names.match(os.path.basename(path)):
            return True
        return any(PurePath(path).match(each) for each in self._paths)


# The files as they are ----------------------------------------------------------------------------------------------


def scan(directories: Iterable[str], files: Iterable[str], wanted: Filter) -> dict[str, Stamp]:
    """The wanted files below the directories, and the single files that exist. Symbolic links to directories are not
    followed; what vanishes meanwhile, or may not be read, is not there."""
    found: dict[str, Stamp] = {}
    for directory in directories:
        for path in _walk(directory, wanted):
            _look_at(path, found)
    for path in files:
        _look_at(path, found)
    return found


def _walk(directory: str, wanted: Filter) -> Iterator[str]:
    pending = [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if wanted.enters(entry.path):
                            pending.append(entry.path)
                    elif wanted.takes(entry.path):
                        yield entry.path
        except OSError:
            continue


def _look_at(path: str, found: dict[str, Stamp]) -> None:
    try:
        status = os.stat(path)
    except OSError:
        return
    if not stat.S_ISDIR(status.st_mode):
        found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)


def differences(before: dict[str, Stamp], after: dict[str, Stamp]) -> set[str]:
    """The files that are new, changed or gone."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


# One change ---------------------------------------------------------------------------------------------------------


class Debounce:
    """Gathers changes until there was none for `delay` seconds, but for no longer than LONGEST (or ten delays)."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._longest = max(LONGEST, 10 * delay)
        self._gathered: set[str] = set()
        self._first = 0.0
        self._last = 0.0

    def add(self, paths: Iterable[str], now: float) -> None:
        new = set(paths)
        if not new:
            return
        if not self._gathered:
            self._first = now
        self._last = now
        self._gathered |= new

    @property
    def due(self) -> float | None:
        """When `take` will give what was gathered, if nothing is added; None: nothing was."""
        if not self._gathered:
            return None
        return min(self._last + self._delay, self._first + self._longest)

    def take(self, now: float) -> list[str]:
        """All that was gathered, sorted, if it is time; else nothing."""
        due = self.due
        if due is None or now < due:
            return []
        taken, self._gathered = sorted(self._gathered), set()
        return taken


def named(paths: Sequence[str], count: int, directory: str, most: int = 3) -> str:
    """The first of `count` files in a few words, as seen from `directory`: "main.py, views.py and 4 more"."""
    prefix = os.path.join(os.path.realpath(directory), "")
    text = ", ".join(path.removeprefix(prefix) for path in paths[:most])
    more = count - len(paths[:most])
    return f"{text} and {more} more" if more else text
