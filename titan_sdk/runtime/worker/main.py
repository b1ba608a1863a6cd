"""The launcher: claims the job, starts the user's code under the guard, and reports the end.

Its exit code is the user's (128+n for signal n), or its own: 97 (the master cannot be reached) or 98 (refused).
"""

from __future__ import annotations

import os
import select
import sys
import time

from . import (
    checkpoints,
    files,
    guard,
    heart,
    interpreter,
    jobdir,
    limits,
    lost_launcher,
    out_of_memory,
    outcome,
    processes,
    store,
)
from .c_modules import signal, signal_name
from .claim import REFUSED, UNREACHABLE, Cancelled, Claimant, Leave
from .owner_lease import OwnerLease
from .shipper import Shipper
from .spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, NoReturn, Optional, Tuple

    from .record import Record


def main(spec: Dict[str, Any], bundle: str, cache: str, prefix: Optional[str]) -> NoReturn:
    """Run one attempt of a job and exit.

    Args:
        spec: RunSpec, with ``params`` as JSON text.
        bundle: path of the zip from which this module was imported.
        cache: folder for a compiled bundle, under `prefix`, if that is not None.
    """
    code = UNREACHABLE
    try:
        code = attempt(Launch(spec, bundle, cache, prefix))
    finally:
        # This also closes the death pipe, so that a guard that is still there stops the job.
        os._exit(code)


def attempt(launch: Launch) -> int:
    """Run the attempt. Returns its exit code in every case; the log has the reason."""
    try:
        return launch.run()
    except Leave as leave:
        if str(leave):
            say(str(leave))
        return leave.code
    except Exception as exc:  # noqa: BLE001 - ends the process either way; the log must say why
        say("internal error, %s: %s" % (type(exc).__name__, exc))
        sys.excepthook(*sys.exc_info())
        return UNREACHABLE


def say(sentence: str) -> None:
    """Write one line of the launcher itself to the worker's log."""
    _write(("titan-runtime: %s\n" % sentence).encode("utf-8", "backslashreplace"))


