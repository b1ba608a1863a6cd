"""``titan up``, the master in the foreground, and ``titan gc`` for the folder of one that does not run."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from titan_sdk.cli.context import Session, command, is_loopback, read_token
from titan_sdk.cli.exits import complain
from titan_sdk.cli.logformat import LogFormat, configure_logging
from titan_sdk.config import parse_host, show_address
from titan_sdk.errors import InvalidArgument
from titan_sdk.model.addresses import check_port

if TYPE_CHECKING:
    from titan_sdk.cluster.engines.ray.settings import RaySettings
    from titan_sdk.cluster.server.tls import ServerTLS
    from titan_sdk.cluster.settings import ClusterSettings

__all__ = ["parse_workers", "register"]

_DATA_DIR = "Folder for state, logs and artifacts, kept between runs; default ~/.local/state/titan/PORT."
_MIB = 1024 * 1024
_DAY = 86_400.0
_KEEP_DAYS = 30.0
_PREFETCH = 2

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", rich_help_panel="Storage", help=_DATA_DIR, show_default=False)
]
_PREFIX = "titan"
_LEASE = 10.0

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        rich_help_panel="Storage",
        envvar="TITAN_STORE",
        help="Keep state in a Redis or Valkey, such as redis://host:6379/0 (rediss:// for TLS), not in the folder. "
        "Put its password into TITAN_STORE_PASSWORD or a file.",
        show_default=False,
        show_envvar=True,
    ),
]
StorePrefix = Annotated[
    str,
    typer.Option(
        "--store-prefix",
        rich_help_panel="Storage",
        help="What the store's keys begin with; one master per prefix.",
    ),
]
StorePasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--store-password-file",
        rich_help_panel="Storage",
        help="File that holds the store's password and nothing else.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "up", connects=False)(up)
    command(app, "gc", connects=False)(gc)


def up(
    session: Session,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes any free one.")] = 9090,
    workers: Annotated[
        list[str] | None,
        typer.Option(
            "--workers",
            metavar="TAG=N,...",
            help="Workers per tag, such as GENERAL=2,GPU=1 (the default); repeatable.",
        ),
    ] = None,
    slots: Annotated[int, typer.Option("--slots", help="Jobs a worker runs at once.")] = 1,
    warm_python: Annotated[
        bool,
        typer.Option("--warm-python", hidden=True),
    ] = False,
    ageing: Annotated[
        float,
        typer.Option(
            "--ageing", help="Seconds of waiting that count as one priority; 0: priority alone counts."
        ),
    ] = 60.0,
    gpus: Annotated[
        str | None,
        typer.Option(
            "--gpus",
            help="Devices for the GPU workers, such as 0,1; empty: none. Default: those of this machine.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            rich_help_panel="Ray",
            help="What runs the jobs: process (this machine), or ray (a Ray cluster).",
        ),
    ] = "process",
    ray_address: Annotated[
        str,
        typer.Option(
            "--ray-address",
            rich_help_panel="Ray",
            help="The Ray cluster: auto on one of its nodes, HOST:6379, or ray://HOST:10001 from elsewhere.",
        ),
    ] = "auto",
    tag_resources: Annotated[
        list[str] | None,
        typer.Option(
            "--tag-resources",
            metavar="TAG=NAME:N,...",
            rich_help_panel="Ray",
            help="What a job takes of a Ray node, such as GPU=num_gpus:0.5,num_cpus:1; repeatable.",
        ),
    ] = None,
    ray_ahead: Annotated[
        int,
        typer.Option(
            "--ray-ahead",
            rich_help_panel="Ray",
            help="Jobs per tag shown to Ray's autoscaler beyond what the nodes hold.",
        ),
    ] = 0,
    ray_prefetch: Annotated[
        int,
        typer.Option(
            "--ray-prefetch",
            rich_help_panel="Ray",
            help="Jobs per tag that Ray has ready at least for the next free place; 0: none, ever.",
        ),
    ] = _PREFETCH,
    ray_ship_code: Annotated[
        bool,
        typer.Option(
            "--ray-ship-code",
            rich_help_panel="Ray",
            help="Bring this package to Ray nodes that do not have it.",
        ),
    ] = False,
    advertise: Annotated[
        str | None,
        typer.Option(
            "--advertise-address",
            rich_help_panel="Ray",
            help="HOST[:PORT] at which jobs on other machines reach this master. Default: where it listens.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            rich_help_panel="Security",
            help="Listen on other addresses than this machine's own, without any login.",
        ),
    ] = False,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            "--tls-cert",
            rich_help_panel="Security",
            help="PEM file with the master's certificate and its chain.",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", rich_help_panel="Security", help="PEM file with its private key."),
    ] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(
            "--client-ca", rich_help_panel="Security", help="Take only clients with a certificate of this CA."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            rich_help_panel="Security",
            envvar="TITAN_AUTH_TOKEN",
            help="Clients must show this token. Other users see it in the list of processes: rather use "
            "--token-file or the variable.",
            show_default=False,
            show_envvar=True,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", rich_help_panel="Security", help="File that holds the token and nothing else."
        ),
    ] = None,
    durability: Annotated[
        str,
        typer.Option(
            "--durability",
            rich_help_panel="Storage",
            help="What outlives: normal (kill -9 of the master), or full (a power cut; each commit waits for the disk).",
        ),
    ] = "normal",
    store: Store = None,
    store_prefix: StorePrefix = _PREFIX,
    store_password_file: StorePasswordFile = None,
    store_lease: Annotated[
        float,
        typer.Option(
            "--store-lease",
            rich_help_panel="Storage",
            help="Seconds after which a killed master's store is free.",
        ),
    ] = _LEASE,
    accept_lost_commits: Annotated[
        bool,
        typer.Option(
            "--accept-lost-commits",
            rich_help_panel="Storage",
            help="Begin although the store has lost commits that it had acknowledged to the last master.",
        ),
    ] = False,
    artifacts: Annotated[
        str | None,
        typer.Option(
            "--artifacts",
            rich_help_panel="Storage",
            envvar="TITAN_ARTIFACTS",
            help="Keep artifacts at this URL, such as file:///shared or s3://bucket/path, as fsspec takes it.",
            show_default=False,
            show_envvar=True,
        ),
    ] = None,
    log_limit: Annotated[
        int, typer.Option("--log-limit", rich_help_panel="Storage", help="MiB kept of one run's output.")
    ] = 64,
    keep_days: Annotated[
        float,
        typer.Option(
            "--keep-days",
            rich_help_panel="Storage",
            help="Days after which a finished job is forgotten; 0 never.",
        ),
    ] = _KEEP_DAYS,
    drain: Annotated[
        float,
        typer.Option(
            "--drain",
            rich_help_panel="Operation",
            help="Seconds that running jobs may take to end on SIGTERM.",
        ),
    ] = 0.0,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            rich_help_panel="Operation",
            help="Serve /metrics and /health over HTTP on this port.",
        ),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option("--metrics-host", rich_help_panel="Operation", help="Address for the metrics port.")
    ] = "127.0.0.1",
    log_format: Annotated[
        LogFormat,
        typer.Option("--log-format", rich_help_panel="Operation", help="How the master logs to stderr."),
    ] = LogFormat.TEXT,
    log_level: Annotated[
        str,
        typer.Option(
            "--log-level", rich_help_panel="Operation", help="What it logs: debug, info, warning or error."
        ),
    ] = "warning",
) -> None:
    """Start the bundled master with its workers here, until Ctrl-C or SIGTERM."""
    from titan_sdk.cluster.app import run_master
    from titan_sdk.cluster.settings import WARM_PYTHON, ClusterSettings

    configure_logging(log_format, log_level)
    host = parse_host(host, "--host")
    if warm_python:
        raise InvalidArgument(WARM_PYTHON.replace("warm_python", "--warm-python"))
    _check_store(store, store_prefix, store_password_file, store_lease)
    if accept_lost_commits and store is None:
        raise InvalidArgument("--accept-lost-commits needs --store: a folder loses no commits")
    _check_numbers(slots, ageing, log_limit, keep_days, drain, metrics_port)
    secret = read_token(token_file) if token_file is not None else token
    tls = _server_tls(tls_cert, tls_key, client_ca)
    ahead = (ray_ahead, ray_prefetch)
    ray = _ray_settings(engine, ray_address, tag_resources or [], ahead, ray_ship_code, advertise)
    if not (insecure or secret or client_ca or is_loopback(host)):
        raise InvalidArgument(
            f"--host {host} is reachable from other machines, and whoever reaches a Titan master can run programs "
            "on it; use 127.0.0.1, set --token-file, or add --insecure if the network is yours"
        )
    if secret and tls is None and not is_loopback(host):
        logging.getLogger(__name__).warning("without --tls-cert the token travels in the clear")
    with tempfile.TemporaryDirectory(prefix="titan-up-") as scratch:
        settings = ClusterSettings(
            data_dir or (_state_folder(port) if port else Path(scratch)),
            host=host,
            port=port,
            workers=parse_workers(workers or ["GENERAL=2,GPU=1"]),
            slots=slots,
            engine=engine,
            ray=ray,
            ageing_seconds=ageing or None,
            gpus=None if gpus is None else tuple(name.strip() for name in gpus.split(",") if name.strip()),
            insecure=insecure,
            tls=tls,
            token=secret,
            durability=durability,
            store=store,
            store_prefix=store_prefix,
            store_password=_store_password(store_password_file),
            store_lease_seconds=store_lease,
            accept_lost_commits=accept_lost_commits,
            artifacts=artifacts,
            log_limit_bytes=log_limit * _MIB,
            keep_finished_seconds=keep_days * _DAY or None,
            drain_seconds=drain,
            metrics_port=metrics_port,
            metrics_host=metrics_host,
        )
        run_master(
            settings,
            lambda bound, number: _announce(session, settings, bound, number),
            lambda: complain(_stopping(settings, Path(scratch))),
        )
        complain("stopped")


def _check_numbers(
    slots: int, ageing: float, log_limit: int, keep_days: float, drain: float, metrics_port: int | None
) -> None:
    """Refuse in the words of the command what the settings would refuse in Python's, and in other units."""
    from titan_sdk.cluster.settings import MAX_SLOTS

    wrong = (
        (1 <= slots <= MAX_SLOTS, f"--slots {slots}: give 1 to {MAX_SLOTS}"),
        (ageing >= 0, f"--ageing {ageing:g}: give 0, where priority alone counts, or more"),
        (log_limit >= 1, f"--log-limit {log_limit}: give 1 or more"),
        (keep_days >= 0, f"--keep-days {keep_days:g}: give 0, which is never, or more"),
        (drain >= 0, f"--drain {drain:g}: give 0, which waits for nothing, or more"),
    )
    for is_right, sentence in wrong:
        if not is_right:
            raise InvalidArgument(sentence)
    if metrics_port is not None:
        check_port(metrics_port, "--metrics-port", zero=True)


