"""Every exception the SDK raises, as one tree.

::

    TitanError
    ├── TransportError            the bytes did not travel
    │   ├── ConnectFailed         nothing was sent
    │   │   └── TLSFailed         no trust between the two ends; trying again cannot help
    │   ├── ConnectionLost        sent in part or whole, no complete reply
    │   ├── TimedOut              no complete reply in time
    │   └── StoreUnavailable      the master answered, and its store does not; trying again helps
    ├── ProtocolError
    │   ├── LocalProtocolError    this process would have sent something illegal; nothing was sent
    │   │   └── PayloadTooLarge
    │   └── PeerProtocolError     the peer does not speak Titan v1
    ├── RequestRefused            the master answered no; its text is in ``.detail``
    │   ├── NotFound
    │   └── AuthenticationFailed  it wants a token, or another one
    ├── NotSupported              this master has no such operation; nothing was sent
    ├── InvalidArgument           (ValueError) a call's argument cannot be carried
    │   ├── InvalidJob
    │   ├── InvalidDag
    │   ├── InvalidPipeline       a YAML file; names file, line and key
    │   └── MissingFile           (FileNotFoundError)
    ├── SubmissionUnconfirmed     the outcome of a submit is unknown
    ├── WaitTimedOut              (TimeoutError) the job goes on; the caller stopped waiting
    ├── ResultUnavailable         the job left no result that can be read
    ├── CorruptData               stored bytes do not match their checksum or form
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
    "WaitTimedOut",
    "map_os_errors",
]


class TitanError(Exception):
    """Root of everything the SDK raises on purpose."""

    outcome_unknown: bool = False
    """True when the request may have taken effect although no reply says so."""


class TransportError(TitanError):
    """The exchange with the master broke; ``.address`` and ``.operation`` say which one."""

    def __init__(self, message: str, *, address: str = "", operation: str = "") -> None:
        super().__init__(message)
        self.address = address
        self.operation = operation


class ConnectFailed(TransportError):
    """No connection could be made, so nothing was sent; safe to retry."""


class TLSFailed(ConnectFailed):
    """The two ends could not agree on an encrypted connection or on who they are; nothing was carried out."""


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
    """Something on the wire was not Titan v1."""


class LocalProtocolError(ProtocolError):
    """This process was about to send something the protocol cannot carry; nothing was sent."""


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
    """The peer answered with something that is not a Titan v1 frame."""


class RequestRefused(TitanError):
    """The master answered no. ``.detail`` is its text, verbatim."""

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class NotFound(RequestRefused):
    """The master does not have what was asked for."""


class AuthenticationFailed(RequestRefused):
    """The master takes requests only with its token, and got none or another one; nothing was carried out."""


class NotSupported(TitanError):
    """The master has no such operation (a real Titan lacks our extensions); nothing was sent."""


class InvalidArgument(TitanError, ValueError):
    """An argument cannot be carried or makes no sense; nothing was sent."""


class InvalidJob(InvalidArgument):
    """A TitanJob field is wrong; the sentence names the job, the field, the value and the fix."""


class InvalidDag(InvalidArgument):
    """The jobs do not form a DAG that can run; the sentence names the jobs."""

    def __init__(self, message: str, *, job_id: str = "", field: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id
        """The job it is about, where it is about one."""
        self.field = field
        """The ``TitanJob`` field of it that is wrong."""


class InvalidPipeline(InvalidArgument):
    """A pipeline file is wrong; the sentence names file, line and key."""


class MissingFile(InvalidArgument, FileNotFoundError):
    """A file or folder that was to be sent is not there."""


class SubmissionUnconfirmed(TitanError):
    """A submit was sent and no answer settles whether the master took it. ``.job_ids`` are its ids."""

    outcome_unknown = True

    def __init__(self, message: str, *, job_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.job_ids = job_ids


class WaitTimedOut(TitanError, TimeoutError):
    """The wait ended before the work did. The work goes on; wait again or cancel it."""


class ResultUnavailable(TitanError):
    """The job has left no result, or has not ended yet."""


class CorruptData(TitanError):
    """Data read back from the master does not match its checksum or its documented form."""


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
    """Translate what the operating system raises into this tree: the one border where that is done."""
    try:
        yield
    except TitanError:
        raise  # some of them are OSErrors as well, and they have their sentence
    except (OSError, UnicodeError) as exc:
        raise transport_error(
            exc, address=address, operation=operation, connecting=connecting, seconds=seconds
        ) from exc


def transport_error(
    exc: OSError | UnicodeError, *, address: str, operation: str, connecting: bool, seconds: float
) -> TransportError:
    """What an error of the operating system means here. A host name that IDNA cannot encode is a UnicodeError."""
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
