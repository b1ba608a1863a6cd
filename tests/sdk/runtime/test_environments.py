"""Environments on a worker: built once, shared, never half, and never removed while a job runs in one."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.runtime_bench import Bench, Watch
from tests.support.wheels import make_wheel
from titan_sdk.model.requirements import Requirements
from titan_sdk.runtime import keys
from titan_sdk.runtime.spec import Packages, RunSpec
from titan_sdk.runtime.worker import environments

UV = shutil.which("uv") or shutil.which("uv", path=os.path.dirname(sys.executable))

SHOWS = """
import os, sys, titan_job
import demo
titan_job.result([demo.VERSION, sys.prefix, os.environ["VIRTUAL_ENV"]])
"""

# Stands for uv: it installs at once, says how often it was asked, and can be held up.
FAKE_UV = """#!/bin/sh
echo $$ >> {folder}/asked
[ -p {folder}/gate ] && {{ sleep 1000 & echo $! > {folder}/child; read line < {folder}/gate; kill $!; }}
for word; do [ "$before" = --python ] && python=$word; before=$word; done
test -e {folder}/broken && {{ echo "no such thing as https://me:hush@index.example/simple"; exit 3; }}
site=$(echo ${{python%/bin/python}}/lib/python*/site-packages)
echo "VERSION = 'fake'" > $site/demo.py
"""


class Worker:
    """A bench whose worker has a place for environments of its own, and somewhere to install from."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, self.wheels = bench, folder / "wheels"
        self.place = folder / "environments"
        self.fake = folder / "fake"
        self.wheels.mkdir()
        kept = {k: v for k, v in bench.environment.items() if not k.startswith(("PIP_", "UV_"))}
        kept.update(TITAN_RUNTIME_ENVIRONMENTS=str(self.place), PIP_CONFIG_FILE="/dev/null")
        bench.environment = kept

    def with_pip(self) -> Worker:
        self.bench.environment.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(self.wheels))
        return self

    def with_uv(self) -> Worker:
        if UV is None:
            pytest.skip("no uv on this machine (extra [dev])")
        path = f"{os.path.dirname(UV)}:{self.bench.environment['PATH']}"
        cache = str(self.wheels.parent / "uv-cache")
        self.bench.environment.update(
            UV_NO_INDEX="1", UV_FIND_LINKS=str(self.wheels), UV_CACHE_DIR=cache, PATH=path
        )
        return self

    def with_fake_uv(self) -> Worker:
        self.fake.mkdir()
        program = self.fake / "uv"
        program.write_text(FAKE_UV.format(folder=self.fake))
        program.chmod(0o755)
        self.bench.environment.update(UV_OFFLINE="1", PATH=f"{self.fake}:{self.bench.environment['PATH']}")
        return self

    def spec(
        self,
        *lines: str,
        source: str = SHOWS,
        inherit: bool = False,
        wanted: Requirements | None = None,
        **fields: object,
    ) -> RunSpec:
        packages, asset = Packages.of(wanted or Requirements(lines or ("demo",)), inherit)
        if asset is not None:
            self.bench.store.assets[asset.name] = asset.data
        fields.setdefault("python", sys.executable)
        return self.bench.spec(source, packages=packages, **fields)

    @property
    def asked(self) -> list[int]:
        """The processes that were asked to install."""
        path = self.fake / "asked"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def built(self) -> list[str]:
        return [entry.digest for entry in environments.entries(str(self.place))]

    def record(self, spec: RunSpec) -> dict[str, object]:
        found: dict[str, object] = json.loads(
            self.bench.store.values[keys.state_key(spec.job_id, spec.nonce)]
        )
        return found

    def has_child(self) -> bool:
        child = self.fake / "child"
        return child.exists() and child.read_text().endswith("\n")


@pytest.fixture
def worker(bench: Bench, tmp_path: Path) -> Worker:
    return Worker(bench, tmp_path)


def kept_up(worker: Worker) -> None:
    """Builds wait until somebody writes into the gate."""
    os.mkfifo(worker.fake / "gate")


