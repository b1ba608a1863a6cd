from __future__ import annotations

import asyncio
import json
import os
import select
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sdk.cluster.engines.bench import Bench
from tests.sdk.cluster.peer import Meeting
from titan_sdk.cluster.engines.base import NoRoom, RunRequest
from titan_sdk.cluster.master.scheduler import Outcome
from titan_sdk.cluster.worker import client
from titan_sdk.wire.jobs import JobLine


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": "/",
        "TITAN_AUTH_TOKEN": "s3cret",
        "TITAN_RUNTIME_LEASE": "5",
    }
    made = Bench(tmp_path / "data", environ)
    yield made
    await made.close()


def alive(pid: int) -> bool:
    """Whether a process of that number runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_end(pid: int) -> None:
    """Returns when the process has ended; a signal that was sent may take its time."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([pidfd], [], [], 20)[0], f"{pid} still runs"
    finally:
        os.close(pidfd)


async def test_output_of_both_streams_is_in_the_log_in_order(bench: Bench) -> None:
    code = "import sys\nfor n in range(3):\n print('out', n)\n print('err', n, file=sys.stderr)"
    assert (await bench.run(code)).outcome is Outcome.SUCCESS
    assert bench.log() == "".join(f"out {n}\nerr {n}\n" for n in range(3))


async def test_arguments_are_cut_at_spaces_without_quoting(bench: Bench) -> None:
    await bench.run("import sys, json; print(json.dumps(sys.argv[1:]))", args='  a   "z w" $HOME;\tb ')
    assert json.loads(bench.log()) == ["a", '"z', 'w"', "$HOME;\tb"]


