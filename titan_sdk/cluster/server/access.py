"""Who may ask this master: its token, and whether other machines can reach it at all."""

from __future__ import annotations

import hashlib
import hmac

from titan_sdk.wire import hello
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["MIN_TOKEN", "Access"]

MIN_TOKEN = 16
"""Characters: what a request per microsecond cannot guess."""


class Access:
    """Lets a connection in when its HELLO shows the token. Without a token it is open to everybody."""

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else _digest(token)
        self._jobs_digest: bytes | None = None
        self.refused = 0
        """How many requests were turned away."""

    def admit_jobs(self, token: str) -> None:
        """Let those in as well that show this, which only jobs are given."""
        self._jobs_digest = _digest(token)

    @property
    def is_open(self) -> bool:
        return self._digest is None

    def refusal(self, frame: Frame) -> str | None:
        """Why the connection is not let in by this request; ``None`` lets it in."""
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
        # Digests have one length, so the time of the comparison says nothing about the token's either.
        known = [self._digest] if self._jobs_digest is None else [self._digest, self._jobs_digest]
        if not any(hmac.compare_digest(_digest(token), digest) for digest in known):
            return self._refuse("the token is not this master's; ask whoever runs it for the current one")
        return None

    def _refuse(self, sentence: str) -> str:
        self.refused += 1
        return hello.REFUSED + sentence


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
