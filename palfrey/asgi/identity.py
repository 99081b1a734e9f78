"""Request ids, by the `request_id` setting: one name for a request in every log that it passes.

A proxy that has named the request is believed, if it is a trusted one and the name is well formed; else a name is made.
It goes into scope["state"]["request_id"], which frameworks show as `request.state.request_id`, into the response under
the field that the setting names, where the application does not set that itself, and into the logs. The request's own
fields stay as they came.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palfrey.asgi.request import Request

WELL_FORMED = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}")
"""What every log and header takes as it is. UUIDs, hexadecimal, base64, and the ids of AWS and Google fit it."""


class RequestIds:
    """A worker's giver of ids. To be made after the fork: siblings must not draw the same ones."""

    __slots__ = ("_random", "field")

    def __init__(self, name: str) -> None:
        """`name` is the field's, in any case."""
        self.field = name.lower().encode("ascii")
        # Seeded by the system. 32 hexadecimal digits, as nginx's $request_id; unique, but no secret.
        self._random = random.Random()

    def give(self, request: Request, trusted: bool) -> None:
        """Names a request that has just been read; `trusted` is whether its peer may have named it."""
        told = [value for name, value in request.request_headers if name == self.field] if trusted else []
        if len(told) == 1 and WELL_FORMED.fullmatch(told[0]):
            value = told[0]
        else:
            value = b"%032x" % self._random.getrandbits(128)
        request.id_field = (self.field, value)
        request.scope["state"]["request_id"] = value.decode("ascii")