def let_on(worker: Worker) -> None:
    gate = worker.fake / "gate"
    descriptor = os.open(gate, os.O_WRONLY)
    gate.unlink()
    os.write(descriptor, b"go\n")
    os.close(descriptor)


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_a_job_gets_its_packages_and_the_next_one_finds_them(worker: Worker, installer: str) -> None:
    getattr(worker, f"with_{installer}")()
    make_wheel(worker.wheels, "demo", "1.5", requires=["other"])
    make_wheel(worker.wheels, "other")
    first = worker.spec("demo>=1")
    assert worker.bench.run(first).code == 0, worker.bench.log(first)
    version, prefix, variable = worker.bench.result(first)
    assert version == "1.5"
    assert prefix == variable
    assert prefix.startswith(str(worker.place))
    name = worker.built()[0][:8]
    log = worker.bench.log(first)
    assert f"titan-runtime: building its environment {name} with {installer}: demo>=1\n" in log
    assert f"titan-runtime: its environment {name} was built in " in log
    state = worker.bench.state(first)
    assert state.progress is not None
    assert "was built in" in state.progress[1]
    assert worker.record(first)["environment"]["state"] == "built"  # type: ignore[index]

    again = worker.spec("demo>=1")
    assert worker.bench.run(again).code == 0
    assert worker.bench.result(again) == [version, prefix, variable]
    assert worker.bench.log(again) == f"titan-runtime: its environment {name} is reused\n"
    assert worker.bench.state(again).progress == (None, "its environment is reused")
    assert worker.record(again)["environment"] == {"state": "reused", "seconds": 0.0}


def test_commands_of_packages_are_on_the_path_of_any_script(worker: Worker) -> None:
    make_wheel(
        worker.with_pip().wheels,
        "demo",
        source="import sys\ndef main(): print('ran in', sys.prefix)\n",
        command=True,
    )
    spec = worker.spec(
        source="#!/bin/bash\ndemo; python3 -c 'import demo, sys; print(sys.prefix)'\n", name="job.sh"
    )
    assert worker.bench.run(spec).code == 0
    ran, prefix = worker.bench.log(spec).splitlines()[-2:]
    assert ran == f"ran in {prefix}"
    assert prefix.startswith(str(worker.place))


def test_twenty_jobs_at_once_build_once(worker: Worker) -> None:
    worker.with_fake_uv()
    kept_up(worker)
    specs = [worker.spec(job_id=f"DAG-job{n}") for n in range(20)]
    with ThreadPoolExecutor(20) as threads:
        ends = [threads.submit(worker.bench.run, spec) for spec in specs]
        waiting = "waiting for its environment, which another job builds"

        def all_wait() -> bool:
            texts = [worker.bench.state(s).progress for s in specs if worker.bench.has_state(s, "running")]
            return [t and t[1] for t in texts].count(waiting) == 19

        worker.bench.store.wait_until(all_wait)
        let_on(worker)
        assert [end.result().code for end in ends] == [0] * 20
    assert len(worker.asked) == 1
    states = sorted(worker.record(spec)["environment"]["state"] for spec in specs)  # type: ignore[index]
    assert states == ["built"] + ["waited"] * 19
    assert len({worker.bench.result(spec)[1] for spec in specs}) == 1


@pytest.mark.parametrize("how", ["builder", "launcher", "cancel"])
def test_a_build_that_is_ended_leaves_nothing_and_the_next_job_builds_again(worker: Worker, how: str) -> None:
    worker.with_fake_uv()
    kept_up(worker)
    spec = worker.spec(cancel_grace=0.5)
    running = worker.bench.start(spec)
    worker.bench.store.wait_until(lambda: worker.has_child() and worker.bench.has_state(spec, "running"))
    ends = [Watch(worker.asked[0]), Watch(int((worker.fake / "child").read_text()))]
    if how == "builder":
        with open(f"/proc/{worker.asked[0]}/stat") as stat:
            os.kill(int(stat.read().rpartition(")")[2].split()[1]), signal.SIGKILL)
    else:
        os.kill(running.pid, signal.SIGKILL if how == "launcher" else signal.SIGTERM)
    done = running.wait()
    for end in ends:
        assert end.has_ended()
        end.close()
    worker.bench.store.wait_until(lambda: worker.bench.has_state(spec, "failed"))
    if how == "builder":
        assert done.code == environments.FAILED
        assert "ended early" in (worker.bench.state(spec).reason or "")
        assert worker.bench.state(spec).started_at is None
    else:
        assert "stopped" in (worker.bench.state(spec).reason or "")
    assert worker.built() == []

    (worker.fake / "gate").unlink()
    again = worker.spec()
    assert worker.bench.run(again).code == 0, worker.bench.log(again)
    assert len(worker.asked) == 2
    assert len([name for name in os.listdir(worker.place) if "-" in name]) == 1


