"""Generations: what each reload brought, and the listeners that the arbiter keeps for them.

A generation is settings, environment and listeners under a number that grows with each start or reload. One is
`current`; a `candidate` may stand beside it until its canary has decided. A listener that both ask for is one socket,
so that its queue outlives the reload. A listener that nobody asks for any more is closed here at adoption, and its
workers are told to "stop" instead of "retire", that is, to empty its queue and close their copies: the last of them
to close a copy has just emptied it, so that nothing that was queued is reset.

A generation also has its place, the directory that its name led to when it was read, and so with what is on `sys.path`:
its workers work there and import from there, whenever they are forked. So one that replaces a worker of the generation
that serves on is of the same release, although the symlink has been switched to one that was refused.

Nothing here forks or signals. `propose` opens sockets and may fail (PalfreyError); then all is as it was.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from palfrey.config.hooks import ConfigView
from palfrey.config.settings import BIND_GROUP, ROWS, Settings
from palfrey.config.sources import Kind, Resolved
from palfrey.errors import BindError
from palfrey.master.records import Terms
from palfrey.system import cpus
from palfrey.system.cpus import Budget
from palfrey.system.imports import resolved as resolved_path
from palfrey.system.place import Place
from palfrey.system.process import CAN_ADOPT
from palfrey.system.sockets import Address, Listener, open_listeners, parse_bind
from palfrey.system.tls import HTTP1, HTTP2, ServerTls, make_tls, server_context

if TYPE_CHECKING:
    import ssl


NO_MOLDS = (
    "preload_app has no effect on this system, which does not let a process adopt orphans as Linux does: each worker "
    "imports the application by itself"
)


@dataclass(slots=True)
class Generation:
    number: int
    settings: Settings
    environment: dict[str, str]
    """For the workers' environment."""
    listeners: list[Listener]
    tls: ServerTls | None
    place: Place | None = None
    """Where it works; None: wherever this process is."""
    modules: tuple[str, ...] = ()
    """Where its modules are found: sys.path, symlinks followed. Empty: as in this process."""
    urls: tuple[str, ...] = ()
    """Where it listens, for people; port 0 resolved."""
    cpus: Budget | None = None
    """Those that `workers = "auto"` found."""
    parting: bool = False
    """Some of its listeners are wanted no more: its successor was adopted, or it was itself refused."""

    def enter(self) -> None:
        """Go to where it works. Raises OSError."""
        if self.place is not None:
            self.place.enter()

    @property
    def workers(self) -> int:
        """How many are wanted."""
        return self.cpus.cpus if self.cpus is not None else int(self.settings.workers)

    @property
    def notices(self) -> list[str]:
        """What is to be warned of before it is tried."""
        notices = []
        if self.tls is not None and self.tls.notice is not None:
            notices.append(self.tls.notice)
        if self.settings.preload_app and not CAN_ADOPT:
            notices.append(NO_MOLDS)
        return notices

    @property
    def terms(self) -> Terms:
        settings = self.settings
        return Terms(
            workers=self.workers,
            boot_timeout=settings.boot_timeout,
            graceful_timeout=settings.graceful_timeout,
            timeout=settings.timeout,
            request_timeout=settings.request_timeout,
            max_surge=settings.max_surge,
            drain_delay=settings.drain_delay,
            preload=settings.preload_app and CAN_ADOPT,
            develop=settings.reload,
        )