async def test_what_a_job_finds_around_it(bench: Bench) -> None:
    code = (
        "import os, sys, json; print(json.dumps({'env': dict(os.environ), 'cwd': os.getcwd(), 'file': __file__,"
        " 'path0': sys.path[0], 'beside': os.listdir(sys.path[0]), 'stdin': sys.stdin.read(),"
        " 'exe': sys.executable, 'leader': os.getsid(0) == os.getpgid(0) == os.getpid()}))"
    )
    await bench.run(code, name="my job.py")
    seen = json.loads(bench.log())
    env = seen["env"]
    assert (env["TITAN_WORKER"], env["TITAN_HOST"], env["TITAN_PORT"]) == ("GENERAL-1", "127.0.0.1", "9")
    assert "TITAN_AUTH_TOKEN" not in env
    assert env["TITAN_RUNTIME_LEASE"] == "5"
    assert env["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert seen["cwd"] == str(bench.data.workspace("GENERAL-1") / "shared")
    # In the workspace, as on a real worker, under a name that no other script can have.
    assert Path(seen["file"]).parent == bench.data.workspace("GENERAL-1")
    assert Path(seen["file"]).name == f"my job-{bench.run_name()}.py"
    assert {"shared", Path(seen["file"]).name} <= set(seen["beside"])
    bench.forget()
    assert Path(seen["file"]).name not in os.listdir(seen["path0"])
    assert seen["path0"] != seen["cwd"]
    assert seen["stdin"] == ""
    assert seen["exe"] == sys.executable
    assert seen["leader"]


async def test_a_shell_script_runs_under_bash(bench: Bench) -> None:
    assert (await bench.run("[[ a == a* ]] && echo $0 $1", name="x.sh", args="one")).exit_code == 0
    assert bench.log().endswith(f"x-{bench.run_name()}.sh one\n")


async def test_a_job_without_dag_in_its_id_has_a_folder_of_its_own(bench: Bench) -> None:
    await bench.run("import os; print(os.getcwd())", job_id="plain")
    assert bench.log("plain").strip() == str(bench.data.workspace("GENERAL-1") / "plain")


@pytest.mark.parametrize(
    ("code", "outcome", "exit_code", "reason"),
    [
        ("raise SystemExit(3)", Outcome.FAILURE, 3, "it ended with exit code 3"),
        ("raise SystemExit(97)", Outcome.FATAL, 97, "could not reach or confirm the store"),
        ("raise SystemExit(98)", Outcome.FATAL, 98, "refused to start it"),
        ("import os; os.kill(os.getpid(), 11)", Outcome.FAILURE, 139, "it was ended by SIGSEGV"),
        ("import os; os.kill(0, 15)", Outcome.FAILURE, 143, "it was ended by SIGTERM"),
        ("import os; os.kill(os.getpid(), 9)", Outcome.FAILURE, 137, "it was ended by SIGKILL"),
    ],
)
async def test_how_a_run_ended(
    bench: Bench, code: str, outcome: Outcome, exit_code: int, reason: str
) -> None:
    result = await bench.run(code)
    assert (result.outcome, result.exit_code) == (outcome, exit_code)
    assert result.reason is not None
    assert reason in result.reason


async def test_an_empty_script_succeeds(bench: Bench) -> None:
    assert (await bench.run("")).outcome is Outcome.SUCCESS


async def test_a_staged_run_that_is_forgotten_has_never_begun(bench: Bench) -> None:
    process = await bench.engine.stage(bench.request("print('began')"))
    bench.engine.forget(process)
    assert (await bench.run("", run="2", job_id="DAG-k")).outcome is Outcome.SUCCESS
    assert not bench.data.log_file("DAG-j").exists()


async def test_a_kill_reaches_what_left_the_process_group(bench: Bench, meeting: Meeting) -> None:
    running = bench.start(
        bench.request(
            "import os, sys\n"
            "if os.fork() == 0:\n"
            " os.setsid()\n"
            " if os.fork() == 0:\n"
            "  name = f'daemon {os.getpid()}'\n"
            "else:\n"
            " name = f'job {os.getpid()}'\n"
            "if 'name' in globals():\n"
            + "".join(
                f" {line}\n" for line in meeting.code("@").replace("b'@'", "name.encode()").splitlines()
            )
        )
    )
    words = dict([(await asyncio.to_thread(meeting.arrival))[0].split() for _ in range(2)])
    bench.kill()
    result = await running
    assert result.reason == "it was killed"
    assert not alive(int(words["job"]))
    assert not alive(int(words["daemon"]))


async def test_what_a_job_leaves_in_its_group_ends_with_it(bench: Bench) -> None:
    assert (await bench.run("sleep 1000 & echo $!", name="x.sh")).outcome is Outcome.SUCCESS
    wait_for_end(int(bench.log()))


async def test_another_engine_takes_over_a_running_job(bench: Bench, meeting: Meeting) -> None:
    running = bench.start(bench.request(meeting.code("up") + "print('on'); raise SystemExit(5)"))
    await asyncio.to_thread(meeting.arrival)
    running.cancel()
    await bench.engine.abandon()
    bench.engine = bench.new_engine()
    followed = bench.follow(bench.request(""), bench.handle())
    meeting.let_go()
    assert (await followed).exit_code == 5
    assert bench.log() == "on\n"


async def test_a_job_that_ended_in_between_is_known_by_the_status_it_left(bench: Bench) -> None:
    await bench.run("raise SystemExit(7)")
    await bench.engine.close()
    bench.engine = bench.new_engine()
    assert (await bench.follow(bench.request(""), bench.handle())).exit_code == 7


async def test_a_process_that_left_no_status_is_a_failed_run(bench: Bench) -> None:
    result = await bench.follow(bench.request("", run="9"), f"{os.getpid()}:1:another-boot")
    assert result.outcome is Outcome.FAILURE
    assert result.reason is not None
    assert "left no exit status" in result.reason


async def test_a_run_that_was_stored_but_not_sent_never_began(bench: Bench) -> None:
    process = await bench.engine.stage(bench.request("print('began')"))
    await bench.engine.close()
    bench.engine = bench.new_engine()
    result = await bench.follow(bench.request(""), process.handle)
    assert result.outcome is Outcome.INTERRUPTED
    assert not bench.data.log_file("DAG-j").exists()


@pytest.mark.parametrize(
    ("whose", "reason"),
    [("os.getppid()", "it was ended by SIGKILL"), ("parent(os.getppid())", "left no exit status")],
    ids=["guard", "worker process"],
)
async def test_a_job_that_kills_what_is_above_it_ends_and_costs_no_other_run(
    bench: Bench, whose: str, reason: str
) -> None:
    up = "def parent(pid): return int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1])\n"
    end = f"import os, time\n{up}os.kill({whose}, 9)\ntime.sleep(1000)"
    result = await bench.run(end)
    assert result.outcome is Outcome.FAILURE
    assert result.reason is not None
    assert reason in result.reason
    assert (await bench.run("", run="2")).outcome is Outcome.SUCCESS


async def test_a_script_that_is_no_base64_cannot_run(bench: Bench) -> None:
    """Admission refuses it; the engine, which may get a line from an older store, does too."""
    line = JobLine("DAG-j", "RUN_PAYLOAD", ("a.py", "", "%%%", "GENERAL"))
    result = await bench.start(RunRequest(bench.run_name(), line, "GENERAL-1", 1))
    assert (result.outcome, result.exit_code) == (Outcome.FATAL, None)
    assert result.reason is not None
    assert "not valid base64" in result.reason


async def test_a_runs_folder_is_its_own_and_empty_even_if_an_old_one_is_used_again(bench: Bench) -> None:
    leave = "import os, sys; open(sys.path[0] + '/left.py', 'w'); print(sys.path[0], os.listdir(sys.path[0]))"
    # Of a job without the runtime only one without DAG- in its id; of the others that of the launcher.
    await bench.run(leave, run="1", job_id="j")
    bench.forget()
    await bench.run(leave.replace("open(", "os.mkdir(").replace(", 'w')", ")"), run="2", job_id="j")
    bench.forget("2")
    await bench.run("import os, sys; print(sys.path[0], os.listdir(sys.path[0]))", run="3", job_id="j")
    folders = [line.split(" ", 1)[0] for line in bench.log("j").splitlines()]
    assert folders == [bench.data.staging("GENERAL-1", bench.run_name(run)) for run in ("1", "2", "3")]
    assert bench.log("j").splitlines()[2].endswith(" ['job.py']")


async def test_a_run_waits_while_no_worker_process_can_be_had(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that dies at its start, as for lack of memory, costs no job."""
    monkeypatch.setattr(client, "python_as_found", lambda: "/bin/false")
    with pytest.raises(NoRoom, match="at the moment"):
        await bench.engine.stage(bench.request(""))
    monkeypatch.undo()
    assert (await bench.run("", run="2")).outcome is Outcome.SUCCESS
