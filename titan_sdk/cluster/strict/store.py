"""The real master's store, and the one connection to it that the whole master shares (protocol section 8.1).

The connection counts UTF-16 units where bytes are meant. A reply with other characters than ASCII is therefore
read too short, and its tail is taken for the beginning of the next reply, whoever asked.
"""

from __future__ import annotations

__all__ = ["StoreConfused", "StoreLink", "StoreServer"]


class StoreConfused(Exception):
    """A reply of an unexpected type. In a real master an unchecked exception: it ends the thread that meets it."""


class _LinkBroken(Exception):
    """The connection cannot go on; the next command opens a new one."""


class StoreServer:
    """The key/value process beside the master: outlives the master, and can be stopped."""

    def __init__(self) -> None:
        self.up = True
        self.generation = 0
        """Counts the starts; a connection belongs to one of them."""
        self._values: dict[str, str] = {}
        self._sets: dict[str, set[str]] = {}

    def stop(self) -> None:
        self.up = False

    def start(self) -> None:
        """Values come back from its file; sets are not in it."""
        if not self.up:
            self.up = True
            self.generation += 1
            self._sets.clear()

    def answer(self, command: str, key: str, argument: str = "") -> bytes:
        """The reply as it travels."""
        if command == "SET":
            self._values[key] = argument  # a set of the same name stays beside it
            return b"+OK\r\n"
        if command == "GET" and (key in self._values or key not in self._sets):
            return _bulk(self._values.get(key))
        if command == "GET" or (key in self._values and key not in self._sets):
            return _wrong_type()
        members = self._sets.get(key, set())
        if command == "SMEMBERS":
            return b"*%d\r\n" % len(members) + b"".join(map(_bulk, members))
        if command == "SADD":
            self._sets.setdefault(key, set()).add(argument)
            return b":%d\r\n" % (argument not in members)
        members.discard(argument)
        return b":0\r\n"


def _wrong_type() -> bytes:
    return b"-ERR wrong type of value\r\n"


def _bulk(text: str | None) -> bytes:
    if text is None:
        return b"$-1\r\n"
    return b"$%d\r\n%b\r\n" % (len(text.encode("utf-16-le")) // 2, text.encode())


class StoreLink:
    """The master's connection to its store. Never raises for a store that is down: nothing is what it says."""

    def __init__(self, server: StoreServer) -> None:
        self._server = server
        self._generation: int | None = None
        self._unread = bytearray()

    def connect(self) -> bool:
        """Whether a command would reach the store, after one try to connect."""
        if not self._server.up:
            self._generation = None
        elif self._generation != self._server.generation:
            broken = self._generation is not None
            self._generation = None if broken else self._server.generation
            self._unread.clear()
            # The command that finds its connection dead is lost; only the one after it connects again.
        return self._generation is not None

    def get(self, key: str) -> str | None:
        """A value; ``None`` when it is absent, the store is down, or the connection is out of step.

        Raises:
            StoreConfused: an earlier reply's tail was read as a number or a list.
        """
        return _text(self._execute("GET", key))

    def put(self, key: str, value: str) -> None:
        """Store, or lose, a value. Raises StoreConfused as ``get``."""
        _text(self._execute("SET", key, value))

    def add(self, key: str, member: str) -> None:
        self._execute("SADD", key, member)

    def remove(self, key: str, member: str) -> None:
        self._execute("SREM", key, member)

    def members(self, key: str) -> set[str]:
        """The members, or none where the connection is out of step."""
        reply = self._execute("SMEMBERS", key)
        return {str(item) for item in reply} if isinstance(reply, list) else set()

    # ------------------------------------------------------------------ the connection

    def _execute(self, command: str, key: str, argument: str = "") -> object:
        if not self.connect():
            return None
        self._unread += self._server.answer(command, key, argument)
        try:
            return self._reply()
        except _LinkBroken:
            self._generation = None
            self._unread.clear()
            return None

    def _reply(self) -> object:
        kind = self._take(1)
        if kind == b"+":
            return self._line()
        if kind == b":":
            return self._number()
        if kind == b"$":
            return self._bulk()
        if kind == b"*":
            return [self._reply() for _ in range(self._number())]
        raise _LinkBroken  # an error reply, or something that is no reply at all

    def _bulk(self) -> str | None:
        size = self._number()
        if size == -1:
            return None
        if size < 0:
            raise StoreConfused(str(size))
        text = self._take(size).decode(errors="replace")
        del self._unread[:2]  # whatever it is; a line end where all is well
        return text

    def _number(self) -> int:
        line = self._line()
        try:
            return int(line)
        except ValueError:
            raise StoreConfused(f'For input string: "{line}"') from None

    def _line(self) -> str:
        end = self._unread.find(b"\r")
        if end < 0:
            raise _LinkBroken
        line = bytes(self._unread[:end]).decode("latin-1")
        del self._unread[: end + 2]
        return line

    def _take(self, size: int) -> bytes:
        """So many bytes. A real master would wait for more for ever; here the connection is given up."""
        if size > len(self._unread):
            raise _LinkBroken
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken


def _text(reply: object) -> str | None:
    if reply is None or isinstance(reply, str):
        return reply
    raise StoreConfused(f"class {type(reply).__name__} cannot be cast to class java.lang.String")