def _stopping(settings: ClusterSettings, scratch: Path) -> str:
    if settings.drain_seconds:
        return (
            f"stopping; jobs that run have {settings.drain_seconds:g} s to end, a second signal ends them now"
        )
    if settings.ray is not None and settings.ray.keep_jobs:
        return "stopping; jobs that run go on, for the next master"
    if settings.data_dir == scratch and settings.store is None:
        return "stopping; jobs that run are ended"
    where = settings.data_dir if settings.store is None else "this store"
    return f"stopping; jobs that run are ended, and those with attempts left run again under the next master of {where}"


def _ray_settings(
    engine: str, address: str, tags: list[str], ahead: tuple[int, int], ship: bool, advertise: str | None
) -> RaySettings | None:
    from titan_sdk.cluster.engines.ray.resources import parse_resources
    from titan_sdk.cluster.engines.ray.settings import RaySettings, parse_advertised

    if engine != "ray":
        if tags or ahead != (0, _PREFETCH) or ship or advertise is not None or address != "auto":
            raise InvalidArgument("--ray-..., --tag-resources and --advertise-address need --engine ray")
        return None
    return RaySettings(
        address,
        parse_resources(tags),
        ahead=ahead[0],
        prefetch=ahead[1],
        ship_code=ship,
        advertise=None if advertise is None else parse_advertised(advertise),
    )


