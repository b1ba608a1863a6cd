"""How a bundled master is set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.server.access import MIN_TOKEN
from titan_sdk.cluster.server.tls import ServerTLS
from titan_sdk.cluster.store.redis.location import Location
from titan_sdk.config import Secret, check_port, check_token, is_loopback, parse_host
from titan_sdk.errors import InvalidArgument
from titan_sdk.model.rules import check_requirement
from titan_sdk.wire.frames import MAX_PAYLOAD

__all__ = ["MAX_SLOTS", "WARM_PYTHON", "ClusterSettings", "WorkerSpec"]

WARM_PYTHON = (
    "warm_python is gone: a job with the runtime is a fork of a launcher that is kept ready, and a script starts in a Python of "
    "its own; leave it out"
)

# A worker is a folder and a few counters; the bound only catches typing errors.
_MAX_WORKERS = 1000
MAX_SLOTS = 1000


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker of the cluster. ``port`` is a name only: nothing listens there."""

    name: str
    tag: str
    port: int


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Everything `titan up` can be told.

    Raises:
        InvalidArgument: a value cannot work; the message names it and says what would.
    """

    data_dir: Path
    """Holds state, logs, artifacts and the workers' folders; one master at a time."""
    host: str = "127.0.0.1"
    port: int = 9090
    """0 lets the system choose."""
    engine: str = "process"
    """``process``: jobs are processes of this machine. ``ray``: tasks of a Ray cluster, see ``ray``."""
    ray: RaySettings | None = None
    """How the Ray cluster is used; ``None``: as ``RaySettings()`` says."""
    workers: Mapping[str, int] = field(default_factory=lambda: {"GENERAL": 2, "GPU": 1})
    """How many workers of each tag. With Ray its nodes are the workers, and this counts for nothing."""
    slots: int = 1
    """Jobs a worker runs at once (a real worker: 4)."""
    ageing_seconds: float | None = 60.0
    """A job that has been ready for so long counts as one priority higher, and so on; ``None``: never."""
    gpus: tuple[str, ...] | None = None
    """Devices that the GPU workers share, as CUDA_VISIBLE_DEVICES names them. ``None``: those of this machine."""
    service_start_seconds: float = 20.0
    """How long a service may take until its port answers; as long as a real master waits."""
    tls: ServerTLS | None = None
    """Encrypt, and with a ``client_ca`` take only clients that show a certificate."""
    token: str | None = None
    """Clients must show it first. Shown by no ``repr``."""
    insecure: bool = False
    """Listen where other machines reach it although nobody has to prove anything there."""
    max_connections: int = 1000
    max_buffered_bytes: int = 256 * 1024 * 1024
    """Bytes of requests and replies that are kept in memory for all peers; more wait for their turn. Up to 64 KiB of a
    request and of a reply per connection come on top."""
    frame_timeout_seconds: float = 30.0
    """A frame must come, and a reply be taken, within so long plus its size at 64 KiB per second."""
    idle_timeout_seconds: float = 300.0
    """A connection without any request is closed after so long."""
    log_limit_bytes: int = 64 * 1024 * 1024
    """What is kept of one run's output, from its beginning; the job goes on. Checked once per second, so that a fast
    writer may take more room for a moment."""
    keep_finished_seconds: float | None = 30 * 86_400.0
    """How long a finished job is known: its state, payload, history, logs and results. ``None``: for ever."""
    sweep_seconds: float = 60.0
    """How often what is too old, and keys that have expired, are looked for."""
    drain_seconds: float = 0.0
    """On SIGTERM, how long running jobs may take to end before they are stopped (and queued again)."""
    durability: str = "normal"
    """``normal``: what was acknowledged outlives ``kill -9`` of the master. ``full``: and a power cut; each commit and
    each artifact waits for the disk, and a Redis must have ``appendfsync always``."""
    store: str | None = None
    """URL of a Redis or Valkey for state; ``None``: a SQLite file in ``data_dir``. Shown by no ``repr``."""
    store_prefix: str = "titan"
    """What the store's keys begin with; one master at a time per prefix."""
    store_password: str | None = None
    """Goes before one in the URL. Shown by no ``repr``."""
    store_lease_seconds: float = 10.0
    """A master that was killed is succeeded by another one on the same store after so long."""
    accept_lost_commits: bool = False
    """Begin although the store has lost commits that it had acknowledged to the last master."""
    artifacts: str | None = None
    """URL of a shared folder or an object store for artifacts and deployed scripts, as fsspec takes it; ``None``: in
    ``data_dir``. Shown by no ``repr``."""
    metrics_port: int | None = None
    """Port for Prometheus metrics and the health check; 0 lets the system choose, ``None`` has none."""
    metrics_host: str = "127.0.0.1"
    """Nobody has to prove anything there; it tells counts, and no names."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_dir", Path(self.data_dir).absolute())
        object.__setattr__(self, "workers", MappingProxyType(dict(self.workers)))
        check_port(self.port, "port", zero=True)
        if not self.host:
            raise InvalidArgument("host is empty; give 127.0.0.1 to listen on this machine only")
        object.__setattr__(self, "host", parse_host(self.host, "host"))
        if self.metrics_port is not None:
            check_port(self.metrics_port, "metrics_port", zero=True)
            object.__setattr__(self, "metrics_host", parse_host(self.metrics_host, "metrics_host"))
        if not 1 <= self.slots <= MAX_SLOTS:
            raise InvalidArgument(f"slots={self.slots}: a worker runs 1 to {MAX_SLOTS} jobs at once")
        if self.ageing_seconds is not None and not self.ageing_seconds > 0:
            raise InvalidArgument(
                f"ageing_seconds={self.ageing_seconds}: it must be above 0, or None for never"
            )
        for tag, count in self.workers.items():
            problem = check_requirement(tag)
            if problem is not None:
                raise InvalidArgument(f"worker tag {tag!r} {problem}")
            if count < 0:
                raise InvalidArgument(
                    f"workers={{{tag!r}: {count}}}: the number of workers cannot be negative"
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
        if self.log_limit_bytes < 1024:
            raise InvalidArgument(f"log_limit_bytes={self.log_limit_bytes}: keep 1024 bytes at least")
        for name in ("sweep_seconds", "keep_finished_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidArgument(f"{name}={value}: it must be above 0")
        if self.max_buffered_bytes < MAX_PAYLOAD:
            raise InvalidArgument(
                f"max_buffered_bytes={self.max_buffered_bytes}: one request alone may have {MAX_PAYLOAD:,} bytes"
            )

    def worker_specs(self) -> list[WorkerSpec]:
        """The workers by name (``GPU-1``), with the port that statistics show for each."""
        names = [(f"{tag}-{n}", tag) for tag, count in self.workers.items() for n in range(1, count + 1)]
        return [WorkerSpec(name, tag, 8080 + index) for index, (name, tag) in enumerate(names)]
