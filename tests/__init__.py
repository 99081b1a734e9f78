"""Palfrey's tests. A package, so that test modules can share tests/support."""