def _write(data: bytes) -> int:
    """Write `data` to the worker's stdout. Returns the number of lost bytes: nobody may read it, or the disk is full."""
    while data:
        try:
            data = data[os.write(1, data) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(1, select.POLLOUT)
            poll.poll()
        except OSError:
            break
    return len(data)


# The values of fields that RunSpec leaves out. "params" is JSON text.
_DEFAULTS: Dict[str, Any] = {
    "argv": [],
    "env": {},
    "python": None,
    "params": "null",
    "max_attempts": 1,
    "timeout": None,
    "cancel_grace": limits.GRACE,
    "owner_lease": None,
    "parents": {},
    "project": None,
    "cwd": "project",
    "inputs": [],
    "outputs": {},
    "packages": None,
    "checkpoint": None,
    "keep_checkpoint": False,
}


def _is_somewhere() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False  # the folder was removed
    return True


class Launch:
    """One attempt of a job. A given `master` may be connected already."""

    def __init__(
        self,
        spec: Dict[str, Any],
        bundle: str,
        cache: str,
        prefix: Optional[str],
        master: Optional[store.StoreConnection] = None,
    ) -> None:
        self.spec = dict(_DEFAULTS, **spec)
        self.bundle, self.cache, self.prefix = bundle, cache, prefix
        self.master = master or store.StoreConnection(spec["master"][0], spec["master"][1])
        self.owner = OwnerLease(self.master, self.spec)
        self.memory = out_of_memory.OutOfMemoryKills()
        self.guard: Optional[guard.Guard] = None
        self._signal = 0
        self.tee = limits.TEE
        self.spool: Optional[Spool] = None
        """None if the worker's stdout is the job's log."""
        self.dropped = 0
        """Bytes that the worker's stdout did not take."""
        self._line_end = ""
        self.abandoned = False
        self.ignored: List[int] = []
        self.is_done = False
        """Whether the job has run, its end is reported, and no thread is left."""

    def run(self) -> int:
        self._open_standard_descriptors()
        self._handle_signals()
        claimant = Claimant(self.master, self.spec, self._start_deadline, say, self.asked)
        try:
            record, place = self._claim(claimant)
        except Cancelled as leave:
            say(str(leave))
            # On a real master the state is RUNNING since the start, and the worker's report does not change it.
            self.master.cancel(self.spec["id"])
            return leave.code
        try:
            return self._attempt(record, place)
        finally:
            place.remove()

    def _claim(self, claimant: Claimant) -> Tuple[Record, jobdir.JobDir]:
        """Put the script in place, then confirm the claim. In this order, a script that cannot be fetched costs no attempt."""
        claimant.meet()
        while True:
            record = claimant.propose()
            if not self.owner.is_here(self.asked):
                claimant.refuse(record, self.owner.sentence)
            try:
                place = jobdir.prepare(self.master, self.spec, self._start_deadline, self.bundle)
            except (OSError, ValueError) as exc:
                claimant.refuse(record, "the script cannot be put in place on this worker: %s" % exc)
            except store.StoreError as exc:
                claimant.refuse(record, "the script cannot be fetched: %s" % exc, UNREACHABLE)
            try:
                if claimant.confirm(record):
                    return record, place
            except Leave:
                place.remove()
                raise
            # Another copy has claimed the job at the same moment. The next round reads its record.
            place.remove()

    def _attempt(self, record: Record, place: jobdir.JobDir) -> int:
        if self.asked():
            words = "stopped by %s before it started" % signal_name(self.asked())
            return self._close(record, 128 + self.asked(), {"state": "failed", "reason": words})
        processes.become_subreaper()
        if not self.master.trusted:
            record.update(state="running", started_at=round(time.time(), 3))
        if self.spec["inputs"]:
            self._put_inputs(record, place)
        started = self.guard = self._start(record, place)
        if self.asked():
            started.tell(guard.STOP)
        if record.logs_to_master:
            # One byte above the limit shows the master that output is missing.
            self.tee = int(limits.LOG_LIMIT) + 1 if limits.LOG_LIMIT else sys.maxsize
        else:
            self.spool = Spool(place.path("output"))
        shipper = Shipper(
            self.master,
            record,
            self.spool,
            place,
            self.owner,
            started.tell,
            self._abandon,
        )
        self._accompany(shipper)
        self._compile_bundle()
        report, status = started.pump(self._keep)

        def tell(sentence: str) -> None:
            self._keep(("titan-runtime: %s\n" % sentence).encode("utf-8", "backslashreplace"))

        outcome.send_unsent(self.master, place, self._deadline(limits.END_PATIENCE), tell)
        return self._finish(record, place, shipper, report, status)

    def _put_inputs(self, record: Record, place: jobdir.JobDir) -> None:
        """Put the inputs in place. There is no shipper thread yet, so the heartbeats are sent between the pieces."""
        pulse = heart.Heart(self.master, record)

        def alive() -> None:
            if self.asked():
                raise files.Trouble("stopped by %s before it started" % signal_name(self.asked()))
            if time.monotonic() >= pulse.due_at and pulse.beat():
                raise Leave(REFUSED, "another copy of this job has taken over, or it was cancelled")

        try:
            files.put_inputs(self.master, self.spec, place, self._start_deadline, alive)
        except (files.Trouble, store.StoreError) as exc:
            code = (
                128 + self.asked()
                if self.asked()
                else UNREACHABLE
                if isinstance(exc, store.StoreError)
                else REFUSED
            )
            raise Leave(self._close(record, code, {"state": "failed", "reason": str(exc)}), "") from None
        if not self.master.trusted:
            record.update(started_at=round(time.time(), 3))

    def _start(self, record: Record, place: jobdir.JobDir) -> guard.Guard:
        started = guard.start(
            self._steps(place, record),
            place.root,
            self.ignored,
            place.cwd,
            self.spec["cancel_grace"],
            lambda output: lost_launcher.hand_in(self.master, record, output),
        )
        record.update(processes=processes.identity(os.getpid(), started.pid))
        return started

    def _accompany(self, shipper: Shipper) -> None:
        shipper.start()

    def _keep(self, data: bytes) -> None:
        """Take output for the job's log, and for the worker, while it reads and its report can carry the output."""
        self._line_end = "" if data.endswith(b"\n") else "\n"
        if self.spool is not None:
            self.spool.put(data)
        if not self.tee:
            return
        passed, self.tee = data[: self.tee], max(self.tee - len(data), 0)
        refused = _write(passed)
        if self.spool is None:
            self.dropped += refused
        elif refused:
            self.tee = 0
        elif not self.tee:
            say("the worker's log ends here; the whole output is in TitanStore (fetch_logs, follow_logs)")

    def _finish(
        self,
        record: Record,
        place: jobdir.JobDir,
        shipper: Shipper,
        report: str,
        status: int,
    ) -> int:
        ended_at = round(time.time(), 3)
        until = self._deadline(limits.END_PATIENCE)
        code, fields = outcome.describe(report, status, self.asked(), self.spec["timeout"], self.memory.grew)
        fields["ended_at"] = ended_at
        if shipper.cancelled and fields["state"] == "failed":
            fields["cancelled"] = True
            fields["reason"] = (
                "it was cancelled"
                if self.asked()
                else "it was cancelled on the master, and the worker had not ended it"
            )
        if self.abandoned and fields["state"] == "failed":
            fields["reason"] = self.owner.sentence
        code, fields = outcome.with_environment(place, report, code, fields)
        fields["exception"] = outcome.read_exception(place)
        fields["progress"] = outcome.read_progress(place.path("progress.json"))
        size, refused = outcome.check_result(place)
        if refused and fields["state"] == "succeeded":
            code, fields["state"], fields["reason"] = 1, "failed", refused
        fields["outputs"] = files.read_published(place)
        if self.spec["outputs"] and fields["state"] == "succeeded":
            code = self._publish(place, shipper, code, fields)
        self._end_log(fields.get("reason"))
        problem = shipper.finish(until)
        if shipper.overtaken:
            raise Leave(REFUSED, "another copy of this job has taken over; this one was ended")
        if size and not problem:
            try:
                fields["result"] = outcome.send_result(self.master, record, place, until)
            except (store.StoreError, store.Contended) as exc:
                problem = str(exc)
        if problem:
            raise Leave(UNREACHABLE, self._unrecorded(code, problem))
        kept = self._end_checkpoint(place, record) if fields["state"] == "succeeded" else None
        self._close(record, code, fields, until)
        if kept is not None:
            self._forget_checkpoint(kept)
        self.is_done = True
        return code

    def _end_checkpoint(self, place: jobdir.JobDir, record: Record) -> Optional[checkpoints.Checkpoint]:
        """Mark the job's checkpoint as over, so that no job continues from it. Its files stay until the end is recorded."""
        was_used = os.path.exists(place.path(checkpoints.USED)) or record.attempt > 1
        if not was_used or self.spec["keep_checkpoint"]:
            return None
        run = {"id": record.full_id, "nonce": record.nonce, "attempt": record.attempt}
        kept = checkpoints.Checkpoint(
            self.master, run, self.spec["checkpoint"], lambda: self._deadline(limits.END_PATIENCE)
        )
        try:
            return kept if kept.end() else None
        except store.StoreError:
            return None  # the record of the job's end is more important, and may still arrive

    def _forget_checkpoint(self, kept: checkpoints.Checkpoint) -> None:
        try:
            kept.remove()
        except store.StoreError:
            pass  # it is marked as over; the next run with this key removes the files

    def _end_log(self, reason: Optional[str]) -> None:
        """Write the reason of the end into the log, because some readers see only the log."""
        if self.spool is None:
            if self.dropped:
                _write((limits.OUTPUT_LOST % self.dropped).encode())
            elif reason:
                _write(self._line_end.encode())
        elif reason:
            self.spool.put(("%stitan-runtime: %s\n" % (self._line_end, reason)).encode("utf-8"))

    def _publish(self, place: jobdir.JobDir, shipper: Shipper, code: int, fields: Dict[str, Any]) -> int:
        """Make artifacts of the outputs. Meanwhile the shipper sends heartbeats. Returns the exit code."""
        shipper.go_on()

        def alive() -> None:
            if self.asked() or shipper.cancelled or shipper.overtaken:
                raise files.Trouble("it was stopped while its outputs were published")

        def until() -> Callable[[], float]:
            return self._deadline(limits.END_PATIENCE)

        try:
            fields["outputs"].update(files.publish_outputs(self.master, self.spec, place, until, alive))
            return code
        except (files.Trouble, OSError) as exc:
            said = "its outputs cannot be published: %s" if isinstance(exc, OSError) else "%s"
            fields.update(state="failed", reason=said % exc)
            return 128 + self.asked() if self.asked() else 1
        except store.StoreError as exc:
            fields.update(state="failed", reason="its outputs cannot be published: %s" % exc)
            return UNREACHABLE

    def _close(self, record: Record, code: int, fields: Dict[str, Any], until: Any = None) -> int:
        """Write the final record."""
        record.update(**fields)
        record.update(ended_at=record.fields["ended_at"] or round(time.time(), 3), processes=None)

        def hand_in() -> None:
            if self.master.trusted:
                if not record.leave():
                    record.save(self.master)
                return
            seen = self.master.get(record.key)
            if seen is not None and not record.is_ours(seen):
                raise store.Contended(seen)
            self.master.confirm(record.key, record.text())

        try:
            store.persist(hand_in, until or self._deadline(limits.END_PATIENCE))
        except store.Contended:
            raise Leave(
                REFUSED, "another copy of this job has taken over; this one's end is not recorded"
            ) from None
        except store.StoreError as exc:
            raise Leave(UNREACHABLE, self._unrecorded(code, str(exc))) from None
        if fields.get("reason"):
            # The log of a single job need not name the job.
            say(fields["reason"] if record.logs_to_master else "%s: %s" % (record.full_id, fields["reason"]))
        return code

    def _unrecorded(self, code: int, problem: str) -> str:
        return "the job ended with exit code %d, but the master at %s did not take its record: %s" % (
            code,
            self.master.address,
            problem,
        )

    def _steps(self, place: jobdir.JobDir, record: Record) -> Iterator[guard.Step]:
        """The programs to run, in order."""
        argv, env = self._argv(place), self._environment(place, record)
        if place.packages is None:
            return iter([(self._program(argv, env, place), env, self.spec["timeout"], b"", True)])
        return place.packages.steps(argv, env, self._inherited())

    def _program(self, argv: List[bytes], _: Dict[bytes, bytes], __: jobdir.JobDir) -> List[bytes]:
        return argv

    def _argv(self, place: jobdir.JobDir) -> List[bytes]:
        return place.command + [text.encode("utf-8", "surrogateescape") for text in self.spec["argv"]]

    def _environment(self, place: jobdir.JobDir, record: Record) -> Dict[bytes, bytes]:
        ours = {
            "TITAN_HOST": self.master.host,
            "TITAN_PORT": str(self.master.port),
            "TITAN_JOB_ID": record.full_id,
            "TITAN_NONCE": record.nonce,
            "TITAN_ATTEMPT": str(record.attempt),
            "TITAN_JOB_DIR": place.root,
            "PYTHONUNBUFFERED": "1",
        }
        if self.spec["checkpoint"]:
            ours[checkpoints.VARIABLE] = self.spec["checkpoint"]
        ours.update(self.spec["env"])
        env = self._inherited()
        for private in (b"TITAN_RUNTIME_SOCKET", b"TITAN_RUNTIME_ENDS"):
            env.pop(private, None)
        if place.packages is not None and not place.packages.inherits:
            env.pop(b"PYTHONPATH", None)
        env.update(
            (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
            for name, value in ours.items()
        )
        if self.spec["env"].keys() & {"TITAN_HOST", "TITAN_PORT"}:
            # The job's own variables name another master.
            env.pop(b"TITAN_SOCKET", None)
        # The script, and any Python that it starts, finds `import titan_job` here.
        library = os.fsencode(self.bundle) + b"/titan_runtime/lib"
        paths = [env.get(b"PYTHONPATH"), library]
        env.pop(jobdir.PROJECT_DIR, None)
        if place.project is not None:
            env[jobdir.PROJECT_DIR] = place.project
            if not interpreter.has_runner(place.command):
                # The runner adds the root itself, after its imports, because a project's file could hide a module from it.
                paths.insert(0, place.project)
        env[b"PYTHONPATH"] = b":".join(filter(None, paths))
        return env

    def _inherited(self) -> Dict[bytes, bytes]:
        return dict(os.environb)

    def _handle_signals(self) -> None:
        """SIGTERM, SIGINT and SIGHUP stop the job, unless the worker ignores them (nohup)."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_IGN:
                self.ignored.append(number)
            else:
                signal.signal(number, self._on_signal)

    def asked(self) -> int:
        """The stop signal that this launcher got, or 0."""
        return self._signal

    def _on_signal(self, number: int, _: object) -> None:
        self._signal = self._signal or number
        if self.guard is not None:
            self.guard.tell(guard.STOP)

    def _abandon(self) -> None:
        """Stop as on SIGTERM, because the owner's lease is over."""
        self.abandoned = True
        if self.guard is not None:
            self.guard.tell(guard.STOP)

    def _start_deadline(self) -> Callable[[], float]:
        return self._deadline(limits.START_PATIENCE)

    def _deadline(self, patience: float) -> Callable[[], float]:
        """The end of all tries, as monotonic time. After a stop signal it is near."""
        begun = time.monotonic()
        stop_begun: List[float] = []

        def until() -> float:
            if not self.asked():
                if self.master.away and _is_somewhere():
                    # The next master takes over this process's folder.
                    return begun + max(patience, limits.AWAY_PATIENCE)
                return max(begun, self.master.back_at) + patience
            if not stop_begun:
                stop_begun.append(time.monotonic())
            return min(begun + patience, stop_begun[0] + limits.LAST_WORDS)

        return until

    @staticmethod
    def _open_standard_descriptors() -> None:
        """Open the standard descriptors if the worker closed them; otherwise a pipe would get one of their numbers."""
        for descriptor in (0, 1, 2):
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)

    def _compile_bundle(self) -> None:
        if self.prefix is None:
            return
        from . import bytecode

        try:
            bytecode.compile_bundle(self.bundle, self.cache, self.prefix)
        except OSError:
            # The disk is read-only or full, so the next job compiles in memory again.
            pass
