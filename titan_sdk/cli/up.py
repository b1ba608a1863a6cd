"""``titan up``, the master in the foreground, and ``titan gc`` for the folder of one that does not run."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from titan_sdk.cli.context import CliSession, command, read_token
from titan_sdk.cli.exit_codes import complain
from titan_sdk.cli.logformat import LogFormat, configure_logging
from titan_sdk.cli.options import parameters, read, with_options
from titan_sdk.cluster.app import run_master
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.retention import collect
from titan_sdk.cluster.server.tls import ServerTLS
from titan_sdk.cluster.settings import DAY, WARM_PYTHON, ClusterSettings
from titan_sdk.cluster.settings_fields import MIB, settings_of
from titan_sdk.config import is_loopback, parse_host, show_address
from titan_sdk.errors import InvalidArgument

__all__ = ["register"]

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        rich_help_panel="Storage",
        help="Folder for state, logs and artifacts, kept between runs; default ~/.local/state/titan/PORT.",
        show_default=False,
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
    ours = parameters(ClusterSettings)
    command(app, "up", connects=False)(with_options(up, ours + parameters(RaySettings)))
    of_gc = {"port", "keep_finished_seconds", "store", "store_prefix"}
    command(app, "gc", connects=False)(with_options(gc, [each for each in ours if each.name in of_gc]))


def up(
    session: CliSession,
    *,
    warm_python: Annotated[bool, typer.Option("--warm-python", hidden=True)] = False,
    data_dir: DataDir = None,
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
    store_password_file: StorePasswordFile = None,
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
    **options: Any,
) -> None:
    """Start the bundled master with its workers here, until Ctrl-C or SIGTERM."""
    configure_logging(log_format, log_level)
    if warm_python:
        raise InvalidArgument(WARM_PYTHON.replace("warm_python", "--warm-python"))
    given = read(ClusterSettings, {**options, "host": parse_host(options["host"], "--host")})
    given |= {
        "ray": _ray_settings(given["engine"], read(RaySettings, options)),
        "tls": _server_tls(tls_cert, tls_key, client_ca),
        "token": read_token(token_file) if token_file is not None else token,
        "store_password": _store_password(store_password_file),
    }
    _check_store(given, store_password_file)
    _check_access(given)
    with tempfile.TemporaryDirectory(prefix="titan-up-") as scratch:
        folder = data_dir or (_state_folder(given["port"]) if given["port"] else Path(scratch))
        settings = ClusterSettings(folder, **given)
        run_master(
            settings,
            lambda bound, number: _announce(session, settings, bound, number),
            lambda: complain(_stopping(settings, Path(scratch))),
        )
        complain("stopped")


def _check_access(given: Mapping[str, Any]) -> None:
    """Refuse invalid access options, with the names of the options."""
    is_local = is_loopback(given["host"])
    knows_clients = given["token"] or (given["tls"] is not None and given["tls"].client_ca)
    if not (is_local or given["insecure"] or knows_clients):
        raise InvalidArgument(
            f"--host {given['host']} is reachable from other machines, and whoever reaches a Titan master can run "
            "programs on it; use 127.0.0.1, set --token-file, or add --insecure if the network is yours"
        )
    if given["token"] and given["tls"] is None and not is_local:
        logging.getLogger(__name__).warning("without --tls-cert the token travels in the clear")


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


def _ray_settings(engine: str, given: dict[str, Any]) -> RaySettings | None:
    settings = RaySettings(**given)
    if engine == "ray":
        return settings
    if settings != RaySettings():
        raise InvalidArgument("--ray-..., --tag-resources and --advertise-address need --engine ray")
    return None


def _check_store(given: Mapping[str, Any], password_file: Path | None) -> None:
    """Refuse options of a store without ``--store``."""
    if given.get("store") is not None:
        return
    if given.get("accept_lost_commits"):
        raise InvalidArgument("--accept-lost-commits needs --store: a folder loses no commits")
    defaults = {each.name: default for each, _, default in settings_of(ClusterSettings)}
    names = ("store_prefix", "store_lease_seconds")
    if password_file is not None or any(given.get(name, defaults[name]) != defaults[name] for name in names):
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


def _announce(session: CliSession, settings: ClusterSettings, host: str, port: int) -> None:
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


def _state_folder(port: int) -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return Path(base or Path.home() / ".local" / "state") / "titan" / str(port)


def gc(
    session: CliSession,
    *,
    data_dir: DataDir = None,
    store_password_file: StorePasswordFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    **options: Any,
) -> None:
    """Forget old jobs in folder and store of a master that does not run, and shrink its database.

    A running master does the first by itself, see titan up --keep-days. Without --data-dir the default folder of
    --port is meant.
    """
    given = {"store": options["store"], "store_prefix": options["store_prefix"]}
    _check_store(given, store_password_file)
    folder = data_dir or _state_folder(options["port"])
    if given["store"] is None and not (folder / "master.sqlite3").is_file():
        raise InvalidArgument(f"{folder} is not a master's folder; give --data-dir as to titan up")
    settings = ClusterSettings(folder, **given, store_password=_store_password(store_password_file))
    before = time.time() - options["keep_finished_seconds"] * DAY
    found = asyncio.run(collect(settings, before, dry_run=dry_run))
    facts = {"jobs": found.jobs, "keys": found.keys, "freed_bytes": found.freed_bytes, "dry_run": dry_run}
    verb = "would remove" if dry_run else "removed"
    freed = "" if dry_run else f"; {found.freed_bytes / MIB:.1f} MiB freed"
    session.output.answer(facts, f"{verb} {found.jobs} jobs and {found.keys} expired keys{freed}")
