"""Palfrey and others under Autobahn's WebSocket test suite: `scripts/autobahn`. What came of it: docs/conformance.md.

`suite.py` finds a Python 2.7 and makes the suite's environment, `contestants.py` has a row for each server, and
`results.py` keeps what came of it, in `results.json`, and writes the tables.
"""
