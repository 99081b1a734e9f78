-- The load of the echo scenario: wrk takes a request's content from a script only. 10 KiB, as scenarios.py has it.
wrk.method = "POST"
wrk.body = string.rep("x", 10240)
wrk.headers["Content-Type"] = "application/octet-stream"
