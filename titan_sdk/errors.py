"""The tree of the SDK's exceptions.

::

    TitanError
    ├── TransportError            the exchange with the master broke
    │   ├── ConnectFailed         nothing was sent
    │   │   └── TLSFailed         the two ends do not trust each other; retrying cannot help
    │   ├── ConnectionLost        sent in part or whole, without a complete reply
    │   ├── TimedOut              no complete reply in time
    │   └── StoreUnavailable      the master answered, but its store did not; retry later
    ├── ProtocolError
    │   ├── LocalProtocolError    the request breaks the protocol; nothing was sent
    │   │   └── PayloadTooLarge
    │   └── PeerProtocolError     the peer does not speak Titan v1
    ├── RequestRefused            the master refused; its text is in ``.detail``
    │   ├── NotFound
    │   └── AuthenticationFailed  it wants a token, or another one
    ├── NotSupported              this master has no such operation; nothing was sent
    ├── InvalidArgument           (ValueError) a call's argument cannot be carried
    │   ├── InvalidJob
    │   ├── InvalidDag
    │   ├── InvalidPipeline       a YAML file is wrong; names file, line and key
    │   └── MissingFile           (FileNotFoundError)
    ├── SubmissionUnconfirmed     the outcome of a submit is unknown
    ├── WaitTimedOut              (TimeoutError) the wait ended; the job goes on
    ├── ResultUnavailable         the job has no readable result
    ├── CorruptData               stored bytes do not match their checksum or form
    ├── UnreadableValue           (ValueError) a value's class is not allowed here, or what it needs is missing
    └── JobFailed                 the job ended without success; ``.report`` says how
        └── DagFailed

The type says whose fault it is; ``outcome_unknown`` says whether the request may have taken effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from titan_sdk.model.report import DagReport, JobReport

__all__ = [
    "AuthenticationFailed",
    "ConnectFailed",
    "ConnectionLost",
    "CorruptData",
    "DagFailed",
    "InvalidArgument",
    "InvalidDag",
    "InvalidJob",
    "InvalidPipeline",
    "JobFailed",
    "LocalProtocolError",
    "MissingFile",
    "NotFound",
    "NotSupported",
    "PayloadTooLarge",
    "PeerProtocolError",
    "ProtocolError",
    "RequestRefused",
    "ResultUnavailable",
    "StoreUnavailable",
    "SubmissionUnconfirmed",
    "TLSFailed",
    "TimedOut",
    "TitanError",
    "TransportError",
    "UnreadableValue",
    "WaitTimedOut",
    "map_os_errors",
]


class TitanError(Exception):
    """The root of all exceptions that the SDK raises on purpose."""

    outcome_unknown: bool = False
    """True when the request may have taken effect although no reply says so."""


class TransportError(TitanError):
    """The exchange with the master broke; ``.address`` and ``.operation`` name it."""

    def __init__(self, message: str, *, address: str = "", operation: str = "") -> None:
        super().__init__(message)
        self.address = address
        self.operation = operation


class ConnectFailed(TransportError):
    """The connect failed, so nothing was sent. Safe to retry."""


class TLSFailed(ConnectFailed):
    """The TLS handshake failed, or a certificate was refused. Nothing was carried out."""


class ConnectionLost(TransportError):
    """The peer closed or reset the connection before a complete reply.

    ``outcome_unknown`` is false where the request was only a question.
    """

    outcome_unknown = True


class TimedOut(TransportError):
    """No complete reply within the configured time; ``outcome_unknown`` as in ``ConnectionLost``."""

    outcome_unknown = True


class StoreUnavailable(TransportError):
    """The master's store does not answer or does not keep what is written, as while a Redis is restarted.

    Nothing was carried out, unless ``outcome_unknown`` is true.
    """


class ProtocolError(TitanError):
    """A message was not Titan v1."""


class LocalProtocolError(ProtocolError):
    """The protocol cannot carry the request; nothing was sent."""


class PayloadTooLarge(LocalProtocolError):
    """A payload above the packet limit of Titan v1 (section 1, fact 3); nothing was sent."""

    def __init__(self, what: str, size: int, limit: int, advice: str = "") -> None:
        tail = f"; {advice}" if advice else ""
        super().__init__(f"{what} needs a packet of {size:,} bytes, but Titan takes at most {limit:,}{tail}")
        self.what = what
        self.size = size
        self.limit = limit
        self.advice = advice

    def __reduce__(self) -> tuple[type[PayloadTooLarge], tuple[str, int, int, str]]:
        return type(self), (self.what, self.size, self.limit, self.advice)


class PeerProtocolError(ProtocolError):
    """The peer answered with bytes that are not a Titan v1 frame."""


class RequestRefused(TitanError):
    """The master refused the request. ``.detail`` is its text, verbatim."""

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class NotFound(RequestRefused):
    """The master does not have the requested object."""


class AuthenticationFailed(RequestRefused):
    """The master wants its token and got none or another one. Nothing was carried out."""


class NotSupported(TitanError):
    """The master has no such operation (a real Titan lacks our extensions); nothing was sent."""


class InvalidArgument(TitanError, ValueError):
    """An argument is invalid or cannot be carried; nothing was sent."""


class InvalidJob(InvalidArgument):
    """A TitanJob field is wrong; the sentence names the job, the field, the value and the fix."""


class InvalidDag(InvalidArgument):
    """The jobs do not form a valid DAG; the sentence names the jobs."""

    def __init__(self, message: str, *, job_id: str = "", field: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id
        """The id of the wrong job; empty if the whole DAG is wrong."""
        self.field = field
        """The wrong field of that ``TitanJob``."""


class InvalidPipeline(InvalidArgument):
    """A pipeline file is wrong; the sentence names file, line and key."""


class MissingFile(InvalidArgument, FileNotFoundError):
    """A file or folder to send does not exist."""


class SubmissionUnconfirmed(TitanError):
    """A submit was sent, and its outcome could not be determined. ``.job_ids`` are the ids of the jobs."""

    outcome_unknown = True

    def __init__(self, message: str, *, job_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.job_ids = job_ids


class WaitTimedOut(TitanError, TimeoutError):
    """The wait ended before the job. The job goes on: wait again, or cancel it."""


class ResultUnavailable(TitanError):
    """The job has no result, or has not ended yet."""


class CorruptData(TitanError):
    """Data read back from the master does not match its checksum or its documented form."""


class UnreadableValue(TitanError, ValueError):
    """A value is whole, but cannot be made here: its class is not allowed, or a package it needs is missing."""

    def __init__(self, message: str, class_name: str | None = None) -> None:
        super().__init__(message)
        self.class_name = class_name
        """The class that is not allowed, as ``module.Class``."""


class JobFailed(TitanError):
    """The job ended without success. ``.report`` tells how: state, exit code or signal, exception."""

    def __init__(self, report: JobReport) -> None:
        super().__init__(report.describe())
        self.report = report

    def __reduce__(self) -> tuple[type[JobFailed], tuple[JobReport]]:
        return type(self), (self.report,)


class DagFailed(JobFailed):
    """At least one job of a DAG ended without success. ``.dag_report`` has every job's report."""

    def __init__(self, dag_report: DagReport) -> None:
        super().__init__(dag_report.first_failure)
        self.args = (dag_report.describe(),)
        self.dag_report = dag_report

    def __reduce__(self) -> tuple[type[DagFailed], tuple[DagReport]]:  # type: ignore[override]
        return type(self), (self.dag_report,)


