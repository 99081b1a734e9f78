"""Palfrey's version, apart from the root package, whose public faces the arbiter must not load."""

__version__ = "0.1.0"
