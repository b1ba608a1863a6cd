"""The settings of a bundled master."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from types import MappingProxyType

from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.server.access import MIN_TOKEN
from titan_sdk.cluster.server.tls import ServerTLS
from titan_sdk.cluster.settings_fields import MIB, check_bounds, setting
from titan_sdk.cluster.store.redis.location import Location
from titan_sdk.config import Secret, check_token, is_loopback, parse_host
from titan_sdk.errors import InvalidArgument
from titan_sdk.model.rules import check_requirement
from titan_sdk.wire.frames import MAX_PAYLOAD

__all__ = ["DAY", "WARM_PYTHON", "ClusterSettings", "WorkerSpec"]

WARM_PYTHON = (
    "warm_python is gone: a job with the runtime is a fork of a launcher that is kept ready, and a script starts in a Python of "
    "its own; leave it out"
)

# A worker is a folder and a few counters. The limit only catches typing errors.
_MAX_WORKERS = 1000
MAX_SLOTS = 1000
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker of the cluster. ``port`` is only a name; no process listens there."""

    name: str
    tag: str
    port: int


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """All settings of a bundled master. `titan up` takes them as options, ``LocalCluster`` by these names.

    Raises:
        InvalidArgument: a value is not valid; the message names it and the fix.
    """

    data_dir: Path = setting(MISSING, "Folder for state, logs and artifacts; one master at a time.")
    host: str = setting("127.0.0.1", "Address to listen on.", "--host")
    port: int = setting(9090, "Port to listen on; 0 takes any free one.", "--port", least=0, most=65535)
    workers: Mapping[str, int] = setting(
        lambda: {"GENERAL": 2, "GPU": 1},
        "Workers per tag, such as GENERAL=2,GPU=1. Has no effect with Ray, whose nodes are the workers.",
        "--workers",
    )
    slots: int = setting(
        1, "Jobs a worker runs at once (a real worker: 4).", "--slots", least=1, most=MAX_SLOTS
    )
    ageing_seconds: float | None = setting(
        60.0,
        "Seconds of waiting that count as one priority; 0: priority alone counts.",
        "--ageing",
        above=0,
        never=True,
    )
    gpus: tuple[str, ...] | None = setting(
        None,
        "Devices for the GPU workers, in the form of CUDA_VISIBLE_DEVICES, such as 0,1; empty: none. "
        "Default: those of this machine.",
        "--gpus",
    )
    service_start_seconds: float = setting(
        20.0,
        "How long a service may take until its port answers. The default is that of a real master.",
        above=0,
    )
    engine: str = setting(
        "process",
        "What runs the jobs: process (this machine), or ray (a Ray cluster).",
        "--engine",
        section="Ray",
    )
    ray: RaySettings | None = setting(None, "How the Ray cluster is used.")
    max_connections: int = setting(1000, "Connections that are served at once.", least=1)
    max_buffered_bytes: int = setting(
        256 * MIB,
        "Bytes of memory for the requests and replies of all peers; others wait. In addition, each "
        "connection takes up to 64 KiB for a request and 64 KiB for a reply.",
        least=MAX_PAYLOAD,
    )
    frame_timeout_seconds: float = setting(
        30.0,
        "Time limit for receiving a frame and for sending a reply. Each 64 KiB of size adds a second.",
        above=0,
    )
    idle_timeout_seconds: float = setting(
        300.0, "Time after which a connection without requests is closed.", above=0
    )
    durability: str = setting(
        "normal",
        "The event that stored changes survive: normal (kill -9 of the master), or full (a power cut; each "
        "commit waits for the disk).",
        "--durability",
        section="Storage",
    )
    store: str | None = setting(
        None,
        "Keep state in a Redis or Valkey, such as redis://host:6379/0 (rediss:// for TLS), not in the folder. "
        "Its password goes into TITAN_STORE_PASSWORD or a file.",
        "--store",
        section="Storage",
        variable="TITAN_STORE",
    )
    store_prefix: str = setting(
        "titan",
        "The beginning of the store's keys; one master per prefix.",
        "--store-prefix",
        section="Storage",
    )
    store_password: str | None = setting(None, "Overrides a password in the URL.")
    store_lease_seconds: float = setting(
        10.0, "Seconds after which a killed master's store is free.", "--store-lease", section="Storage"
    )
    accept_lost_commits: bool = setting(
        False,
        "Start even if the store has lost commits that it had acknowledged to the last master.",
        "--accept-lost-commits",
        section="Storage",
    )
    artifacts: str | None = setting(
        None,
        "Keep artifacts at this URL of fsspec, such as file:///shared or s3://bucket/path.",
        "--artifacts",
        section="Storage",
        variable="TITAN_ARTIFACTS",
    )
    log_limit_bytes: int = setting(
        64 * MIB,
        "The stored part of a run's output, from its beginning; the job goes on. It is checked once per "
        "second, so a fast writer may exceed it for a moment.",
        "--log-limit",
        section="Storage",
        least=1024,
        unit="MiB",
        per_unit=MIB,
    )
    keep_finished_seconds: float | None = setting(
        30 * DAY,
        "How long a finished job is kept: its state, payload, history, logs and results; 0: for ever.",
        "--keep-days",
        section="Storage",
        above=0,
        never=True,
        unit="days",
        per_unit=DAY,
    )
    sweep_seconds: float = setting(
        60.0, "Interval between searches for data that is too old and keys that have expired.", above=0
    )
    insecure: bool = setting(
        False,
        "Listen at an address that other machines reach, without a token or client certificates.",
        "--insecure",
        section="Security",
    )
    tls: ServerTLS | None = setting(
        None, "Encrypt connections. With a client CA, only clients with a certificate are accepted."
    )
    token: str | None = setting(None, "The token that clients must send first.")
    drain_seconds: float = setting(
        0.0,
        "Seconds that running jobs may take to end on SIGTERM before they are stopped (and queued again).",
        "--drain",
        section="Operation",
        least=0,
    )
    metrics_port: int | None = setting(
        None,
        "Serve /metrics and /health over HTTP on this port; 0 takes any free one.",
        "--metrics-port",
        section="Operation",
        least=0,
        most=65535,
    )
    metrics_host: str = setting(
        "127.0.0.1",
        "Address of the metrics port. It has no access check, and shows only counts, no names.",
        "--metrics-host",
        section="Operation",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_dir", Path(self.data_dir).absolute())
        object.__setattr__(self, "workers", MappingProxyType(dict(self.workers)))
        if self.gpus is not None:
            object.__setattr__(self, "gpus", tuple(self.gpus))
        check_bounds(self)
        if not self.host:
            raise InvalidArgument("host is empty; give 127.0.0.1 to listen on this machine only")
        object.__setattr__(self, "host", parse_host(self.host, "host"))
        if self.metrics_port is not None:
            object.__setattr__(self, "metrics_host", parse_host(self.metrics_host, "metrics_host"))
        for tag, count in self.workers.items():
            problem = check_requirement(tag)
            if problem is not None:
                raise InvalidArgument(f"worker tag {tag!r} {problem}")
            if type(count) is not int or count < 0:
                raise InvalidArgument(
                    f"workers={{{tag!r}: {count!r}}}: the number of workers is not a whole number from 0 up"
                )
        if self.durability not in {"normal", "full"}:
            raise InvalidArgument(f"durability {self.durability!r} is none; give normal or full")
        self._check_access()
        self._check_engine()
        for name in ("store", "store_password", "artifacts"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Secret(getattr(self, name)))
        self.store_location()  # refuses what cannot work
        total = sum(self.workers.values())
        if not 1 <= total <= _MAX_WORKERS:
            raise InvalidArgument(f"{total} workers: a cluster has 1 to {_MAX_WORKERS}")

    def _check_engine(self) -> None:
        if self.engine not in {"process", "ray"}:
            raise InvalidArgument(f"engine {self.engine!r} is none; give process or ray")
        if self.engine == "process":
            if self.ray is not None:
                raise InvalidArgument("settings for Ray are of use with engine ray only")
            return
        object.__setattr__(self, "ray", self.ray or RaySettings())
        if self.tls is not None and self.tls.client_ca is not None:
            raise InvalidArgument(
                "jobs on the nodes of a Ray cluster have no certificate to show; use a token instead of a client CA"
            )

    @property
    def is_protected(self) -> bool:
        """Whether clients need more than the address."""
        return self.tls is not None or self.token is not None

    @property
    def is_synced(self) -> bool:
        """Whether what is acknowledged must be on the disk."""
        return self.durability == "full"

    def store_location(self) -> Location | None:
        """Where the store is, unless it is the SQLite file."""
        if self.store is None:
            return None
        return Location(
            self.store,
            self.store_prefix,
            self.store_password,
            self.store_lease_seconds,
            self.accept_lost_commits,
        )

    def _check_access(self) -> None:
        if self.token is not None:
            check_token(self.token, "the master's token")
            if len(self.token) < MIN_TOKEN:
                raise InvalidArgument(
                    f"the master's token has fewer than {MIN_TOKEN} characters; take a longer one"
                )
            object.__setattr__(self, "token", Secret(self.token))
        knows_clients = self.token is not None or (self.tls is not None and self.tls.client_ca is not None)
        if not (knows_clients or self.insecure or is_loopback(self.host)):
            raise InvalidArgument(
                f"host {self.host} is reachable from other machines, and whoever reaches a Titan master can run "
                "programs on it; use 127.0.0.1, set a token or a client CA, or say insecure if the network is yours"
            )

    def worker_specs(self) -> list[WorkerSpec]:
        """The workers by name (``GPU-1``), with the port that statistics show for each."""
        names = [(f"{tag}-{n}", tag) for tag, count in self.workers.items() for n in range(1, count + 1)]
        return [WorkerSpec(name, tag, 8080 + index) for index, (name, tag) in enumerate(names)]
