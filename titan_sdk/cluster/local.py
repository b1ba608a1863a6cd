"""A cluster inside your program: for tests, notebooks and demos."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from titan_sdk.cluster.app import App, sdk_version
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.server.tls import ServerTLS
from titan_sdk.cluster.settings import WARM_PYTHON, ClusterSettings
from titan_sdk.errors import InvalidArgument, TitanError

if TYPE_CHECKING:
    from titan_sdk.strict import StrictControl, StrictNode, StrictSettings

__all__ = ["LocalCluster"]


class LocalCluster:
    """A master with its workers on this machine, served from a thread of its own.

    Use it with ``with`` or ``async with``, or call ``start()`` and ``stop()``. Leaving it kills every job and
    service that still runs. Many clusters may live in one program.

    Args:
        workers: how many workers of each tag.
        slots: jobs a worker runs at once; default 1, with ``strict_titan`` 4 as on a real Titan.
        data_dir: keeps state, logs and artifacts; a later cluster on the same folder goes on where this one
            ended. Without it a temporary folder is used and removed.
        port: 0 chooses a free one.
        strict_titan: behave as a real Titan master does, hazards included, to prove scripts and DAGs against it;
            ``StrictSettings`` (``titan_sdk.strict``) sets its pace. Values and job states then live in
            memory only. See ``strict``.
        tls: encrypt, and take only clients with a certificate where it names a client CA.
        token: clients must show it (``ClientConfig.auth_token``).
        warm_python: refused: there is no such thing any more.
        ageing_seconds: a job that has been ready for so long counts as one priority higher; ``None``: never.
        gpus: devices that the GPU workers share; ``None``: those of this machine. With ``strict_titan`` these two
            do nothing.
        engine: ``process``, or ``ray``: jobs run in a Ray cluster, whose nodes are the workers then.
        ray: how that cluster is used. Without a ``data_dir`` its jobs are ended with this, whatever it says.

        durability: ``full``: what was acknowledged outlives a power cut; not with ``strict_titan``, which keeps it in
            memory.
        store: URL of a Redis or Valkey for state, which then outlives the folder; ``store_prefix``: what its keys
            begin with, one cluster at a time per prefix.
        artifacts: URL of a shared folder or an object store for artifacts, as fsspec takes it.

    Raises:
        InvalidArgument: a setting cannot work.
    """

    def __init__(
        self,
        workers: Mapping[str, int] | None = None,
        *,
        slots: int | None = None,
        data_dir: str | Path | None = None,
        port: int = 0,
        strict_titan: bool | StrictSettings = False,
        tls: ServerTLS | None = None,
        token: str | None = None,
        warm_python: bool = False,
        ageing_seconds: float | None = 60.0,
        gpus: Sequence[str] | None = None,
        engine: str = "process",
        ray: RaySettings | None = None,
        durability: str = "normal",
        store: str | None = None,
        store_prefix: str = "titan",
        artifacts: str | None = None,
    ) -> None:
        self._strict: StrictSettings | None = None
        if strict_titan:
            from titan_sdk.strict import StrictSettings  # it is built on this package

            given = StrictSettings() if strict_titan is True else strict_titan
            self._strict = replace(given, slots=slots or given.slots)
        self._strict_control: StrictControl | None = None
        self._temporary = data_dir is None
        self._workers = {"GENERAL": 2, "GPU": 1} if workers is None else dict(workers)
        self._slots = slots if slots is not None else 1
        self._given_port = port
        self._data_dir = None if data_dir is None else Path(data_dir)
        self._tls, self._token = tls, token
        if warm_python:
            raise InvalidArgument(WARM_PYTHON)
        self._ageing_seconds = ageing_seconds
        if ray is not None and data_dir is None:
            ray = replace(ray, keep_jobs=False)
        elif engine == "ray" and ray is None:
            ray = RaySettings(keep_jobs=data_dir is not None)
        self._engine, self._ray = engine, ray
        self._gpus = None if gpus is None else tuple(gpus)
        self._store, self._store_prefix, self._artifacts = store, store_prefix, artifacts
        self._durability = durability
        if self._strict is not None and durability == "full":
            raise InvalidArgument(
                "strict_titan keeps values and jobs in memory; leave durability out, or strict_titan"
            )
        if self._strict is not None and (tls is not None or token is not None):
            raise InvalidArgument(
                "a real Titan has neither TLS nor a token; leave them out with strict_titan"
            )
        self._settings(self._data_dir or Path.cwd())  # refuse what cannot work before anything is started
        self._address: tuple[str, int] | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_event: asyncio.Event | None = None

    def _settings(self, data_dir: Path) -> ClusterSettings:
        return ClusterSettings(
            data_dir,
            port=self._given_port,
            workers=self._workers,
            slots=self._slots,
            tls=self._tls,
            token=self._token,
            ageing_seconds=self._ageing_seconds,
            gpus=self._gpus,
            engine=self._engine,
            ray=self._ray,
            durability=self._durability,
            store=self._store,
            store_prefix=self._store_prefix,
            artifacts=self._artifacts,
        )

    # ------------------------------------------------------------------ where it is

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The port clients connect to.

        Raises:
            TitanError: the cluster is not running.
        """
        if self._address is None:
            raise TitanError("the cluster is not running; use `with LocalCluster() as cluster:` or start()")
        return self._address[1]

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def data_dir(self) -> Path:
        """Where state, logs and artifacts are.

        Raises:
            TitanError: no folder was given and the cluster is not running.
        """
        if self._data_dir is None:
            raise TitanError("the cluster is not running and was given no data_dir")
        return self._data_dir

    @property
    def strict(self) -> StrictControl:
        """What a test may do to a strict cluster: restart its master, stop its store, lose a worker.

        Raises:
            TitanError: the cluster is not running, or was made without ``strict_titan``.
        """
        if self._strict_control is None or self._thread is None:
            raise TitanError("only a running LocalCluster(strict_titan=True) can be disturbed")
        return self._strict_control

    # ------------------------------------------------------------------ life

    def start(self) -> LocalCluster:
        """Serve; returns when clients can connect.

        Raises:
            TitanError: the folder or the port cannot be used, or the cluster runs already.
        """
        if self._thread is not None:
            raise TitanError("the cluster is running already")
        if self._temporary:
            self._data_dir = Path(tempfile.mkdtemp(prefix="titan-cluster-"))
        ready = threading.Event()
        failure: list[BaseException] = []
        self._thread = threading.Thread(
            target=self._run, args=(ready, failure), name="titan-cluster", daemon=True
        )
        self._thread.start()
        ready.wait()
        if failure:
            self._join()
            raise failure[0]
        return self

    def stop(self) -> None:
        """End every job and service and the master; does nothing if it is not running."""
        if self._thread is None:
            return
        assert self._loop is not None
        assert self._stop_event is not None
        self._loop.call_soon_threadsafe(self._stop_event.set)
        self._join()

    def _join(self) -> None:
        assert self._thread is not None
        self._thread.join()
        self._thread = self._loop = self._stop_event = self._address = None
        if self._temporary and self._data_dir is not None:
            shutil.rmtree(self._data_dir, ignore_errors=True)
            self._data_dir = None

    def _run(self, ready: threading.Event, failure: list[BaseException]) -> None:
        asyncio.run(self._serve(ready, failure))

    async def _serve(self, ready: threading.Event, failure: list[BaseException]) -> None:
        settings = self._settings(self.data_dir)
        app: App | StrictNode
        self._loop = asyncio.get_running_loop()
        if self._strict is None:
            app = App(settings, sdk_version())
        else:
            from titan_sdk.strict import StrictControl, StrictNode

            app = StrictNode(settings, self._strict)
            self._strict_control = StrictControl(app, self._loop)
        self._stop_event = asyncio.Event()
        try:
            self._address = await app.start()
        except BaseException as exc:  # noqa: BLE001 - raised again in the thread that called start()
            failure.append(exc)
            return
        finally:
            ready.set()
        stopped = asyncio.ensure_future(self._stop_event.wait())
        lost = app.lost if isinstance(app, App) else self._loop.create_future()
        await asyncio.wait([stopped, lost], return_when=asyncio.FIRST_COMPLETED)
        await app.stop()
        # Where the store was lost the cluster is not reached any more, until stop() ends its thread.
        await stopped

    def __enter__(self) -> LocalCluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> LocalCluster:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)
