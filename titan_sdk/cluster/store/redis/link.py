"""The connection to the server: the only place that knows the client library, and what its errors mean."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from titan_sdk.cluster.store.base import StoreFailed
from titan_sdk.cluster.store.redis.client import make_client
from titan_sdk.cluster.store.redis.location import Location
from titan_sdk.cluster.store.redis.trouble import unreachable

__all__ = ["Gap", "InDoubt", "Link", "LostLease", "MemoryFull"]

log = logging.getLogger(__name__)


class InDoubt(StoreFailed):
    """Sent, and no reply came: it may have been done."""


class MemoryFull(StoreFailed):
    """The server takes nothing more; nothing was done."""


class LostLease(StoreFailed):
    """Another master writes here, or what was here is gone; nothing was done."""


class Gap(StoreFailed):
    """The server has forgotten commits that it had acknowledged; ``last`` is the last that it knows."""

    def __init__(self, last: int) -> None:
        super().__init__(f"the store knows commits up to number {last} only")
        self.last = last


class Link:
    """Every method raises ``StoreFailed``; a plain one means that nothing was done.

    Raises:
        InvalidArgument: see ``make_client``.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._client = make_client(location)
        self._prefix = location.prefix.encode()
        self._digests: dict[str, str] = {}

    def key(self, name: str) -> bytes:
        """A key below the prefix."""
        try:
            return self._prefix + b":" + name.encode()
        except UnicodeError as exc:
            # Half of a surrogate pair, which JSON can write and no text file can hold.
            raise StoreFailed(str(exc)) from exc

    async def call(self, *command: Any) -> Any:
        """One command and its reply."""
        return await self._exchange(command)

    async def run(self, script: str, *args: Any) -> Any:
        """A script on this prefix, sent as its digest where the server has it."""
        digest = self._digests.get(script)
        if digest is None:
            digest = self._digests[script] = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        try:
            return await self._exchange(("EVALSHA", digest, 1, self._prefix, *args))
        except _NoScript:
            return await self._exchange(("EVAL", script, 1, self._prefix, *args))

    async def info(self) -> dict[str, str]:
        """What the server says of itself; empty if it does not."""
        try:
            text = bytes(await self._exchange(("INFO",)))
        except _Refused:
            return {}
        lines = text.decode("utf-8", "replace").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    async def close(self) -> None:
        await self._client.aclose()

    async def _exchange(self, command: tuple[Any, ...]) -> Any:
        from redis import exceptions

        pool = self._client.connection_pool
        try:
            connection = await pool.get_connection()
        except (exceptions.RedisError, OSError) as exc:
            raise StoreFailed(unreachable(self.location, exc)) from exc
        done = False
        try:
            await connection.send_command(*command)
            reply = await connection.read_response()
            done = True
        except exceptions.ResponseError as exc:
            done = True
            raise self._refusal(exc) from exc
        except (exceptions.RedisError, OSError) as exc:
            raise InDoubt(unreachable(self.location, exc)) from exc
        finally:
            if not done:
                await connection.disconnect(nowait=True)
            await pool.release(connection)
        return reply

    def _refusal(self, exc: Exception) -> StoreFailed:
        from redis import exceptions

        where, text = self.location.shown, str(exc)
        word, _, rest = text.partition(" ")
        if word == "TITANLOST":
            return LostLease(rest)
        if word == "TITANGAP":
            return Gap(int(rest.split()[0]))
        if isinstance(exc, exceptions.NoScriptError):
            return _NoScript(text)
        if isinstance(exc, exceptions.OutOfMemoryError) or "OOM command" in text:
            return MemoryFull(
                f"the memory of the store {where} is full ({text}); raise its maxmemory, or let it keep less"
            )
        if isinstance(exc, exceptions.ReadOnlyError) or "READONLY" in text:
            return _Refused(f"the store {where} is a replica, which cannot be written; name the primary")
        if isinstance(exc, exceptions.AuthenticationError) or text.startswith(("NOAUTH", "WRONGPASS")):
            return _Refused(unreachable(self.location, exceptions.AuthenticationError(text)))
        if isinstance(exc, exceptions.NoPermissionError) or text.startswith("NOPERM"):
            return _Refused(
                f"the store {where} has a user without the rights for that ({text}); docs/store.md has the rights "
                f"that it needs below the prefix {self.location.prefix!r}"
            )
        if "MISCONF" in text:
            return _Refused(
                f"the store {where} cannot write its file and so takes no changes ({text}); free its disk"
            )
        return _Refused(f"the store {where} refuses: {text}")


class _NoScript(StoreFailed):
    pass


class _Refused(StoreFailed):
    pass
