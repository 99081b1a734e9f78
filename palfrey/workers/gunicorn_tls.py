"""TLS under Gunicorn: the context is made in Gunicorn's arbiter, before the fork, and all workers inherit it.

So a session that one worker has begun resumes with any other: the keys of the tickets are the context's. It also means
that the key is read with the arbiter's privileges, each time. A context is good until the configuration is loaded
again (HUP) or its files change, which is looked at when a worker is started; the next one has new keys. Where a new
one cannot be made (half of a renewed certificate is there), the old one serves on, and the log says why.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from palfrey.errors import ConfigError
from palfrey.system.tls import HTTP1, HTTP2, make_tls, server_context, stamps

if TYPE_CHECKING:
    import ssl

    from palfrey.config.settings import Settings
    from palfrey.system.tls import ServerTls, Stamps


class Contexts:
    """The present one. One an arbiter."""

    def __init__(self) -> None:
        self._tls: ServerTls | None = None
        self._tried: tuple[Any, Stamps] | None = None
        """Configuration and files that a context was last made from, or would have been."""

    def give(self, cfg: Any, settings: Settings, log: Any) -> ServerTls | None:
        """For a worker that is about to be forked; None: no TLS. Raises ConfigError where there is none to fall back
        on."""
        if not (cfg.is_ssl or settings.ssl_certfile):
            self._tls = self._tried = None
            return None
        files = stamps(_files(cfg, settings))
        tried, self._tried = self._tried, (cfg, files)
        if self._tls is not None and tried is not None and tried[0] is cfg and tried[1] == files:
            return self._tls
        try:
            made = tls_of(cfg, settings)
        except ConfigError as error:
            if self._tls is None:
                raise
            log.error("%s. The TLS context from before serves on", error)
        else:
            self._tls = made
            if made is not None and made.notice is not None:
                log.warning("%s", made.notice)
        return self._tls


def tls_of(cfg: Any, settings: Settings) -> ServerTls | None:
    """What Gunicorn's TLS settings and its hook ssl_context make together; None: no TLS. Raises ConfigError."""
    if not (cfg.is_ssl or settings.ssl_certfile):
        return None
    certfile, keyfile, ca_certs = files = _files(cfg, settings)

    def default() -> ssl.SSLContext:
        return server_context(
            certfile or "",
            keyfile,
            settings.ssl_keyfile_password,
            ca_certs,
            settings.ssl_cert_reqs or int(cfg.cert_reqs),
            settings.ssl_ciphers or cfg.ciphers or None,
            settings.ssl_min_version,
            HTTP2 if settings.http == "h2" else HTTP1,
        )

    ask = partial(cfg.ssl_context, cfg) if cfg.ssl_context != cfg.settings["ssl_context"].default else None
    return make_tls(certfile or "", default, ask, settings.ssl_handshake_timeout, files)


def _files(cfg: Any, settings: Settings) -> tuple[str | None, str | None, str | None]:
    """Certificate, key and authorities. Gunicorn's are not among `settings`, which must hold when files are gone."""
    return (
        settings.ssl_certfile or cfg.certfile,
        settings.ssl_keyfile or cfg.keyfile,
        settings.ssl_ca_certs or cfg.ca_certs,
    )
