"""TitanServiceOperator and its stop, in a real Airflow, with real processes on real ports."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.airflow_run import Outcome, unique
from tests.support.process_watch import wait_for
from titan_provider.exceptions import TitanServiceFailed
from titan_provider.hooks.titan import TitanHook
from titan_provider.operators.service import TitanServiceOperator, TitanServiceStopOperator
from titan_provider.work.service import end_service, is_alive
from titan_sdk import NotSupported, TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster

# Slow: Services start, fail and restart in seconds.
pytestmark = [pytest.mark.airflow, pytest.mark.slow]

RunDag = Callable[..., Outcome]
HEAD = """
            from titan_provider.operators.service import TitanServiceOperator, TitanServiceStopOperator
"""
SERVER = """
import http.server
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", {port}), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_tasks_use_the_service_between_setup_and_teardown(
    run_dag: RunDag, port: int, client: TitanClient, capfd: pytest.CaptureFixture[str]
) -> None:
    done = run_dag(f"""{HEAD}
            start = TitanServiceOperator(task_id="start", script={SERVER.format(port=port)!r}, port="{{{{ {port} }}}}")
            stop = TitanServiceStopOperator(task_id="stop", service=start.output).as_teardown(setups=start)
            @task
            def use(service):
                from urllib.request import urlopen
                return urlopen(f"http://{{service['host']}}:{{service['port']}}/").status
            start >> use(start.output) >> stop
    """)
    assert done.tasks == {"start": "success", "use": "success", "stop": "success"}, done.errors
    service = done.xcom("start")
    assert service == {
        "service_id": done.xcom("start", "titan_job_id"),
        "host": "127.0.0.1",
        "port": port,
        "master": client.config.address,
    }
    assert done.xcom("use") == 200
    assert not answers(port)
    assert not is_alive(client, service["service_id"])
    out = capfd.readouterr().out
    assert "::group::Log of service" in out
    assert out.count("serving") >= 1


def test_the_teardown_runs_after_a_failure_too(run_dag: RunDag, port: int) -> None:
    done = run_dag(f"""{HEAD}
            start = TitanServiceOperator(task_id="start", script={SERVER.format(port=port)!r}, port={port})
            stop = TitanServiceStopOperator(task_id="stop", service=start.output).as_teardown(setups=start)
            @task
            def use(): raise RuntimeError("no")
            start >> use() >> stop
    """)
    assert done.tasks == {"start": "success", "use": "failed", "stop": "success"}
    assert not answers(port)


@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        ("print('broken'); raise SystemExit(1)", "", "is DEAD, its port never answered"),
        ("import time; time.sleep(600)", ", start_timeout=timedelta(seconds=1)", "s after its start"),
        ("print(1)", ", requirement='QUANTUM', start_timeout=0.5", "no worker has the tag 'QUANTUM'"),
    ],
    ids=["dies", "never listens", "no worker"],
)
def test_a_service_that_does_not_come_up_fails_the_task_and_leaves_nothing(
    run_dag: RunDag, port: int, client: TitanClient, script: str, options: str, words: str
) -> None:
    done = run_dag(f"""{HEAD}
            TitanServiceOperator(task_id="start", script={script!r}, port={port}{options})
    """)
    (error,) = done.errors
    assert isinstance(error, TitanServiceFailed)
    assert words in str(error)
    assert not is_alive(client, done.xcom("start", "titan_job_id"))


def test_the_execution_timeout_leaves_nothing(run_dag: RunDag, port: int, client: TitanClient) -> None:
    for seconds in (1, 10, 40):
        done = run_dag(f"""{HEAD}
            TitanServiceOperator(task_id="start", script="import time; time.sleep(600)", port={port},
                execution_timeout=timedelta(seconds={seconds}))
        """)
        assert done.tasks == {"start": "failed"}
        if done.xcom("start", "titan_job_id") is not None:  # it had been submitted by then
            break
    assert not is_alive(client, done.xcom("start", "titan_job_id"))


