"""Access to the master: the token that a connection must show."""

from __future__ import annotations

import hashlib
import hmac

from titan_sdk.wire import hello
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["MIN_TOKEN", "Access"]

MIN_TOKEN = 16
"""The shortest token in characters: one request per microsecond cannot guess it."""


class Access:
    """Lets a connection in if its HELLO shows the token. Without a token every connection is let in."""

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else _digest(token)
        self._jobs_digest: bytes | None = None
        self.refused = 0
        """The number of refused requests."""

    def admit_jobs(self, token: str) -> None:
        """Accept a second token, which only jobs get."""
        self._jobs_digest = _digest(token)

    @property
    def is_open(self) -> bool:
        return self._digest is None

    def refusal(self, frame: Frame) -> str | None:
        """The reason why this request does not let the connection in, or ``None``."""
        if self._digest is None:
            return None
        if frame.opcode != Opcode.HELLO:
            return self._refuse(
                "this master takes requests only after a HELLO with its token; set auth_token (TITAN_AUTH_TOKEN) in a "
                "client of titan_sdk. Clients of Titan v1 know no token and cannot use this master"
            )
        token = hello.read_token(frame.payload)
        if token is None:
            return self._refuse(
                "this master wants a token and got none; set auth_token (TITAN_AUTH_TOKEN, or the connection's extra)"
            )
        # Digests have equal lengths, so the time of the comparison does not reveal the token's length.
        known = [self._digest] if self._jobs_digest is None else [self._digest, self._jobs_digest]
        if not any(hmac.compare_digest(_digest(token), digest) for digest in known):
            return self._refuse("the token is not this master's; ask its operator for the current one")
        return None

    def _refuse(self, sentence: str) -> str:
        self.refused += 1
        return hello.REFUSED + sentence


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
