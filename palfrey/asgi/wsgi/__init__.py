"""WSGI applications (PEP 3333), served by the same exchanges as ASGI's.

    environ.py    a request's scope -> environ
    errors.py     `wsgi.errors`
    input.py      `wsgi.input`: content in memory, spooled to disk, or read while it arrives
    response.py   `WsgiExchange`: what both ways of running have in common: start_response, heads, the client-gone check
    files.py      `wsgi.file_wrapper`
    inline.py     `--threads 0`: the application runs on the event loop, between two turns of it
    threaded.py   `--threads N`: it runs in a thread of the worker's, and the loop sends what it makes
    pool.py       those threads, and the hand-over to them

An exchange of either kind is an `Exchange` in everything but `run`: the application is called there, and what it
returns goes through the same phases, lengths and framing as an ASGI application's messages. `WsgiApp` is what a service
is given for its application: it names the kind of exchange, holds what they share, and takes part in the lifespan,
which ends the threads.
"""

from palfrey.asgi.wsgi.app import WsgiApp

__all__ = ["WsgiApp"]