def test_a_service_that_is_gone_is_fine_for_the_stop(run_dag: RunDag, airflow_connection: str) -> None:
    done = run_dag(f"""{HEAD}
            TitanServiceStopOperator(task_id="stop", service="never-started")
            TitanServiceStopOperator(task_id="nothing", service=None)
    """)
    assert done.state == "success", done.errors


def test_a_stop_wants_a_service() -> None:
    with pytest.raises(TitanServiceFailed, match="service 3 is neither"):
        TitanServiceStopOperator(task_id="stop", service=3).execute({})  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [{}, {"filename": "a", "script": "b"}])
def test_it_wants_one_script(arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="task 'start': give either filename= or script="):
        TitanServiceOperator(task_id="start", port=1, **arguments)


@pytest.fixture
def service(run_dag: RunDag, port: int) -> str:
    done = run_dag(f"""{HEAD}
            TitanServiceOperator(task_id="start", script={SERVER.format(port=port)!r}, port={port})
    """)
    return str(done.xcom("start")["service_id"])


def test_a_kill_stops_it(service: str, port: int, client: TitanClient) -> None:
    task = TitanServiceOperator(task_id="start", script="", port=port)
    task._cancellation.connect(TitanHook(task.titan_conn_id).get_config())
    task._cancellation.track([service])
    task.on_kill()
    assert not answers(port)
    assert not is_alive(client, service)


def test_a_kill_does_not_wait_for_a_master_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", "titan://127.0.0.1:9")
    task = TitanServiceOperator(task_id="start", script="", port=1)
    task._cancellation.connect(TitanHook(task.titan_conn_id).get_config())
    task._cancellation.track(["x"])
    began = time.monotonic()
    task.on_kill()
    assert time.monotonic() - began < 15


def test_ending_it_twice_says_so(service: str, client: TitanClient) -> None:
    assert is_alive(client, service)
    assert end_service(client, service, 5) is True
    assert end_service(client, service, 5) is False
    assert end_service(client, unique("nobody"), 5) is False


class State(dict[str, object]):
    """Airflow's task state store."""

    set = dict.__setitem__


def test_a_crashed_try_is_taken_up_and_a_clear_starts_anew(
    airflow_connection: str, port: int, client: TitanClient
) -> None:
    ti = SimpleNamespace(
        dag_id=unique("d"),
        task_id="start",
        run_id="r",
        map_index=-1,
        try_number=1,
        max_tries=2,
        xcom_push=print,
    )
    run = SimpleNamespace(clear_number=0, start_date=None)
    context: Any = {"ti": ti, "dag_run": run, "task_state_store": State()}

    def execute() -> str:
        task = TitanServiceOperator(
            task_id="start", script=SERVER.format(port=port), port=port, do_xcom_push=False
        )
        return str(task.execute(context)["service_id"])

    first = execute()
    assert execute() == first
    run.clear_number = 1
    second = execute()
    assert second != first
    assert not is_alive(client, first)
    assert answers(port)
    end_service(client, second, 5)


def test_what_a_master_like_a_real_one_cannot_stop_is_told(tmp_path: Path, port: int) -> None:
    """It gives a service up whose port does not answer, and forgets its process."""
    (tmp_path / "a.py").write_text("import time; time.sleep(60)")
    with (
        LocalCluster({"GENERAL": 1}, strict_titan=True) as strict,
        TitanClient(strict.host, strict.port) as client,
    ):
        client.submit_job(TitanJob("mute", str(tmp_path / "a.py"), job_type="SERVICE", port=port))
        with pytest.raises(NotSupported, match="was given up by its master, a real Titan"):
            end_service(client, "mute", 60)


def test_a_master_like_a_real_one_starts_and_stops_a_service(tmp_path: Path, port: int) -> None:
    (tmp_path / "a.py").write_text(SERVER.format(port=port))
    with (
        LocalCluster({"GENERAL": 1}, strict_titan=True) as strict,
        TitanClient(strict.host, strict.port) as client,
    ):
        client.submit_job(TitanJob("server", str(tmp_path / "a.py"), job_type="SERVICE", port=port))
        assert end_service(client, "server", 60) is True
        wait_for(lambda: not answers(port))  # a real worker does not wait for the end either
        assert not is_alive(client, "server")
        assert end_service(client, "server", 5) is False
