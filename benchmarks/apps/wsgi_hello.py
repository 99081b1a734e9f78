"""A WSGI application that answers with 13 bytes."""

HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "13")]


def app(environ, start_response):
    start_response("200 OK", HEADERS)
    return [b"Hello, world!"]
