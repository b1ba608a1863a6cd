"""The claim: decides by the state record whether this launcher may start the user's code, before anything runs.

A real master runs a failing job four times, and repeats all unfinished jobs after its own restart, children without their
parents. Therefore a job does not run more often than ``max_attempts``, a live copy is waited for, parents are checked, and
nothing starts before the claim has been read back.

On a trusted master one compare-and-set makes the claim. In most cases no other launcher has claimed the job.
"""

from __future__ import annotations

import time

from . import keys, limits, processes, store
from .c_modules import dumps
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, NoReturn, Optional, TypeVar

    T = TypeVar("T")

UNREACHABLE, REFUSED = 97, 98
_UNFINISHED = ("claimed", "running")


class Leave(Exception):
    """The launcher ends without starting the user's code. `code` is its exit code, and the text its last line."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Cancelled(Leave):
    """The job was cancelled before its code started. A real master still starts a cancelled job that was delayed."""


class Claimant:
    """Makes one launcher's claim, and confirms it."""

    def __init__(
        self,
        master: store.StoreConnection,
        spec: Dict[str, Any],
        patience: Callable[[], Callable[[], float]],
        say: Callable[[str], None],
        asked: Callable[[], int],
    ) -> None:
        """`patience` makes a new deadline for the store. `asked` returns the signal to stop, or 0."""
        self.master, self.spec, self.patience, self.say, self.asked = master, spec, patience, say, asked
        self.key = keys.state_key(spec["id"], spec["nonce"])
        self.cancel_key = keys.cancel_key(spec["id"], spec["nonce"])
        self.prior: Optional[Dict[str, Any]] = None
        self.stored: Optional[str] = None
        """The earlier record in its stored form."""
        self._is_first_look = True

    def meet(self) -> None:
        """Ask whether the master is trusted."""
        self._reach(self.master.meet)

    def propose(self) -> Record:
        """The record of the attempt that may start now. It is not written yet.

        Raises:
            Leave: the user's code must not start, or has already succeeded.
        """
        self.prior = None if self.master.trusted and self._is_first_look else self._look()
        self._is_first_look = False
        if self.prior is not None and self.prior["state"] in _UNFINISHED:
            self.prior = self._outlast(self.prior)
        record = Record(self.spec, self._attempt(self.prior), self._first_chunk(self.prior))
        if self.master.trusted and not record.fields["log_chunks"]:
            record.update(log="master")
        self._obey_cancel(record)
        if not self.master.trusted:
            self._check_parents(record)
        return record

    def confirm(self, record: Record) -> bool:
        """Write the proposed record and read it back. False: another copy has written its own record meanwhile.

        Raises:
            Leave: the job was cancelled meanwhile.
        """
        if self.master.trusted:
            record.update(state="running", started_at=round(time.time(), 3))
            return self._swap(record)
        try:
            self._write(record)
        except store.Contended:
            return False
        # A cancelling client writes the mark and then reads the record, so one of the two sees the other. The store has
        # just answered, so an empty answer is not a sign of a store that is down.
        self._obey_cancel(record)
        return True

    def _swap(self, record: Record) -> bool:
        """Replace the earlier record by this one. False: the stored record is another one by now."""
        text = record.text()
        if not self._reach(lambda: self.master.swap(self.key, self.stored, text)):
            # The reply to a first attempt may have been lost.
            seen = self._reach(lambda: self.master.get(self.key))
            if seen is None or not record.is_ours(seen):
                return False
        record.stored = text
        return True

    def _obey_cancel(self, record: Record) -> None:
        if self.master.trusted or self._reach(lambda: self.master.get(self.cancel_key)) is None:
            return
        sentence = "it was cancelled before it started"
        if self.prior is None:
            try:
                self._write_refusal(record, sentence, cancelled=True, last=True)
            except store.Contended:
                # Another copy of this job ends for the same reason.
                pass
        raise Cancelled(REFUSED, "%s: %s" % (record.full_id, sentence))

    def refuse(self, record: Record, sentence: str, code: int = REFUSED) -> NoReturn:
        """End without using an attempt. The record says attempt 0, unless an earlier attempt has recorded its end."""
        if self.prior is None:
            self._write_refusal(record, sentence, last=False)
        raise Leave(code, sentence)

    def _write_refusal(self, record: Record, sentence: str, **fields: bool) -> None:
        record.update(
            state="failed",
            attempt=0,
            reason=sentence,
            ended_at=round(time.time(), 3),
            processes=None,
            **fields,
        )
        self._write(record)

    def _attempt(self, prior: Optional[Dict[str, Any]]) -> int:
        """The number of the attempt that may start now."""
        if prior is None:
            return 1
        allowed, done = self.spec["max_attempts"], int(prior["attempt"])
        if self.master.trusted and (prior["state"] == "succeeded" or done >= allowed):
            # Silent: a line here would be in the job's own log, and the record says the same.
            raise Leave(0 if prior["state"] == "succeeded" else REFUSED, "")
        if prior["state"] == "succeeded":
            raise Leave(0, "attempt %d of this job has already succeeded; nothing is run again" % done)
        if done >= allowed:
            how = prior.get("reason") or prior.get("signal") or "exit code %s" % prior.get("exit_code")
            raise Leave(
                REFUSED,
                "attempt %d of %d failed (%s); the master asked for one more, which max_attempts=%d rules out"
                % (done, allowed, how, allowed),
            )
        return done + 1

    # -- another copy -----------------------------------------------------------------------------------------

    def _outlast(self, prior: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        """Wait while the copy of an unfinished record lives. Returns its final record, written here if it wrote none."""
        dead = processes.known_dead(prior.get("processes"))
        if not dead:
            where = (prior["attempt"], prior["state"], prior["host"])
            self.say("attempt %s is recorded as %s on %s; waiting for its end" % where)
        changed = time.monotonic()
        # During a job's grace its guard writes no heartbeat.
        lease = limits.LEASE + max(self.spec["cancel_grace"] - limits.GRACE, 0.0)
        while not dead and time.monotonic() - changed < lease:
            time.sleep(min(1.0, limits.LEASE / 10))
            if self.asked():
                raise Leave(128 + self.asked(), "stopped while waiting for another copy of this job")
            try:
                text = self.master.get(self.key)
            except store.StoreError:
                text = None
            if text is None:
                # Only a readable record that does not change is a sign of death.
                changed = time.monotonic()
                continue
            self.stored, latest = text, _parse(text)
            if latest["state"] not in _UNFINISHED:
                return latest
            if latest != prior:
                prior, changed = latest, time.monotonic()
            dead = processes.known_dead(prior.get("processes"))
        return self._declare_lost(prior)

    def _declare_lost(self, prior: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        """Record the end of the attempt, under this launcher's token, so that the copy stops itself if it still lives."""
        fresh = Record(self.spec, prior["attempt"], self._first_chunk(prior))
        lost = dict(
            prior,
            token=fresh.token,
            state="failed",
            ended_at=prior["heartbeat_at"],
            log_chunks=fresh.fields["log_chunks"],
            processes=None,
            reason="its launcher on %s ended without a word: killed, or the machine went down"
            % prior["host"],
        )
        try:
            if not self.master.trusted:
                self.master.confirm(self.key, dumps(lost))
            elif not self.master.swap(self.key, self.stored, dumps(lost)):
                return self._look()
        except (store.StoreError, store.Contended):
            # The copy lives, or the store went away: check again.
            return self._look()
        self.stored = dumps(lost)
        told = "attempt %s was lost: %s" % (lost["attempt"], lost["reason"])
        if lost.get("log") == "master":
            self.say(told)
            return lost
        chunk = dumps({"v": 1, "attempt": lost["attempt"], "text": "titan-runtime: %s\n" % told})
        try:
            # Only now: before the record above, this could have been the other copy's next number.
            self.master.confirm(keys.log_key(fresh.full_id, fresh.nonce, fresh.fields["log_chunks"]), chunk)
        except (store.StoreError, store.Contended):
            pass  # the record tells it too
        return lost

    def _first_chunk(self, prior: Optional[Dict[str, Any]]) -> int:
        """The number of the first log chunk that no earlier attempt has written."""
        if prior is None or prior.get("log") == "master":
            return 0
        index = int(prior.get("log_chunks") or 0)
        while self._has_chunk(index):
            index += 1
        return index

    def _has_chunk(self, index: int) -> bool:
        key = keys.log_key(self.spec["id"], self.spec["nonce"], index)
        return self._reach(lambda: self.master.get(key)) is not None

    # -- parents ----------------------------------------------------------------------------------------------

    def _check_parents(self, record: Record) -> None:
        for parent, nonce in sorted(self.spec["parents"].items()):
            key = keys.state_key(parent, nonce)
            state = self._read(key)
            if state is None:
                # Either there is no record, or the store is down and answers every read with nothing. A round trip tells.
                self._probe(record)
                state = self._read(key)
            if state is None or state["state"] != "succeeded":
                told = "has not run" if state is None else "is recorded as %s" % state["state"]
                self.refuse(record, "parent %s %s, so this job is not started" % (parent, told))

    def _probe(self, record: Record) -> None:
        key = self.key[: -len("state")] + "probe"
        try:
            self._reach(lambda: self.master.confirm(key, dumps({"v": 1, "token": record.token})))
        except store.Contended:
            # Another copy may probe too; the store keeps values in either case.
            pass

    # -- the store --------------------------------------------------------------------------------------------

    def _look(self) -> Optional[Dict[str, Any]]:
        """The job's record."""
        self.stored = self._reach(lambda: self.master.get(self.key))
        return None if self.stored is None else _parse(self.stored)

    def _read(self, key: str) -> Optional[Dict[str, Any]]:
        text = self._reach(lambda: self.master.get(key))
        return None if text is None else _parse(text)

    def _write(self, record: Record) -> None:
        if self.master.trusted:
            # Not over the end of an earlier attempt, which is unknown here.
            self._swap(record)
        else:
            self._reach(lambda: self.master.confirm(self.key, record.text()))

    def _reach(self, action: Callable[[], T]) -> T:
        try:
            return store.persist(action, self.patience())
        except store.StoreError as exc:
            raise Leave(
                UNREACHABLE,
                "cannot settle this job with the Titan master at %s: %s. The job's code was not started. If "
                "workers know the master by another address, set worker_address (ClientConfig, or the "
                "connection's extra)" % (self.master.address, exc),
            ) from None


def _parse(text: str) -> Dict[str, Any]:
    import json

    try:
        record = dict(json.loads(text))
        record["attempt"] = int(record["attempt"])
        # The following code relies on these fields.
        float(record["heartbeat_at"]), str(record["state"]), str(record["host"])
    except (ValueError, KeyError, TypeError) as exc:
        raise Leave(
            REFUSED, "the store holds a state record that this runtime cannot read (%r)" % exc
        ) from None
    return record
