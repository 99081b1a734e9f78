"""What the HTTP/2 connections of a worker remember together: requests (fields.py, request.py), responses (render.py).

Each part is bounded by whoever fills it, and none holds credentials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palfrey.protocols.http2.fields import FieldSieve

if TYPE_CHECKING:
    from palfrey.protocols.http2.render import Field, Name
    from palfrey.protocols.http2.request import Lead
    from palfrey.types import Header


class Memory:
    """One a worker."""

    __slots__ = ("leads", "lengths", "response_fields", "response_names", "sieve", "unique")

    def __init__(self, header_map: str, limit_field: int, unique: bytes) -> None:
        """The first two are FieldSieve's; `unique` names a response field that never has the same value twice."""
        self.sieve = FieldSieve(header_map, limit_field)
        self.leads: dict[tuple[Header, ...], Lead] = {}
        """A request's pseudo-header fields -> what they say."""
        self.response_fields: dict[Header, Field] = {}
        """A response's field, as the application has it -> what there is to know."""
        self.response_names: dict[bytes, Name] = {}
        """The same for its name."""
        self.lengths: dict[int, bytes] = {}
        """A content-length -> its literal."""
        self.unique = unique