# Slow: pip installs several times.
@pytest.mark.slow
def test_two_environments_at_once(worker: Worker) -> None:
    worker.with_pip()
    for version in ("1.0", "2.0"):
        make_wheel(worker.wheels, "demo", version)
    specs = [worker.spec(f"demo=={version}", job_id=f"DAG-{version}") for version in ("1.0", "2.0")]
    running = [worker.bench.start(spec) for spec in specs]
    assert [each.wait().code for each in running] == [0, 0]
    assert [worker.bench.result(spec)[0] for spec in specs] == ["1.0", "2.0"]
    assert len(worker.built()) == 2


def test_what_cannot_be_installed_ends_the_job_before_its_code_and_is_not_kept(worker: Worker) -> None:
    worker.with_pip()
    spec = worker.spec("demo>=3", source="print('never')")
    done = worker.bench.run(spec)
    assert done.code == environments.FAILED == 96
    state = worker.bench.state(spec)
    assert state.exit_code == 96
    assert state.started_at is None
    assert state.reason is not None
    assert state.reason.startswith("its environment could not be built: pip ended with exit code 1\n")
    assert "No matching distribution found for demo>=3" in state.reason
    assert "never" not in worker.bench.log(spec)
    assert worker.built() == []
    make_wheel(worker.wheels, "demo", "3.1")
    again = worker.spec("demo>=3")
    assert worker.bench.run(again).code == 0
    assert worker.bench.result(again)[0] == "3.1"


def test_secrets_of_an_index_stay_on_the_worker(worker: Worker) -> None:
    worker.with_fake_uv()
    (worker.fake / "broken").touch()
    spec = worker.spec()
    done = worker.bench.run(spec)
    assert done.code == 96
    assert "https://****@index.example/simple" in worker.bench.log(spec)
    assert "hush" not in done.text + "".join(worker.bench.store.values.values())

    make_wheel(worker.with_pip().wheels, "unrelated")
    del worker.bench.environment["PIP_NO_INDEX"], worker.bench.environment["UV_OFFLINE"]
    address = "http://someone:hush@127.0.0.1:1/simple"
    real = worker.spec("demo==7")
    retries = {"PIP_RETRIES": "0", "PIP_INDEX_URL": address}
    done = worker.bench.run(real, **retries)
    assert done.code == 96
    assert "127.0.0.1:1" in worker.bench.log(real)
    assert "hush" not in done.text + "".join(worker.bench.store.values.values())


def test_a_build_has_its_own_limit_of_time(worker: Worker) -> None:
    worker.with_fake_uv()
    kept_up(worker)
    spec = worker.spec(timeout=3600.0)
    assert worker.bench.run(spec, TITAN_RUNTIME_BUILD_PATIENCE="0.5").code == 96
    assert worker.bench.state(spec).reason == (
        "its environment did not stand within 0.5 s (TITAN_RUNTIME_BUILD_PATIENCE on the worker)"
    )


# Slow: the build has to last longer than the job may.
@pytest.mark.slow
def test_the_build_does_not_count_as_the_jobs_time(worker: Worker) -> None:
    worker.with_fake_uv()
    kept_up(worker)
    spec = worker.spec(timeout=20.0)
    running = worker.bench.start(spec)
    worker.bench.store.wait_until(lambda: worker.has_child())
    begun = time.monotonic()
    worker.bench.store.wait_until(lambda: time.monotonic() - begun > 20.5)
    let_on(worker)
    assert running.wait().code == 0
    state = worker.bench.state(spec)
    assert state.started_at is not None
    assert state.ended_at is not None
    assert state.ended_at - state.started_at < 20


