"""Bytes to exchanges and back: one package for each protocol."""
