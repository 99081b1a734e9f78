"""Exchanges to applications and back: the ASGI side of every protocol."""