class Generations:
    """All that workers may still belong to."""

    def __init__(
        self, inherited: Sequence[tuple[int, str]] = (), heirlooms: Sequence[Listener] = (), count: int = 0
    ) -> None:
        """`heirlooms` and `count`: a predecessor's listeners, and how many generations it has had."""
        self.inherited = inherited
        """Sockets of systemd's, (fd, name). Those that a configuration does not ask for (any more) stay open here:
        systemd listens on them all the same, and the next configuration may ask for them."""
        self._known: dict[int, Generation] = {}
        self._listeners: list[Listener] = list(heirlooms)
        """All that are open."""
        self.shared = bool(heirlooms)
        """Another arbiter has the listeners too: the files of UNIX sockets are not ours to remove."""
        self.count = count
        self._current = 0
        self._candidate: int | None = None

    @property
    def begun(self) -> bool:
        """Whether there is a current one yet."""
        return self._current in self._known

    @property
    def current(self) -> Generation:
        return self._known[self._current]

    def __getitem__(self, number: int) -> Generation:
        return self._known[number]

    def first(self, resolved: Resolved) -> Generation:
        """Generation 1, current from the start. Raises ConfigError and BindError."""
        generation = self._open(resolved, resolved.settings)
        self._current = generation.number
        self._close_unwanted()
        return generation

    def propose(self, resolved: Resolved) -> tuple[Generation, list[str]]:
        """A candidate, which takes the place of one that was there, and the names of the settings that wanted to
        change and cannot without a new start. Raises ConfigError and BindError."""
        stay = unreloadable(self.current.settings, resolved.settings)
        kept = {name: getattr(self.current.settings, name) for name in stay}
        generation = self._open(resolved, dataclasses.replace(resolved.settings, **kept))
        self._candidate = generation.number
        self._close_unwanted()
        return generation, stay

    def adopt(self, number: int) -> Generation:
        """The candidate becomes current."""
        self._current, self._candidate = number, None
        self._close_unwanted()
        return self.current

    def refuse(self, number: int) -> None:
        """Forget the candidate and close what was opened for it alone."""
        if self._candidate == number:
            self._candidate = None
            self._close_unwanted()

    def withdraw(self) -> None:
        """Forget the candidate, if there is one."""
        if self._candidate is not None:
            self.refuse(self._candidate)

    def forget(self, in_use: set[int]) -> None:
        """Drop generations that no worker belongs to any more."""
        keep = in_use | {self._current, self._candidate}
        for number in self._known.keys() - keep:
            _close_place(self._known.pop(number))

    def move_in(self, number: int) -> None:
        """In a forked child: go to where this generation works, and keep no other directory. Raises OSError."""
        generation = self._known[number]
        generation.enter()
        if generation.modules:
            sys.path[:] = generation.modules
        for generation in self._known.values():
            _close_place(generation)

    def others(self, number: int) -> list[Listener]:
        """Open listeners that a worker of this generation has no business with."""
        own = self._known[number].listeners
        return [listener for listener in self._listeners if listener not in own]

    def unused(self) -> list[tuple[int, str]]:
        """Of systemd's sockets, those that nobody has asked for yet."""
        used = {listener.fileno() for listener in self._listeners}
        return [(fd, name) for fd, name in self.inherited if fd not in used]

    def hand_over(self, taken: set[int]) -> None:
        """A successor has these descriptors, and the files that belong to them. Others are served by nobody else, and
        closed here as by a reload."""
        gone = [one for one in self._listeners if one.fileno() not in taken]
        for generation in self._known.values():
            generation.parting = generation.parting or any(one in gone for one in generation.listeners)
        for listener in gone:
            listener.close(unlink=True)
        self._listeners = [one for one in self._listeners if one not in gone]
        self.shared = True

    def take_back(self) -> None:
        """The successor is no more. What was closed for it stays closed until the next reload."""
        self.shared = False
        self.current.listeners = [one for one in self.current.listeners if one in self._listeners]
        self.current.parting = False

    def close(self) -> None:
        """The end of the service: close the arbiter's copies and remove the files of UNIX sockets."""
        for listener in self._listeners:
            listener.close(unlink=not self.shared)
        self._listeners = []

    def _open(self, resolved: Resolved, settings: Settings) -> Generation:
        addresses = addresses_of(settings, resolved, self.inherited)
        tls = server_tls(settings)
        if settings.app_dir is not None:  # as the place: of this release, also when the symlink is another's
            settings = dataclasses.replace(settings, app_dir=os.path.realpath(settings.app_dir))
        place = Place()
        try:
            listeners = open_listeners(addresses, settings.backlog, have=self._listeners)
        except BaseException:
            place.close()
            raise
        self._listeners += [listener for listener in listeners if listener not in self._listeners]
        self.count += 1
        urls = _urls(listeners, tls is not None)
        generation = Generation(
            self.count, settings, resolved.environment, listeners, tls, place, resolved_path(), urls
        )
        if settings.workers == "auto":
            generation.cpus = cpus.budget()
        self._known[generation.number] = generation
        return generation

    def _close_unwanted(self) -> None:
        wanted = list(self.current.listeners)
        if self._candidate is not None:
            wanted += self._known[self._candidate].listeners
        for generation in self._known.values():
            generation.parting |= any(one not in wanted for one in generation.listeners)
        stay = [one for one in self._listeners if one in wanted or one.address.kind == "systemd"]
        for listener in self._listeners:
            if listener not in stay:
                listener.close(unlink=not self.shared)
        self._listeners = stay


