"""A real redis-server that speaks TLS, and users of it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from tests.support.certificates import Authority, Identity
from tests.support.redis_server import RedisServer, free_port

__all__ = ["EncryptedRedis"]


class EncryptedRedis:
    """A server that speaks TLS on one port; the other is the test's own way in."""

    def __init__(self, folder: Path, authority: Authority, clients: str) -> None:
        self.port = free_port()
        files = ["--tls-cert-file", authority.server.cert, "--tls-key-file", authority.server.key]
        files += ["--tls-ca-cert-file", authority.ca, "--tls-auth-clients", clients]
        self.server = RedisServer(folder, "--tls-port", str(self.port), *files).start()

    def url(self, ca: str | None, client: Identity | None = None, *, login: str = "", host: str = "") -> str:
        options = {"ssl_ca_certs": ca}
        if client is not None:
            options |= {"ssl_certfile": client.cert, "ssl_keyfile": client.key}
        words = "&".join(f"{name}={quote(value)}" for name, value in options.items() if value is not None)
        return f"rediss://{login}{host or '127.0.0.1'}:{self.port}/0?{words}"

    def add_user(self, name: str, password: str, prefix: str) -> None:
        """With the rights that docs/store.md asks for."""
        rights = [f"~{prefix}", f"~{prefix}:*", "+@all", "-@admin", "-@dangerous", "+info"]
        assert self.server.say("ACL", "SETUSER", name, "on", f">{password}", *rights) == b"+OK\r\n"
