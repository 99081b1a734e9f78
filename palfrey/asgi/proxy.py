"""Who the client is, and what it asked for, when a trusted proxy says so.

`Trusted` is made once a worker from `forwarded_allow_ips` (whom to believe) and `forwarded_fields` (what they may
say). A connection asks once whether its peer is trusted; only then are its requests' fields looked at, and of those
only the ones that the operator named: a proxy passes on what it does not know, so a field that it does not set itself
is the client's own say (docs/decisions/0005).

    X-Forwarded-For, Forwarded `for`       client
    X-Forwarded-Proto, Forwarded `proto`   scheme
    X-Forwarded-Host, Forwarded `host`     the host field, and server
    X-Forwarded-Port                       the port in both
    X-Forwarded-Prefix                     root_path, in the place of the setting, and in front of path

In a list of hops each proxy has appended the peer that it saw. Read from the right, each is a trusted proxy's word as
long as all those right of it are trusted proxies themselves; the first that is not is the client, and what stands
left of it is the client's own say. A malformed value changes nothing.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from palfrey.asgi.forwarded import (
    DEFAULT_PORTS,
    HIDDEN,
    SCHEMES,
    read_authority,
    read_elements,
    read_node,
    read_port,
    read_prefix,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palfrey.types import Header, HostPort, Scope

DEFAULT_FIELDS = ("x-forwarded-for", "x-forwarded-proto")
"""uvicorn's; a proxy in front of it need not have been told to replace any other."""

KNOWN_NODES, NODE_LENGTH = 1024, 64
"""Bounds of what is remembered of addresses, which the ipaddress module takes microseconds to read."""

Lines = dict[bytes, list[bytes]]
"""Field name -> its lines, in the order that they came in."""