def _check_store(store: str | None, prefix: str, password_file: Path | None, lease: float = _LEASE) -> None:
    if store is None and (prefix != _PREFIX or password_file is not None or lease != _LEASE):
        raise InvalidArgument("--store-prefix, --store-password-file and --store-lease need --store")


def _store_password(file: Path | None) -> str | None:
    return (
        os.environ.get("TITAN_STORE_PASSWORD") if file is None else read_token(file, "--store-password-file")
    )


def _server_tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> ServerTLS | None:
    from titan_sdk.cluster.server.tls import ServerTLS

    if cert is None:
        if key is not None or client_ca is not None:
            raise InvalidArgument("--tls-key and --client-ca need --tls-cert, the master's certificate")
        return None
    return ServerTLS(
        str(cert), None if key is None else str(key), None if client_ca is None else str(client_ca)
    )


def _announce(session: Session, settings: ClusterSettings, host: str, port: int) -> None:
    address = show_address(host, port)
    location = settings.store_location()
    listed = ", ".join(f"{tag}={count}" for tag, count in settings.workers.items())
    where = f"workers {listed}" if settings.ray is None else f"jobs on the Ray cluster {settings.ray.address}"
    facts = {
        "event": "listening",
        "host": host,
        "port": port,
        "address": address,
        "workers": dict(settings.workers),
        "slots": settings.slots,
        "engine": settings.engine,
        "data_dir": str(settings.data_dir),
        "store": None if location is None else location.shown,
        "pid": os.getpid(),
        "tls": settings.tls is not None,
        "token": settings.token is not None,
    }
    ways = [way for way, on in (("TLS", settings.tls), ("token", settings.token)) if on is not None]
    text = (
        f"Titan master listening on {address} ({where}; "
        + (f"clients need {' and '.join(ways)}; " if ways else "")
        + (f"state in {location.shown}; " if location is not None else "")
        + f"data in {settings.data_dir}); Ctrl-C ends it"
    )
    session.output.answer(facts, text)


