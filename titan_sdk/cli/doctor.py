"""``titan doctor``: checks the master, its store, its workers, and the way back from the workers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from titan_sdk.cli.context import CliSession, command
from titan_sdk.cli.exit_codes import ExitCode, code_for
from titan_sdk.client import TitanClient
from titan_sdk.config import is_loopback
from titan_sdk.errors import StoreUnavailable, TitanError

__all__ = ["Finding", "Verdict", "register"]

_HAZARDS = "grüß dich, 日本語 | a;b\nNULL, ERROR: no 'quotes\" lost \t"
"""A text with everything that Titan's store or a naive client alters (protocol section 8.1)."""
_MEMBERS = ("plain", "a,b", "é", "", "NULL", "ERROR: x")


class Verdict(StrEnum):
    """The outcome of a check."""

    GOOD = "ok"
    WARNING = "warning"
    FAILURE = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: the finding and the advice."""

    check: str
    verdict: Verdict
    found: str
    advice: str = ""


_MARKS = {Verdict.GOOD: ("✓", "green"), Verdict.WARNING: ("!", "yellow"), Verdict.FAILURE: ("✗", "bold red")}


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor")(doctor)


def doctor(
    session: CliSession,
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="A tag that some worker must have; repeatable."),
    ] = None,
) -> None:
    """Check a master, with advice for each finding; exit code 1 (or the cause's) when a check fails."""
    findings: list[Finding] = []
    failure = ExitCode.FAILED
    with session.client() as client:
        try:
            for finding in _checks(client, tags or []):
                findings.append(finding)
                if not session.as_json:
                    session.output.answer(None, [_shown(finding)])
        except TitanError as exc:
            failure = code_for(exc)
            findings.append(Finding("connection", Verdict.FAILURE, str(exc), _advice_for(failure)))
            if not session.as_json:
                session.output.answer(None, [_shown(findings[-1])])
        address = client.config.address
    failed = sum(finding.verdict is Verdict.FAILURE for finding in findings)
    if session.as_json:
        session.output.answer({"address": address, "healthy": not failed, "findings": findings})
    if failed:
        raise typer.Exit(failure)


def _shown(finding: Finding) -> Text:
    mark, style = _MARKS[finding.verdict]
    text = Text.assemble((f"{mark} ", style), (f"{finding.check}: ", "bold"), finding.found)
    if finding.advice:
        text.append(f"\n  → {finding.advice}")
    return text


def _advice_for(code: ExitCode) -> str:
    if code is ExitCode.CANNOT_CONNECT:
        return (
            "start a master with `titan up`, or name one with --host and --port (or TITAN_HOST, TITAN_PORT)"
        )
    if code is ExitCode.PROTOCOL:
        return "something else listens there; a Titan master's port is 9090 unless it was changed"
    return "look at the master's own output; it is there but does not answer as a Titan master does"


def _checks(client: TitanClient, tags: list[str]) -> Iterator[Finding]:
    started = time.perf_counter()
    info = client.server_info()
    milliseconds = (time.perf_counter() - started) * 1000
    yield Finding("connection", Verdict.GOOD, f"{client.config.address} answers in {milliseconds:.1f} ms")
    yield _which_master(info.kind, str(info))
    yield from _store(client)
    yield from _workers(client, tags)
    yield _way_back(client, info.kind)


def _which_master(kind: str, name: str) -> Finding:
    if kind == "bundled":
        return Finding("master", Verdict.GOOD, name)
    advice = "it accepts anything; this SDK checks before and after each submit (docs/protocol.md)"
    return Finding("master", Verdict.GOOD, f"{name}, the real one", advice)


def _store(client: TitanClient) -> Iterator[Finding]:
    # A real master cannot delete keys, so the probe reuses a few names instead of leaving one behind each time.
    key = f"titan:doctor:{os.getpid() % 16}"
    plain = f"probe-{time.time_ns()}"
    try:
        client.store_put(key, plain)
    except StoreUnavailable as exc:
        advice = (
            "start TitanStore (default port 6379) and restart the master: without it nothing is remembered"
        )
        yield Finding("store", Verdict.FAILURE, str(exc), advice)
        return
    yield Finding("store", Verdict.GOOD, "a value written is read back")
    yield _round_trip("text", _HAZARDS, lambda: _put_and_get(client, key))
    wanted = "\n".join(sorted(_MEMBERS))
    yield _round_trip("sets", wanted, lambda: _add_and_list(client, f"{key}:set"))


def _put_and_get(client: TitanClient, key: str) -> str | None:
    client.store_put(key, _HAZARDS)
    found = client.store_get(key)
    client.store_put(key, "")
    return found


def _add_and_list(client: TitanClient, key: str) -> str:
    for member in _MEMBERS:
        client.store_sadd(key, member)
    return "\n".join(sorted(client.store_smembers(key)))


def _round_trip(check: str, wanted: str, probe: Callable[[], str | None]) -> Finding:
    try:
        found = probe()
    except StoreUnavailable as exc:
        told = str(exc)
    else:
        if found == wanted:
            return Finding(check, Verdict.GOOD, "unicode, pipes, commas, newlines and error words survive")
        told = f"wrote {wanted!r}, read {found!r}"
    advice = (
        "another client may have written the same keys; if it happens again, restart the store and the master"
    )
    return Finding(check, Verdict.FAILURE, told, advice)


def _workers(client: TitanClient, tags: list[str]) -> Iterator[Finding]:
    stats = client.cluster_stats()
    if not stats.workers:
        advice = "start workers; until then every job stays PENDING"
        yield Finding("workers", Verdict.FAILURE, "the master has no workers", advice)
        return
    listed = ", ".join(f"{tag} {count}" for tag, count in sorted(stats.tags.items()))
    yield Finding("workers", Verdict.GOOD, f"{len(stats.workers)} ({listed})")
    if "GENERAL" not in stats.tags:
        advice = "jobs without --requirement need one; start a GENERAL worker or name a tag with each job"
        yield Finding("tags", Verdict.WARNING, "no worker is tagged GENERAL", advice)
    for problem in stats.problems:
        advice = "the master goes on and tries again; its log has more"
        yield Finding("problems", Verdict.WARNING, problem, advice)
    for tag in tags:
        if stats.has_worker_for(tag):
            yield Finding("tags", Verdict.GOOD, f"{stats.tags[tag]} with {tag}")
        else:
            advice = (
                f"start a worker with that tag (tags are case-sensitive; there are: {', '.join(stats.tags)})"
            )
            yield Finding("tags", Verdict.FAILURE, f"no worker is tagged {tag}", advice)
    if stats.queue_size and not any(worker.free for worker in stats.workers):
        advice = "add workers or slots, or wait; a real master may give up on jobs that wait for minutes"
        yield Finding(
            "load", Verdict.WARNING, f"every slot is taken and {stats.queue_size} jobs wait", advice
        )


def _way_back(client: TitanClient, kind: str) -> Finding:
    """The address at which jobs reach the master. ``localhost`` works only for workers on the master's own machine."""
    host, port = client.config.address_for_workers
    found = f"jobs call the master back at {host}:{port}"
    if kind != "bundled" and is_loopback(host):
        advice = (
            "if workers run on other machines, set TITAN_WORKER_ADDRESS to the address they reach it under"
        )
        return Finding("way back", Verdict.WARNING, found, advice)
    return Finding("way back", Verdict.GOOD, found)
