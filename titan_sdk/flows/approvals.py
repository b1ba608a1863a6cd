"""Approval gates in TitanStore: reset before a submit, listed, decided (protocol section 11.1)."""

from __future__ import annotations

from collections.abc import Mapping

from titan_sdk.errors import NotFound, RequestRefused, StoreUnavailable
from titan_sdk.flows.confirmed_writes import put_own
from titan_sdk.flows.core import Flow, ask
from titan_sdk.flows.liveness import is_kept
from titan_sdk.model import gates
from titan_sdk.model.gates import Decision, PendingApproval
from titan_sdk.model.rules import GATE_PREFIX
from titan_sdk.wire import calls

__all__ = ["decide", "gate_values", "pending_approvals", "reset_gates"]


def gate_values(messages: Mapping[str, str]) -> dict[str, str]:
    """The store's values for submitted gates: the question of each, and no answer of an earlier run."""
    return {
        key: value
        for gate, message in messages.items()
        for key, value in (
            (gates.message_key(gate), message),
            (gates.status_key(gate), Decision.CLEARED.value),
        )
    }


def reset_gates(messages: Mapping[str, str]) -> Flow[None]:
    """Remove the answers of an earlier run of the gates, and store the questions, by gate id.

    Raises:
        StoreUnavailable: the store does not keep values. An old approval might come back with it.
    """
    for gate, message in messages.items():
        yield from put_own(gates.message_key(gate), message)
        if not (yield from is_kept(gates.status_key(gate), Decision.CLEARED)):
            raise StoreUnavailable(
                f"the approval gate {gate!r} cannot be reset: the master's store does not keep values; "
                "nothing was submitted. `titan doctor` tells more"
            )


def pending_approvals() -> Flow[list[PendingApproval]]:
    """The waiting gates, the longest-waiting first."""
    found = []
    for gate in (yield from ask(calls.kv_smembers(gates.QUEUE_KEY))):
        word = yield from ask(calls.kv_get(gates.status_key(gate)))
        if word != Decision.WAITING:
            continue
        state = yield from ask(calls.job_status(gate))
        if state.is_terminal:
            # The gate was killed while it waited, so it could not withdraw its question.
            continue
        message = yield from ask(calls.kv_get(gates.message_key(gate)))
        since = yield from ask(calls.kv_get(gates.since_key(gate)))
        seconds = int(since) / 1000 if since and since.isdecimal() else None
        found.append(PendingApproval(gate, gate.removeprefix(GATE_PREFIX), message or "", seconds))
    return sorted(found, key=lambda pending: pending.since or 0.0)


def decide(gate_or_job_id: str, *, approved: bool) -> Flow[str]:
    """Write a decision and return the gate's id. The same decision again changes nothing.

    Raises:
        NotFound: no such gate is waiting.
        RequestRefused: the store did not keep the decision.
    """
    gate = gates.gate_of(gate_or_job_id)
    decision, verb = (Decision.APPROVED, "approve") if approved else (Decision.REJECTED, "reject")
    word = yield from ask(calls.kv_get(gates.status_key(gate)))
    if word == decision:
        return gate
    if word != Decision.WAITING:
        raise NotFound(
            f"{verb}: the gate {gate!r} is not waiting ({_why(word)}); `titan approvals list` shows those that are",
            detail=word or "",
        )
    yield from put_own(gates.status_key(gate), decision)
    seen = yield from ask(calls.kv_get(gates.status_key(gate)))
    if seen != decision:
        raise RequestRefused(
            f"{verb}: the gate {gate!r} reads {seen!r} after the decision; the store is down, or the gate's time was "
            "over at the same moment. Look again with `titan approvals list`",
            detail=seen or "NULL",
        )
    return gate


def _why(word: str | None) -> str:
    reasons: dict[str | None, str] = {
        None: "there is no gate of that name, or the master's store is down",
        Decision.CLEARED: "it has not been reached yet, or was cancelled",
        Decision.TIMEOUT: "its time is over",
        Decision.APPROVED: "it was approved",
        Decision.REJECTED: "it was rejected",
    }
    return reasons.get(word, f"its status is {word!r}")
