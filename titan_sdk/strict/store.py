"""The real master's store, and the one connection to it that the whole master shares (protocol section 8.1).

The connection counts UTF-16 units instead of bytes. A reply with non-ASCII characters is therefore read too short, and the
unread rest breaks the next command of any client. (In a real master the rest may even be taken for that command's reply;
this is not imitated.)
"""

from __future__ import annotations

__all__ = ["StoreLink", "StoreServer"]


class StoreServer:
    """The key-value process beside the master. It outlives the master, and can be stopped."""

    def __init__(self) -> None:
        self.up = True
        self.generation = 0
        """The number of starts. A connection belongs to one of them."""
        self.values: dict[str, str] = {}
        self.sets: dict[str, set[str]] = {}
        """The sets. A set and a value may have the same name."""

    def stop(self) -> None:
        self.up = False

    def start(self) -> None:
        """Start again: values come back from the file, sets are lost."""
        if not self.up:
            self.up = True
            self.generation += 1
            self.sets.clear()


class StoreLink:
    """The master's connection to its store. It never raises for a store that is down, and returns nothing instead."""

    def __init__(self, server: StoreServer) -> None:
        self._server = server
        self._generation: int | None = None

    def connect(self) -> bool:
        """Whether a command would reach the store, after one attempt to connect."""
        if not self._server.up:
            self._generation = None
        elif self._generation != self._server.generation:
            broken = self._generation is not None
            self._generation = None if broken else self._server.generation
            # A command on a dead connection is lost; only the next one connects again.
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
        """The members; none if one of them cannot be read."""
        found = set(self._server.sets.get(key, ())) if self.connect() else set()
        return found if {self._read(member) for member in found} == found else set()

    def _is_value(self, key: str) -> bool:
        return key in self._server.values and key not in self._server.sets

    def _read(self, text: str) -> str:
        """The text as it arrives. A cut text breaks the connection for the next command."""
        data, units = text.encode(), len(text.encode("utf-16-le")) // 2
        if units < len(data):
            self._generation = -1
        return data[:units].decode(errors="replace")
