"""What `reload` means for other settings: other defaults, and one worker.

A developer who stops at `breakpoint()` is no stuck worker, one who debugs a startup no slow boot, and a stream that a
browser tab holds open must not keep code alive that has been edited since. Whoever sets these himself, in whatever
source, is believed. The number of workers is different: two would answer in turns, and debug on the same terminal.
"""

from __future__ import annotations

from typing import Any, Final

DEFAULTS: Final[dict[str, Any]] = {"timeout": 0.0, "boot_timeout": 0.0, "graceful_timeout": 1.0}
"""Of settings, while `reload` is on."""
FIXED: Final[dict[str, tuple[Any, str]]] = {
    "workers": (1, "with reload one worker serves (SIGTTIN adds more)"),
    "preload_app": (False, "with reload the worker imports the application, there is nobody to share it with"),
}
"""Settings that have one value while `reload` is on, and the reason."""


def develop(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Changes what was set, by canonical name, to what holds with `reload`. Returns the settings that were overruled,
    with the reason; nothing, and changes nothing, without it."""
    if not values.get("reload"):
        return []
    for name, value in DEFAULTS.items():
        values.setdefault(name, value)
    overruled = [(name, why) for name, (value, why) in FIXED.items() if values.get(name, value) != value]
    values.update({name: value for name, (value, _) in FIXED.items()})
    return overruled
