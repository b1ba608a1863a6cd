"""The clients' TitanStore methods."""

from __future__ import annotations

from titan_sdk.client_base import AsyncClientBase, ClientBase
from titan_sdk.flows import store

__all__ = ["AsyncStoreMethods", "StoreMethods"]


class StoreMethods(ClientBase):
    """TitanStore: values and sets that all clients and jobs of a master share."""

    def store_put(self, key: str, value: str) -> str:
        """Set a key to any text up to 512 Mi characters; read back exactly by ``store_get``. Last writer wins.

        Returns Titan's word ``OK``; anything else is raised. A value over 10 MiB is stored in parts, which only this SDK
        puts together again.

        Raises:
            PayloadTooLarge: larger than that. Nothing was sent.
            StoreUnavailable: the master's store does not keep it; ``outcome_unknown`` where another value reads back.
            ConnectionLost, TimedOut: ``outcome_unknown`` tells whether it may be there.
        """
        self._run(store.store_put(self._session, key, value))
        return "OK"

    def store_get(self, key: str) -> str | None:
        """The key's text, or ``None`` when it is absent; of a real master also while its store is away, which it does not tell."""
        return self._run(store.store_get(key))

    def store_sadd(self, key: str, member: str) -> int:
        """Add to a set: 1 when the member is new, 0 when it was there.

        Exact on the bundled master. A real one does not tell, so the members are read first: two clients that add
        the same member at the same instant may both read 1.

        Raises:
            StoreUnavailable: the master's store does not keep it.
        """
        return self._run(store.store_sadd(self._session, key, member))

    def store_smembers(self, key: str) -> list[str]:
        """All members of a set, sorted; empty when there is no such set, and of a real master while its store is away."""
        return self._run(store.store_smembers(key))

    def store_delete(self, key: str) -> bool:
        """Remove a value or a set; whether it was there. Idempotent.

        Raises:
            NotSupported: on a real master, which cannot delete.
        """
        return self._run(store.store_delete(self._session, key))

    def store_keys(self, prefix: str = "") -> list[str]:
        """Keys of values and sets that begin with ``prefix``, sorted.

        Raises:
            NotSupported: on a real master, which cannot list.
        """
        return self._run(store.store_keys(self._session, prefix))

    def store_expire(self, key: str, seconds: float) -> bool:
        """Delete a key after ``seconds``, unless it is written again before; whether it is there.

        Raises:
            NotSupported: on a real master, which keeps everything.
        """
        return self._run(store.store_expire(self._session, key, seconds))

    def store_swap(self, key: str, expected: str | None, value: str | None) -> bool:
        """Compare and set: write ``value`` only if the key holds ``expected``; whether it was written.

        ``expected=None`` means absent, ``value=None`` deletes. Atomic among all clients of the master.

        Raises:
            NotSupported: on a real master, which has no such operation.
        """
        return self._run(store.store_swap(self._session, key, expected, value))


class AsyncStoreMethods(AsyncClientBase):
    """As ``StoreMethods``, awaited."""

    async def store_put(self, key: str, value: str) -> str:
        """Set a key to any text up to 512 Mi characters; read back exactly by ``store_get``. Last writer wins.

        Returns Titan's word ``OK``; anything else is raised. A value over 10 MiB is stored in parts, which only this SDK
        puts together again.

        Raises:
            PayloadTooLarge: larger than that. Nothing was sent.
            StoreUnavailable: the master's store does not keep it; ``outcome_unknown`` where another value reads back.
            ConnectionLost, TimedOut: ``outcome_unknown`` tells whether it may be there.
        """
        await self._run(store.store_put(self._session, key, value))
        return "OK"

    async def store_get(self, key: str) -> str | None:
        """The key's text, or ``None`` when it is absent; of a real master also while its store is away, which it does not tell."""
        return await self._run(store.store_get(key))

    async def store_sadd(self, key: str, member: str) -> int:
        """Add to a set: 1 when the member is new, 0 when it was there.

        Exact on the bundled master. A real one does not tell, so the members are read first: two clients that add
        the same member at the same instant may both read 1.

        Raises:
            StoreUnavailable: the master's store does not keep it.
        """
        return await self._run(store.store_sadd(self._session, key, member))

    async def store_smembers(self, key: str) -> list[str]:
        """All members of a set, sorted; empty when there is no such set, and of a real master while its store is away."""
        return await self._run(store.store_smembers(key))

    async def store_delete(self, key: str) -> bool:
        """Remove a value or a set; whether it was there. Idempotent.

        Raises:
            NotSupported: on a real master, which cannot delete.
        """
        return await self._run(store.store_delete(self._session, key))

    async def store_keys(self, prefix: str = "") -> list[str]:
        """Keys of values and sets that begin with ``prefix``, sorted.

        Raises:
            NotSupported: on a real master, which cannot list.
        """
        return await self._run(store.store_keys(self._session, prefix))

    async def store_expire(self, key: str, seconds: float) -> bool:
        """Delete a key after ``seconds``, unless it is written again before; whether it is there.

        Raises:
            NotSupported: on a real master, which keeps everything.
        """
        return await self._run(store.store_expire(self._session, key, seconds))

    async def store_swap(self, key: str, expected: str | None, value: str | None) -> bool:
        """Compare and set: write ``value`` only if the key holds ``expected``; whether it was written.

        ``expected=None`` means absent, ``value=None`` deletes. Atomic among all clients of the master.

        Raises:
            NotSupported: on a real master, which has no such operation.
        """
        return await self._run(store.store_swap(self._session, key, expected, value))
