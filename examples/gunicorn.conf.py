"""Gunicorn's configuration for Palfrey's workers (docs/gunicorn.md).

Run: gunicorn --chdir examples -c examples/gunicorn.conf.py hello:app
"""

worker_class = "palfrey.workers.PalfreyWorker"
workers = 2

keepalive = 5  # behind a proxy: longer than the proxy keeps idle connections
timeout = 30  # a worker whose event loop stands still for so long is aborted, and its stack logged
graceful_timeout = 30
max_requests = 10_000
max_requests_jitter = 1_000  # so that the workers do not all go together

accesslog = "-"
access_log_format = '%(h)s "%(r)s" %(s)s %(b)s %(M)sms'


def post_worker_init(worker):
    worker.log.info("The application is loaded in %s", worker.pid)


def worker_abort(worker):
    worker.log.error("%s hung; the stack above says where", worker.pid)
