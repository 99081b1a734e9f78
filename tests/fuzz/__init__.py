"""Requests, WebSocket frames and connections of HTTP/2 that nobody wrote: corpus entries, and what a client might send,
broken and recombined, must come to the same end for every reader.

    mutate.py      one random source -> raw bytes, out of tests/corpus
    readers.py     what h11 and llhttp, each reading a whole stream by itself, take those bytes for
    judge.py       replays the bytes in several ways and compares
    frames.py      all of it for frames: seeds, mutations, wsproto as the other reader, and a judge
    http2.py       connections of HTTP/2: a client that is right, and what is done to its frames
    http2judge.py  replays them in several ways, with the package h2 as the other reader

`test_fuzz.py` runs a bounded number of them, the same in every run. `python -m tests.fuzz --seconds 300` looks on for
as long as it is told, new ones each time, and prints what fails as a line of Python that can join the corpus.
"""
