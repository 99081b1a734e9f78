"""A small tool with an HTTP port and no framework: a key-value store in memory.

python examples/handler_tool.py 8000

curl -d 'one' http://127.0.0.1:8000/store/a        # POST sets a value
curl http://127.0.0.1:8000/store/a                 # GET reads it
curl -X DELETE http://127.0.0.1:8000/store/a
curl http://127.0.0.1:8000/store?prefix=a          # the names, one a line
curl -N http://127.0.0.1:8000/count?to=5           # a stream, one line at a time
curl -d '' http://127.0.0.1:8000/stop
"""

import sys
import time

from palfrey.handler import HttpServer


def handle(request, response, values):
    """Called for each request, one after another (`threads=False`), so that `values` needs no lock."""
    route = (request.method, request.path[0])
    name = "/".join(request.path[1:])
    if route == ("GET", "store") and not name:
        names = sorted(each for each in values if each.startswith(request.query.get("prefix", "")))
        response.data = "".join(f"{each}\n" for each in names)
    elif route == ("GET", "store") and name in values:
        response.headers["Content-Type"] = "application/octet-stream"
        response.data = values[name]
    elif route == ("POST", "store") and name:
        values[name] = request.data
        response.status = 201
    elif route == ("DELETE", "store") and name in values:
        del values[name]
        response.status = 204
    elif route == ("GET", "count"):
        response.data = count(int(request.query.get("to", "3")), float(request.query.get("pause", "1")))
    elif route == ("POST", "stop"):
        server.stop()
        response.data = "bye\n"
    else:
        response.status = 404
        response.data = "there is no such thing\n"


def count(to, pause):
    """Each line is on its way before the next is made, and between two of them others are answered."""
    for number in range(1, to + 1):
        yield f"{number}\n"
        time.sleep(pause)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    server = HttpServer(port, handle, ({},), threads=False, start=False)
    with server:
        print(f"Serving on {server.url}", flush=True)
        try:
            server.wait()
        except KeyboardInterrupt:
            pass
