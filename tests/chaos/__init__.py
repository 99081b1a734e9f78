"""A storm of signals over a server under load, after which every request is accounted for: `scripts/chaos --help`.

    __main__.py   the command line
    storm.py      one storm: start, load, acts, calm, end
    acts.py       the table of what is done to the server, and what has to follow
    site.py       the directory that is served: releases of the application, good and broken, and its configuration
    subject.py    the server under test: its processes, its log, what its arbiter holds
    audit.py      the books against each other: what the clients saw, what the application began, what was logged
    sabotage.py   faults put into the server on purpose, each of which a storm has to find
    compare.py    the same operations on other servers, with counts: docs/reliability.md
    idle.py       what an arbiter of many workers costs: docs/reliability.md

The clients are those of tests/support/loadclient.py.
"""
