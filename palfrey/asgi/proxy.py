"""Who the client is when a trusted proxy says so: X-Forwarded-For and X-Forwarded-Proto.

`Trusted` is parsed once from `forwarded_allow_ips` (addresses, networks, UNIX socket paths, `*`). A connection asks
once whether its peer is trusted; only then are its requests' headers looked at. The client is the right-most address
in the list that is not itself a trusted proxy, since everything left of it is the client's own say.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palfrey.types import Header, HostPort, Scope

SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}


class Trusted:
    """The peers whose forwarded headers are believed."""

    __slots__ = ("_everybody", "_networks", "_paths")

    def __init__(self, text: str) -> None:
        """`text`: comma-separated addresses, networks, UNIX socket paths, or `*` for everybody."""
        words = [word.strip() for word in text.split(",") if word.strip()]
        self._everybody = "*" in words
        self._networks: list[IPv4Network | IPv6Network] = []
        self._paths: set[str] = set()
        for word in words:
            try:
                self._networks.append(ip_network(word, strict=False))
            except ValueError:
                self._paths.add(word)

    def host(self, host: str) -> bool:
        """Whether this address is a trusted proxy's; what is no address is not."""
        if self._everybody:
            return True
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return host in self._paths
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)

    def peer(self, client: HostPort | None, server: HostPort | None) -> bool:
        """Whether the connection's other end is one; on a UNIX socket, whether the socket's own path is listed."""
        if client is not None:
            return self.host(client[0])
        return self._everybody or (server is not None and server[0] in self._paths)

    def apply(self, scope: Scope, headers: list[Header]) -> None:
        """Puts what the headers say into `scope`'s client and scheme. Malformed values change nothing."""
        hops: list[bytes] = []
        for name, value in headers:
            if name == b"x-forwarded-proto":
                scheme = SCHEMES.get(value.rpartition(b",")[2].strip().lower())
                if scheme is not None:
                    scope["scheme"] = scheme
            elif name == b"x-forwarded-for":
                hops.extend(value.split(b","))
        client = self._client(hops)
        if client is not None:
            scope["client"] = client

    def _client(self, hops: list[bytes]) -> HostPort | None:
        """The right-most untrusted hop; the left-most one when all are trusted; None when it is no address."""
        if self._everybody:
            hops = hops[:1]
        found: HostPort | None = None
        for hop in reversed(hops):
            found = _address(hop.strip())
            if found is None or not self.host(found[0]):
                break
        return found


def _address(text: bytes) -> HostPort | None:
    """`1.2.3.4`, `1.2.3.4:567`, `::1` or `[::1]:567` -> (host, port), the port 0 where it is not said."""
    host, port = text.decode("latin-1"), 0
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        port = _port(rest[1:]) if rest[:1] == ":" else 0
    elif host.count(":") == 1:
        host, _, rest = host.partition(":")
        port = _port(rest)
    try:
        ip_address(host)
    except ValueError:
        return None
    return (host, port)


def _port(text: str) -> int:
    """0 for what is no port. Bounded before int(), which raises for numbers of thousands of digits."""
    port = int(text) if len(text) <= 5 and text.isascii() and text.isdigit() else 0
    return port if port < 65536 else 0
