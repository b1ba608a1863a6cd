"""One call on its way to the master: what is sent, whether it may be sent again, and what its end means.

A request that changes something is repeated only where that is provably the same request: it bears an id that the
master remembers (ONCE), it names its submission (SUBMIT), or a copy changes nothing more.
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
from titan_sdk.wire import calls, hello, once
from titan_sdk.wire.calls import Call
from titan_sdk.wire.frames import MAX_PAYLOAD, Frame, encode_frame
from titan_sdk.wire.once import RequestId
from titan_sdk.wire.opcodes import Opcode

__all__ = ["SETTLE_SECONDS", "Sending", "greeting_of", "retry_pause"]

T = TypeVar("T")

SETTLE_SECONDS = 30.0
"""How long a request with an id is repeated to learn what became of it, while its master is killed and started again:
well before the master forgets it.
"""
_LONGEST_PAUSE = 1.0
_IN_DOUBT = "the request may have taken effect, so ask for the state before repeating it"


class Sending(Generic[T]):
    """A driver asks it what to do next; it does no I/O itself."""

    def __init__(self, session: Session, call: Call[T]) -> None:
        self.call = call
        self._session = session
        self._config = session.config
        self._request: RequestId | None = None
        self._is_sent = False
        self._tries = 0
        self._doubt: ConnectionLost | TimedOut | None = None
        """Why nobody knows whether the request was carried out."""
        self._settle_until = 0.0

    @property
    def must_greet(self) -> bool:
        """Whether to ask first who the master is: one exchange that may save all the others' connects."""
        if self._session.server is not None or self.call.opcode is Opcode.HELLO:
            return False
        needs_to_know = self._request is not None or self.call.feature is not None
        return self._config.keep_alive or self._config.auth_token is not None or needs_to_know

    def next(self) -> tuple[int, bytes]:
        """Opcode and payload of the next try.

        Raises:
            PayloadTooLarge, LocalProtocolError: it cannot be sent.
            ConnectionLost, TimedOut: another master answers now, which cannot know a request that may have been
                carried out.
            NotSupported: as these, and nothing was sent.
        """
        server = self._session.server
        feature = self.call.feature
        if feature is not None and not (server is not None and feature in server.features):
            self._settle_until = 0.0
            raise self._doubt or NotSupported(
                f"{self.call.name}: another master than before answers at {self._config.address}, which does not know "
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
            opcode, payload = Opcode.ONCE, once.encode(self._request, opcode, payload)
        if len(payload) > MAX_PAYLOAD:
            raise PayloadTooLarge(self.call.name, len(payload), MAX_PAYLOAD, self.call.advice)
        self._is_sent = True
        return opcode, payload

    def read(self, frame: Frame) -> T:
        """The call's reply."""
        if self._request is not None and frame.opcode == Opcode.ERROR:
            if frame.text.startswith(once.IN_DOUBT):
                raise self._told(self._doubt or ConnectionLost(f"{self.call.name}: {frame.text}"))
            if frame.text == once.OUT_OF_DATE:
                # Another process, a copy of this one, uses the channel.
                self._request = None
        return self.call.read(frame)

    def pause_after(self, exc: TransportError) -> float:
        """Seconds before the next try.

        Raises:
            TransportError: there is none; it says what may have happened.
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
        """It is over, whichever way."""
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
        """What to raise: never that nothing was sent, where an earlier try may have been carried out."""
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