# Slow: pip installs several times.
@pytest.mark.slow
def test_the_job_finds_its_own_packages_before_the_workers(worker: Worker, tmp_path: Path) -> None:
    worker.with_pip()
    make_wheel(worker.wheels, "torch", "2.0", "VERSION = 'of the worker'\n")
    make_wheel(worker.wheels, "demo", "1.0", "import torch\nVERSION = torch.VERSION\n", requires=["torch>=2"])
    own = tmp_path / "own"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(own)], check=True)
    site = next(own.glob("lib/python*/site-packages"))
    # The worker's Python has a pip, and a package.
    found = importlib.metadata.distribution("pip")
    for name in ("pip", f"pip-{found.version}.dist-info"):
        (site / name).symlink_to(str(found.locate_file(name)))
    with zipfile.ZipFile(worker.wheels / "torch-2.0-py3-none-any.whl") as wheel:
        wheel.extractall(site)
    make_wheel(worker.wheels, "torch", "3.0", "VERSION = 'of the environment'\n")

    shared = worker.spec(inherit=True, python=str(own / "bin/python"))
    assert worker.bench.run(shared).code == 0, worker.bench.log(shared)
    assert worker.bench.result(shared)[0] == "of the worker"
    alone = worker.spec(python=str(own / "bin/python"))
    assert worker.bench.run(alone).code == 0, worker.bench.log(alone)
    assert worker.bench.result(alone)[0] == "of the environment"
    newer = worker.spec("demo", "torch>=3", inherit=True, python=str(own / "bin/python"))
    assert worker.bench.run(newer).code == 0, worker.bench.log(newer)
    assert worker.bench.result(newer)[0] == "of the environment"

    again = worker.spec(inherit=True, python=str(own / "bin/python"))
    worker.bench.run(again)
    assert "is reused" in worker.bench.log(again)
    # Another version on the worker is another environment.
    next(site.glob("torch-2.0.dist-info")).rename(site / "torch-2.1.dist-info")
    changed = worker.spec(inherit=True, python=str(own / "bin/python"))
    worker.bench.run(changed)
    assert "building its environment" in worker.bench.log(changed)


# Slow: pip installs several times.
@pytest.mark.slow
def test_the_workers_pythonpath_is_not_seen_unless_its_packages_are(worker: Worker, tmp_path: Path) -> None:
    make_wheel(worker.with_pip().wheels, "demo")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "stray.py").touch()
    (tmp_path / "path" / "demo.py").write_text("VERSION = 'of the path'\n")
    source = "import importlib.util, titan_job, demo\ntitan_job.result([demo.VERSION, bool(importlib.util.find_spec('stray'))])"
    for inherit, sees in ((False, False), (True, True)):
        spec = worker.spec(source=source, inherit=inherit)
        assert worker.bench.run(spec, PYTHONPATH=str(tmp_path / "path")).code == 0, worker.bench.log(spec)
        assert worker.bench.result(spec) == ["1.0", sees]


# Slow: pip installs several times.
@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.8", "3.13"])
def test_a_certain_python_of_the_first_line_gets_an_environment_of_its_own(
    worker: Worker, version: str
) -> None:
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    if not found:
        pytest.skip(f"no Python {version} on this machine")
    make_wheel(worker.with_pip().wheels, "demo")
    source = f"#!{found[-1]}\n" + SHOWS + "titan_job.result('%d.%d' % sys.version_info[:2])\n"
    for told in ("was built in", "is reused"):
        # As on most workers: the launcher runs in another Python.
        spec = worker.spec(source=source, python=None)
        path = f"{os.path.dirname(sys.executable)}:{worker.bench.environment['PATH']}"
        assert worker.bench.run(spec, PATH=path).code == 0, worker.bench.log(spec)
        assert worker.bench.result(spec) == version
        assert told in worker.bench.log(spec)


# Slow: pip unpacks itself.
@pytest.mark.slow
def test_a_python_without_pip_gets_one(worker: Worker, tmp_path: Path) -> None:
    make_wheel(worker.with_pip().wheels, "demo")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    spec = worker.spec(python=str(tmp_path / "bare" / "bin" / "python"))
    assert worker.bench.run(spec).code == 0, worker.bench.log(spec)
    assert worker.bench.result(spec)[0] == "1.0"


