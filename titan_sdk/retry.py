"""The retry rule: whether a request may be sent again after an error, and what its last error means.

A request that changes something is repeated only if the copy is harmless: the master remembers the request's id (ONCE),
the request names its submission (SUBMIT), or a copy changes nothing more.
"""

from __future__ import annotations

import time
from typing import Generic, TypeVar

from titan_sdk.config import ClientConfig
from titan_sdk.errors import (
    ConnectionLost,
    NotSupported,
    PayloadTooLarge,
    TimedOut,
    TLSFailed,
    TransportError,
)
from titan_sdk.model.server import ServerInfo
from titan_sdk.session import Session
from titan_sdk.transport.sync import Greeting
from titan_sdk.wire import calls, exactly_once, hello
from titan_sdk.wire.calls import Call
from titan_sdk.wire.exactly_once import RequestId
from titan_sdk.wire.frames import MAX_PAYLOAD, Frame, encode_frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["SETTLE_SECONDS", "Attempts", "greeting_of", "retry_pause"]

T = TypeVar("T")

SETTLE_SECONDS = 30.0
"""Seconds for which a request with an id is repeated to learn its outcome, while the master is killed and restarted.
The master remembers the id for longer than this.
"""
_LONGEST_PAUSE = 1.0
_IN_DOUBT = "the request may have taken effect, so ask for the state before repeating it"


class Attempts(Generic[T]):
    """The attempts of one request. A driver asks what to do next; this class does no I/O."""

    def __init__(self, session: Session, call: Call[T]) -> None:
        self.call = call
        self._session = session
        self._config = session.config
        self._request: RequestId | None = None
        self._is_sent = False
        self._tries = 0
        self._doubt: ConnectionLost | TimedOut | None = None
        """The first error after which the outcome of the request is unknown."""
        self._settle_until = 0.0

    @property
    def must_greet(self) -> bool:
        """Whether to send HELLO first. Its answer may allow kept connections, which saves a connect per request."""
        if self._session.server is not None or self.call.opcode is Opcode.HELLO:
            return False
        needs_to_know = self._request is not None or self.call.feature is not None
        return self._config.keep_alive or self._config.auth_token is not None or needs_to_know

    def next(self) -> tuple[int, bytes]:
        """Opcode and payload of the next attempt.

        Raises:
            PayloadTooLarge, LocalProtocolError: the request cannot be sent.
            ConnectionLost, TimedOut: another master answers now. It cannot know a request that may already have
                been carried out.
            NotSupported: another master answers now, and nothing was sent.
        """
        server = self._session.server
        feature = self.call.feature
        if feature is not None and not (server is not None and feature in server.features):
            self._settle_until = 0.0
            raise self._doubt or NotSupported(
                f"{self.call.name}: another master than before answers at {self._config.address} and does not know "
                "this request; nothing was sent, try again"
            )
        knows_ids = server is not None and "once" in server.features
        if (
            self._request is None
            and not self._is_sent
            and knows_ids
            and self.call.changes
            and self.call.with_id
        ):
            self._request = self._session.request_ids.take()
        if self._request is not None and not knows_ids:
            if self._doubt is not None:
                self._settle_until = 0.0
                raise self._doubt
            self._request = None
        payload = self.call.encoded()
        opcode: int = self.call.opcode
        if self._request is not None:
            opcode, payload = Opcode.ONCE, exactly_once.encode(self._request, opcode, payload)
        if len(payload) > MAX_PAYLOAD:
            raise PayloadTooLarge(self.call.name, len(payload), MAX_PAYLOAD, self.call.advice)
        self._is_sent = True
        return opcode, payload

    def read(self, frame: Frame) -> T:
        """The value of the reply."""
        if self._request is not None and frame.opcode == Opcode.ERROR:
            if frame.text.startswith(exactly_once.IN_DOUBT):
                raise self._told(self._doubt or ConnectionLost(f"{self.call.name}: {frame.text}"))
            if frame.text == exactly_once.OUT_OF_DATE:
                # A forked copy of this process uses the same channel.
                self._request = None
        return self.call.read(frame)

    def pause_after(self, exc: TransportError) -> float:
        """Seconds before the next attempt.

        Raises:
            TransportError: there is no next attempt; the error says whether the outcome is known.
        """
        self._session.forget_server(exc)
        self._tries += 1
        was_sent, self._is_sent = self._is_sent, False
        if (
            was_sent
            and self.call.changes
            and isinstance(exc, ConnectionLost | TimedOut)
            and self._doubt is None
        ):
            self._doubt = exc
            self._settle_until = time.monotonic() + SETTLE_SECONDS
        if not self._may_repeat(exc):
            raise self._told(exc)
        return retry_pause(self._tries, self._config)

    def close(self) -> None:
        """The request has ended; its id may be used again."""
        if self._request is not None:
            self._session.request_ids.give_back(self._request)
            self._request = None

    def _may_repeat(self, exc: TransportError) -> bool:
        attempts = self._config.retry.attempts
        if attempts == 1 or isinstance(exc, TLSFailed | TimedOut):
            return False
        if self._doubt is not None and (self._request is not None or self.call.feature is not None):
            return time.monotonic() < self._settle_until
        return self._tries < attempts and (self._doubt is None or self.call.repeatable)

    def _told(self, exc: TransportError) -> TransportError:
        """The error to raise. It never claims that nothing was sent if an earlier attempt may have been carried out."""
        doubt = self._doubt
        if doubt is None:
            if isinstance(exc, ConnectionLost | TimedOut):
                exc.outcome_unknown = False
            return exc
        later = "" if exc is doubt or isinstance(exc, TimedOut) else f" (at last: {exc})"
        return type(doubt)(f"{doubt}; {_IN_DOUBT}{later}", address=doubt.address, operation=doubt.operation)


def retry_pause(tries: int, config: ClientConfig) -> float:
    """Seconds before the next try: doubling, with jitter so that many clients do not return at once."""
    import random  # after a failure only

    nominal = config.retry.first_pause * float(2 ** min(tries - 1, 20))
    return min(nominal, max(_LONGEST_PAUSE, config.retry.first_pause)) * random.uniform(0.5, 1.0)


def greeting_of(config: ClientConfig) -> tuple[Call[ServerInfo], Greeting]:
    """HELLO: as a call that says who the master is, and as the frame that opens a connection."""
    call = calls.server_info(config.auth_token)
    return call, (encode_frame(call.opcode, call.encoded()), lambda frame: hello.check_reply(frame.text))
