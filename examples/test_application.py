"""Tests of an application on a real server: `pytest examples/test_application.py`.

What the tests need is any client; here it is Python's own.
"""

import json
from urllib.request import Request, urlopen

from hello import app

from palfrey.testing import serve


def test_a_page():
    with serve(app) as url, urlopen(f"{url}/info") as answer:
        assert answer.status == 200
        assert "pid" in json.load(answer)


def test_an_upload():
    with serve(app) as url, urlopen(Request(f"{url}/echo", data=b"something", method="POST")) as answer:
        assert answer.read() == b"something"


def test_its_logs(palfrey_server):
    server = palfrey_server(app, headers=["x-served-by: the test"])
    with urlopen(server.url) as answer:
        assert answer.headers["x-served-by"] == "the test"
    assert '"GET / HTTP/1.1" 200' in server.logs.access[0]
    assert server.logs.errors == []
