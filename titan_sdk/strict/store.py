"""The real master's store, and the one connection to it that the whole master shares (protocol section 8.1).

The connection counts UTF-16 units where bytes are meant. A reply with other characters than ASCII is therefore read too
short, and what it leaves unread costs the next command of anybody. (In a real master such a rest may even be taken for
that command's reply; that is not imitated.)
"""

from __future__ import annotations

__all__ = ["StoreLink", "StoreServer"]


class StoreServer:
    """The key/value process beside the master: outlives the master, and can be stopped."""

    def __init__(self) -> None:
        self.up = True
        self.generation = 0
        """Counts the starts; a connection belongs to one of them."""
        self.values: dict[str, str] = {}
        self.sets: dict[str, set[str]] = {}
        """A set and a value of one name lie side by side."""

    def stop(self) -> None:
        self.up = False

    def start(self) -> None:
        """Values come back from its file; sets are not in it."""
        if not self.up:
            self.up = True
            self.generation += 1
            self.sets.clear()


class StoreLink:
    """The master's connection to its store. Never raises for a store that is down: nothing is what it says."""

    def __init__(self, server: StoreServer) -> None:
        self._server = server
        self._generation: int | None = None

    def connect(self) -> bool:
        """Whether a command would reach the store, after one try to connect."""
        if not self._server.up:
            self._generation = None
        elif self._generation != self._server.generation:
            broken = self._generation is not None
            self._generation = None if broken else self._server.generation
            # The command that finds its connection dead is lost; only the one after it connects again.
        return self._generation is not None

    def get(self, key: str) -> str | None:
        """A value; ``None`` when it is absent, or the store does not answer."""
        value = self._server.values.get(key) if self.connect() else None
        return None if value is None else self._read(value)

    def put(self, key: str, value: str) -> None:
        """Store, or lose, a value."""
        if self.connect():
            self._server.values[key] = value

    def add(self, key: str, member: str) -> None:
        if self.connect() and not self._is_value(key):
            self._server.sets.setdefault(key, set()).add(member)

    def remove(self, key: str, member: str) -> None:
        if self.connect():
            self._server.sets.get(key, set()).discard(member)

    def members(self, key: str) -> set[str]:
        """The members; none where one of them cannot be read."""
        found = set(self._server.sets.get(key, ())) if self.connect() else set()
        return found if {self._read(member) for member in found} == found else set()

    def _is_value(self, key: str) -> bool:
        return key in self._server.values and key not in self._server.sets

    def _read(self, text: str) -> str:
        """The text as it arrives; one that is cut breaks the connection for the next command."""
        data, units = text.encode(), len(text.encode("utf-16-le")) // 2
        if units < len(data):
            self._generation = -1
        return data[:units].decode(errors="replace")