class Trusted:
    """The peers whose forwarded fields are believed, and those fields."""

    __slots__ = ("_everybody", "_fields", "_networks", "_nodes", "_paths", "_peers", "_unix")

    def __init__(self, text: str, fields: Iterable[str] = DEFAULT_FIELDS) -> None:
        """`text`: comma-separated addresses, networks, UNIX socket paths, `unix` for all of those, `*` for everybody.

        What is none of these matches nobody. `fields` are names in lower case.
        """
        words = [word.strip() for word in text.split(",") if word.strip()]
        self._everybody = "*" in words
        self._unix = "unix" in words
        self._networks: list[IPv4Network | IPv6Network] = []
        self._paths: set[str] = set()
        self._fields = frozenset(name.encode() for name in fields)
        self._nodes: dict[bytes, tuple[HostPort | None, bool]] = {}
        self._peers: dict[str, bool] = {}
        """Addresses of peers, as the kernel writes them, to `host` of each: parsing one costs a tenth of what a request
        over a new connection does, and mostly it is the same few proxies' again."""
        for word in words:
            try:
                self._networks.append(_unmapped(ip_network(word, strict=False)))
            except ValueError:
                self._paths.add(word.removeprefix("unix:"))

    # ---------------------------------------------------------------- whom

    def host(self, host: str) -> bool:
        """Whether this address is a trusted proxy's; what is no address is not."""
        if self._everybody:
            return True
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            # How a socket that listens on [::] sees its IPv4 peers (RFC 4291 section 2.5.5.2).
            return any(address.ipv4_mapped in network for network in self._networks)
        return any(address in network for network in self._networks)

    def peer(self, client: HostPort | None, server: HostPort | None) -> bool:
        """Whether the connection's other end is one; on a UNIX socket, whether the socket's own path is listed."""
        if client is not None:
            known = self._peers.get(client[0])
            if known is None:
                if len(self._peers) >= KNOWN_NODES:
                    self._peers.clear()
                known = self._peers[client[0]] = self.host(client[0])
            return known
        on_unix = server is not None and server[1] is None
        return self._everybody or (on_unix and self._unix) or (server is not None and server[0] in self._paths)

    def _node(self, text: bytes) -> tuple[HostPort | None, bool]:
        """A hop as text -> the node, or None for what is malformed, and whether it is a trusted proxy."""
        text = text.strip(b" \t")
        known = self._nodes.get(text)
        if known is None:
            node = read_node(text)
            known = (node, node is not None and node is not HIDDEN and self.host(node[0]))
            if len(text) <= NODE_LENGTH:
                if len(self._nodes) >= KNOWN_NODES:
                    self._nodes.clear()
                self._nodes[text] = known
        return known

    # ---------------------------------------------------------------- what

    def apply(self, scope: Scope, fields: list[Header]) -> None:
        """Puts what the fields say into `scope`. `fields` may hold others too, names in lower case."""
        lines: Lines = {}
        for name, value in fields:
            if name in self._fields:
                lines.setdefault(name, []).append(value)
        if not lines:
            return
        if b"forwarded" in lines:
            self._apply_forwarded(scope, lines[b"forwarded"])
        if b"x-forwarded-for" in lines:
            self._apply_hops(scope, lines[b"x-forwarded-for"])
        if b"x-forwarded-proto" in lines:
            scope["scheme"] = SCHEMES.get(_nearest(lines, b"x-forwarded-proto").lower(), scope["scheme"])
        if b"x-forwarded-host" in lines or b"x-forwarded-port" in lines:
            _apply_authority(scope, _nearest(lines, b"x-forwarded-host"), _nearest(lines, b"x-forwarded-port"))
        if b"x-forwarded-prefix" in lines:
            _apply_prefix(scope, lines[b"x-forwarded-prefix"][-1].strip(b" \t"))

    def _apply_hops(self, scope: Scope, lines: list[bytes]) -> None:
        hops = [hop for line in lines for hop in line.split(b",") if hop.strip(b" \t")]
        if self._everybody:
            hops = hops[:1]
        found: HostPort | None = None
        for hop in reversed(hops):
            found, trusted = self._node(hop)
            if not trusted:
                break
        if found is not None:
            scope["client"] = None if found is HIDDEN else found

    def _apply_forwarded(self, scope: Scope, lines: list[bytes]) -> None:
        """RFC 7239. Of `proto` and `host`, the word of the proxy that is nearest to the client and says one."""
        elements = [element for line in lines for element in read_elements(line)]
        if self._everybody:
            elements = elements[:1]
        found: HostPort | None = None
        scheme, host = scope["scheme"], b""
        for element in reversed(elements):
            if element is None:
                return
            scheme = SCHEMES.get(element.get(b"proto", b"").lower(), scheme)
            host = element.get(b"host", host)
            if b"for" not in element:  # who sent to this proxy is not said, nor, then, who wrote what is left of it
                break
            found, trusted = self._node(element[b"for"])
            if found is None:
                return
            if not trusted:
                break
        if found is not None:
            scope["client"] = None if found is HIDDEN else found
        scope["scheme"] = scheme
        _apply_authority(scope, host, b"")


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """`::ffff:10.0.0.0/104` -> `10.0.0.0/8`, since mapped peers are looked up as IPv4."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None or network.prefixlen < 96 else IPv4Network((mapped, network.prefixlen - 96))


def _nearest(lines: Lines, name: bytes) -> bytes:
    """What the peer itself wrote: the last value of the last line. Empty where there is none."""
    return lines[name][-1].rpartition(b",")[2].strip(b" \t") if name in lines else b""


def _apply_authority(scope: Scope, host: bytes, port_text: bytes) -> None:
    """The host and port that the client asked for. Both may be empty or malformed.

    Starlette and Django build their links from the host field; `server` is their second choice, and Django's
    SERVER_NAME and SERVER_PORT. The scheme's own port is left out of the field, as browsers do: Django compares
    it with Origin.
    """
    port = read_port(port_text)
    headers: list[Header] = scope["headers"]
    told = read_authority(host)
    authority = told or (port and read_authority(next((value for name, value in headers if name == b"host"), b"")))
    if not authority:
        if port and scope["server"] is not None and scope["server"][1] is not None:
            scope["server"] = (scope["server"][0], port)
        return
    name, own_port = authority
    default = DEFAULT_PORTS[scope["scheme"]]
    if port:
        host = name if port == default else b"%b:%d" % (name, port)
    scope["headers"] = [(b"host", host), *(field for field in headers if field[0] != b"host")]
    scope["server"] = (name.decode().strip("[]"), port or own_port or default)


def _apply_prefix(scope: Scope, text: bytes) -> None:
    """The path that a proxy has taken off the front of the target (nginx's `proxy_pass http://up/;`)."""
    prefix = read_prefix(text)
    if prefix is None or scope["path"] == "*":
        return
    before = scope["root_path"]
    root_path = unquote_to_bytes(prefix).decode("utf-8", "replace")
    scope["root_path"] = root_path
    scope["path"] = root_path + scope["path"][len(before) :]
    scope["raw_path"] = prefix + scope["raw_path"][len(before.encode()) :]
