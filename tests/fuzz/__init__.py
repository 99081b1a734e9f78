"""Requests and WebSocket frames that nobody wrote: corpus entries, broken and recombined, must come to the same end for
every reader.

    mutate.py   one random source -> raw bytes, out of tests/corpus
    readers.py  what h11 and llhttp, each reading a whole stream by itself, take those bytes for
    judge.py    replays the bytes in several ways and compares
    frames.py   all of it for frames: seeds, mutations, wsproto as the other reader, and a judge

`test_fuzz.py` runs a bounded number of them, the same in every run. `python -m tests.fuzz --seconds 300` looks on for
as long as it is told, new ones each time, and prints what fails as a line of Python that can join the corpus.
"""
