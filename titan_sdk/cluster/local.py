"""A cluster inside your program: for tests, notebooks and demos."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from titan_sdk.cluster.app import App, sdk_version
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.settings import WARM_PYTHON, ClusterSettings
from titan_sdk.errors import InvalidArgument, TitanError

if TYPE_CHECKING:
    from titan_sdk.strict import StrictControl, StrictNode, StrictSettings

__all__ = ["LocalCluster"]


class LocalCluster:
    """A master with its workers on this machine, served from its own thread.

    Use it with ``with`` or ``async with``, or call ``start()`` and ``stop()``. The end of the block ends every running job
    and service. A program may have many clusters.

    Args:
        workers: the number of workers of each tag.
        data_dir: the folder for state, logs and artifacts. A later cluster on the same folder continues where this one
            ended, and jobs survive a kill of this program. Without it a temporary folder is used and removed, and jobs
            end with this program, even if it is killed.
        port: 0 chooses a free port.
        strict_titan: behave as a real Titan master, hazards included, to test scripts and DAGs against it.
            ``StrictSettings`` (``titan_sdk.strict``) sets its timing. Values and job states are then in memory only, and a
            worker runs 4 jobs at once unless ``slots`` is given. See ``strict``.
        settings: any other field of ``ClusterSettings``, such as ``slots``, ``token`` or ``store``.

    Raises:
        InvalidArgument: a setting is invalid.
        TypeError: there is no setting of that name.
    """

    def __init__(
        self,
        workers: Mapping[str, int] | None = None,
        *,
        data_dir: str | Path | None = None,
        port: int = 0,
        strict_titan: bool | StrictSettings = False,
        **settings: Any,
    ) -> None:
        if settings.pop("warm_python", False):
            raise InvalidArgument(WARM_PYTHON)
        self._strict = _strict_settings(strict_titan, settings)
        self._strict_control: StrictControl | None = None
        self._temporary = data_dir is None
        if settings.get("engine") == "ray" or settings.get("ray") is not None:
            ray = settings.get("ray") or RaySettings()
            settings["ray"] = ray if data_dir is not None else replace(ray, keep_jobs=False)
        if workers is not None:
            settings["workers"] = workers
        self._data_dir = None if data_dir is None else Path(data_dir)
        # Also created here, so that invalid settings are refused before anything starts.
        self._settings = ClusterSettings(self._data_dir or Path.cwd(), port=port, **settings)
        self._address: tuple[str, int] | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_event: asyncio.Event | None = None

    # ------------------------------------------------------------------ address

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The port for clients.

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
        """The folder of state, logs and artifacts.

        Raises:
            TitanError: no folder was given and the cluster is not running.
        """
        if self._data_dir is None:
            raise TitanError("the cluster is not running and was given no data_dir")
        return self._data_dir

    @property
    def strict(self) -> StrictControl:
        """The control of a strict cluster for tests: restart its master, stop its store, lose a worker.

        Raises:
            TitanError: the cluster is not running, or was made without ``strict_titan``.
        """
        if self._strict_control is None or self._thread is None:
            raise TitanError("only a running LocalCluster(strict_titan=True) can be disturbed")
        return self._strict_control

    # ------------------------------------------------------------------ life

    def start(self) -> LocalCluster:
        """Start the cluster. Returns when clients can connect.

        Raises:
            TitanError: the folder or the port cannot be used, or the cluster is already running.
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
        """End every job and service, and the master. Idempotent."""
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
        settings = replace(self._settings, data_dir=self.data_dir)
        app: App | StrictNode
        self._loop = asyncio.get_running_loop()
        if self._strict is None:
            app = App(settings, sdk_version(), is_temporary=self._temporary)
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
        # If the store was lost, the cluster is unreachable until stop() ends its thread.
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


def _strict_settings(given: bool | StrictSettings, settings: Mapping[str, Any]) -> StrictSettings | None:
    """The settings of the strict master, or ``None`` for the bundled master."""
    if not given:
        return None
    from titan_sdk.strict import StrictSettings  # it imports this package

    if settings.get("durability") == "full":
        raise InvalidArgument(
            "strict_titan keeps values and jobs in memory; leave durability out, or strict_titan"
        )
    if settings.get("tls") is not None or settings.get("token") is not None:
        raise InvalidArgument("a real Titan has neither TLS nor a token; leave them out with strict_titan")
    strict = StrictSettings() if given is True else given
    return replace(strict, slots=settings.get("slots") or strict.slots)