@contextmanager
def map_os_errors(*, address: str, operation: str, connecting: bool, seconds: float) -> Iterator[None]:
    """Translate errors of the operating system into this tree. No other place does that."""
    try:
        yield
    except TitanError:
        raise  # some of them are OSErrors too, and already have a sentence
    except (OSError, UnicodeError) as exc:
        raise transport_error(
            exc, address=address, operation=operation, connecting=connecting, seconds=seconds
        ) from exc


def transport_error(
    exc: OSError | UnicodeError, *, address: str, operation: str, connecting: bool, seconds: float
) -> TransportError:
    """The exception for an error of the operating system. A host name that IDNA cannot encode is a UnicodeError."""
    named = {"address": address, "operation": operation}
    if isinstance(exc, TimeoutError):
        if connecting:
            return ConnectFailed(
                f"{operation}: no connection to {address} within {seconds:g} s; check host, port and firewall",
                **named,
            )
        return TimedOut(
            f"{operation}: no complete reply from {address} within {seconds:g} s. If nothing ever answers there, check "
            "that the port is a Titan master's (9090 by default) and not another server's, such as the HTTP dashboard's",
            **named,
        )
    reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    if connecting:
        return ConnectFailed(
            f"{operation}: cannot connect to {address} ({reason}); "
            "is a Titan master running there? `titan up` starts one",
            **named,
        )
    return ConnectionLost(
        f"{operation}: connection to {address} broke before a complete reply ({reason})",
        **named,
    )