def _close_place(generation: Generation) -> None:
    if generation.place is not None:
        generation.place.close()


def addresses_of(settings: Settings, resolved: Resolved, inherited: Sequence[tuple[int, str]]) -> list[Address]:
    """What to listen on: as asked for, or else all of systemd's sockets, or else the default. Raises BindError."""
    if inherited and not asked_for(resolved):
        return [Address(kind="systemd", fd=fd, name=name) for fd, name in inherited]
    return bound_addresses(settings, inherited)


def bound_addresses(settings: Settings, inherited: Sequence[tuple[int, str]] = ()) -> list[Address]:
    """Where the settings say to listen; `systemd:NAME` is all `inherited` sockets of that name. Raises BindError."""
    addresses = []
    for text in settings.binds():
        try:
            address = parse_bind(text)
        except ValueError as error:
            raise BindError(f"cannot listen: {error}") from None
        if address.kind == "unix":
            address = dataclasses.replace(address, mode=settings.socket_mode, owner=settings.socket_owner)
        addresses += [address] if address.kind != "systemd" else _named(address, inherited)
    return addresses


def _named(address: Address, inherited: Sequence[tuple[int, str]]) -> list[Address]:
    """A .socket unit with several ListenStream= hands all of them in under one name."""
    found = [dataclasses.replace(address, fd=fd) for fd, name in inherited if name == address.name]
    if not found:
        there = ", ".join(sorted({name or "one without a name" for _, name in inherited}))
        raise BindError(
            f"cannot listen on {address}: "
            + (f"systemd handed in {there}; " if there else "systemd handed in no socket; ")
            + "the name is the .socket unit's FileDescriptorName="
        )
    return found


def tls_files(settings: Settings) -> tuple[str | None, ...]:
    """The files that a TLS context is made from."""
    return settings.ssl_certfile, settings.ssl_keyfile, settings.ssl_ca_certs


def server_tls(settings: Settings) -> ServerTls | None:
    """What the TLS settings and the hook ssl_context make together; None: no TLS. Raises ConfigError.

    Made before the fork and before privileges drop, so that the key may be readable by root alone.
    """

    def default() -> ssl.SSLContext:
        return server_context(
            settings.ssl_certfile or "",
            settings.ssl_keyfile,
            settings.ssl_keyfile_password,
            settings.ssl_ca_certs,
            settings.ssl_cert_reqs,
            settings.ssl_ciphers or None,
            settings.ssl_min_version,
            HTTP2 if settings.http == "h2" else HTTP1,
        )

    certfile, hook = settings.ssl_certfile, settings.ssl_context
    if certfile is None and hook is None:
        return None
    ask = partial(hook, ConfigView(settings)) if hook is not None else None
    return make_tls(certfile or "", default, ask, settings.ssl_handshake_timeout, tls_files(settings))


def _urls(listeners: Sequence[Listener], secure: bool) -> tuple[str, ...]:
    urls = (listener.url for listener in listeners)
    return tuple(url.replace("http://", "https://", 1) if secure else url for url in urls)


def asked_for(resolved: Resolved) -> bool:
    """Whether any source says where to listen."""
    origins = (resolved.origins.get(name) for name in BIND_GROUP)
    return any(origin is not None and origin.kind is not Kind.DEFAULT for origin in origins)


def unreloadable(old: Settings, new: Settings) -> list[str]:
    """Settings that differ and that only a new start can change."""
    return [name for name, row in ROWS.items() if not row.reloadable and getattr(old, name) != getattr(new, name)]
