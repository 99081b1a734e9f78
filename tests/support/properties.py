"""Hypothesis as these tests use it: the same examples in every run, so that a failure is a change's and not the day's.

`PALFREY_FUZZ=50 scripts/test tests/conformance/test_splits.py` looks further: fifty times as many, new ones each time.
"""

from __future__ import annotations

import os

from hypothesis import settings

FACTOR = int(os.environ.get("PALFREY_FUZZ", "0"))


def examples(count: int = 100) -> settings:
    """The settings of a property that is tried on `count` examples; stands above `@given`."""
    return settings(max_examples=count * max(1, FACTOR), derandomize=not FACTOR, deadline=None)