def test_another_python_than_the_requirements_need_is_named(worker: Worker) -> None:
    spec = worker.with_fake_uv().spec(wanted=Requirements(("demo",), python=">=3.99"))
    assert worker.bench.run(spec).code == 96
    reason = worker.bench.state(spec).reason or ""
    assert reason.startswith("its requirements need Python >=3.99, and the worker runs the job with 3.")
    assert worker.asked == []


# Slow: pip installs several times.
@pytest.mark.slow
def test_locked_requirements_are_installed_as_they_are(worker: Worker) -> None:
    worker.with_pip()
    wheel = make_wheel(worker.wheels, "demo", requires=["absent"])
    good = subprocess.run(
        ["sha256sum", str(wheel)], check=True, capture_output=True, text=True
    ).stdout.split()[0]
    for digest, code in ((good, 0), ("0" * 64, 96)):
        lines = (f"demo==1.0 --hash=sha256:{digest}",)
        spec = worker.spec(wanted=Requirements(lines, locked=True))
        assert worker.bench.run(spec).code == code, worker.bench.log(spec)


def test_the_cache_is_bounded_and_nothing_in_use_is_removed(worker: Worker) -> None:
    worker.with_fake_uv()
    fifo = worker.bench.fifo()
    holds = worker.spec("demo", "held", source=f"import demo\nopen({str(fifo)!r}).read()")
    running = worker.bench.start(holds)
    with open(fifo, "w"):
        place = str(worker.place)
        held = worker.built()[0]
        for name in ("one", "two"):
            assert worker.bench.run(worker.spec("demo", name)).code == 0
        assert environments.prune(place, 1 << 40, 1 << 40) == []
        oldest = next(e.digest for e in environments.entries(place) if e.digest != held)
        total = sum(entry.facts["bytes"] for entry in environments.entries(place))
        assert [entry.digest for entry in environments.prune(place, total - 1, 1 << 40)] == [oldest]
        assert len(environments.prune(place, 1 << 40, -1)) == 1
        assert worker.built() == [held]
        assert environments.is_used(place, held)
        # What a builder left that was killed.
        left = worker.place / ("0" * 32 + "-12345678")
        (left / "half").mkdir(parents=True)
        left.chmod(0o500)
        environments.prune(place, 1 << 40, 1 << 40)
        assert not left.exists()
    assert running.wait().code == 0
    assert not environments.is_used(place, held)
    assert worker.bench.run(worker.spec("demo", "three"), TITAN_RUNTIME_ENVIRONMENTS_SIZE="0").code == 0
    assert held not in worker.built()
    assert worker.bench.run(worker.spec("demo", "held")).code == 0


def test_an_environment_that_was_deleted_by_hand_is_built_again(worker: Worker) -> None:
    worker.with_fake_uv()
    worker.bench.run(worker.spec())
    for name in os.listdir(worker.place):
        if "-" in name:
            environments.clear(str(worker.place / name))
    spec = worker.spec()
    assert worker.bench.run(spec).code == 0, worker.bench.log(spec)
    assert len(worker.asked) == 2


def test_a_place_that_others_can_write_to_is_refused(worker: Worker) -> None:
    worker.with_fake_uv()
    worker.place.mkdir()
    worker.place.chmod(0o777)
    spec = worker.spec()
    assert worker.bench.run(spec).code == 96
    assert "set TITAN_RUNTIME_ENVIRONMENTS on the worker" in (worker.bench.state(spec).reason or "")


def test_a_large_listing_travels_as_an_asset_and_is_fetched_only_to_build(worker: Worker) -> None:
    worker.with_fake_uv()
    lines = ("demo", *(f"package-{number}=={os.urandom(8).hex()}" for number in range(500)))
    spec = worker.spec(*lines)
    assert spec.packages is not None
    assert spec.packages.data is None
    assert worker.bench.run(spec).code == 0, worker.bench.log(spec)
    assert "and 496 more" in worker.bench.log(spec)
    worker.bench.store.assets.pop(str(spec.packages.asset))
    assert worker.bench.run(worker_again(worker, spec)).code == 0


def worker_again(worker: Worker, spec: RunSpec) -> RunSpec:
    return worker.bench.spec(SHOWS, packages=spec.packages, python=sys.executable)