def parse_workers(texts: list[str]) -> dict[str, int]:
    """The workers per tag in ``GENERAL=2,GPU=1``; a tag alone means one worker.

    Raises:
        InvalidArgument: a part is no such pair, or a tag is there twice.
    """
    counts: dict[str, int] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        tag, equals, count = part.partition("=")
        tag, count = tag.strip(), count.strip() if equals else "1"
        if not tag or not (count.isascii() and count.isdigit()) or tag in counts:
            raise InvalidArgument(
                f"--workers: {part!r} is not TAG=NUMBER, each tag once, such as GENERAL=2,GPU=1"
            )
        if found := re.search(r"[\s:;|/]", tag):
            meant = re.sub(r"[\s:]+(?=\d+$)", "=", tag)
            hint = f"; did you mean {meant}?" if meant != tag else ""
            raise InvalidArgument(f"--workers: a tag cannot hold {found[0]!r} ({part!r}){hint}")
        counts[tag] = int(count)
    return counts


def _state_folder(port: int) -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return Path(base or Path.home() / ".local" / "state") / "titan" / str(port)


def gc(
    session: Session,
    port: Annotated[int, typer.Option("--port", help="The port whose default folder is meant.")] = 9090,
    data_dir: DataDir = None,
    keep_days: Annotated[
        float,
        typer.Option(
            "--keep-days",
            rich_help_panel="Storage",
            help="Remove jobs that ended longer ago than this many days.",
        ),
    ] = _KEEP_DAYS,
    store: Store = None,
    store_prefix: StorePrefix = _PREFIX,
    store_password_file: StorePasswordFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Forget old jobs in folder and store of a master that does not run, and shrink its database.

    A running master does the first by itself, see titan up --keep-days.
    """
    from titan_sdk.cluster.retention import collect
    from titan_sdk.cluster.settings import ClusterSettings

    _check_store(store, store_prefix, store_password_file)
    folder = data_dir or _state_folder(port)
    if store is None and not (folder / "master.sqlite3").is_file():
        raise InvalidArgument(f"{folder} is not a master's folder; give --data-dir as to titan up")
    settings = ClusterSettings(
        folder, store=store, store_prefix=store_prefix, store_password=_store_password(store_password_file)
    )
    before = time.time() - keep_days * _DAY
    found = asyncio.run(collect(settings, before, dry_run=dry_run))
    facts = {"jobs": found.jobs, "keys": found.keys, "freed_bytes": found.freed_bytes, "dry_run": dry_run}
    verb = "would remove" if dry_run else "removed"
    freed = "" if dry_run else f"; {found.freed_bytes / _MIB:.1f} MiB freed"
    session.output.answer(facts, f"{verb} {found.jobs} jobs and {found.keys} expired keys{freed}")
