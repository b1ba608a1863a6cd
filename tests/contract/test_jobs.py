"""Single jobs: what is passed arrives exactly, what happened comes back."""

from __future__ import annotations

import json

import pytest

from tests.support.process_watch import wait_for
from titan_sdk import (
    InvalidDag,
    JobFailed,
    JobStatus,
    NotFound,
    ResultUnavailable,
    SubmissionUnconfirmed,
    TitanJob,
    WaitTimedOut,
)

ECHO = """
import json, os, sys
import titan_job
titan_job.result({"argv": sys.argv[1:], "env": os.environ.get("GREETING"), "params": titan_job.params,
                  "file": os.path.basename(__file__)})
"""
NASTY_ARGS = ["--name", "z w", 'quo"te', "it's", "a|b;c", "[x]", "", "new\nline", "日本語", "$HOME `id`"]


def test_a_job_completes_and_returns_its_result(api, unique, script):
    job = TitanJob(
        unique("echo"), script(ECHO), args=NASTY_ARGS, params={"n": [1, None, "é"]}, env={"GREETING": "hé|;"}
    )
    handle = api.submit_job(job)
    report = handle.wait(timeout=300)
    assert report.state == "COMPLETED"
    assert report.exit_code == 0
    assert report.result == {
        "argv": NASTY_ARGS,
        "env": "hé|;",
        "params": {"n": [1, None, "é"]},
        "file": "script.py",
    }
    assert handle.result() == report.result
    assert report.attempts == 1
    assert report.worker
    assert report.seconds is not None


def test_a_string_of_args_is_split_at_spaces_only(api, unique, script):
    handle = api.submit_job(TitanJob(unique("args"), script(ECHO), args='--lr 0.01  {"a":1} "q'))
    assert handle.wait(timeout=300).result["argv"] == ["--lr", "0.01", '{"a":1}', '"q']


def test_a_failure_carries_exit_code_and_log(api, unique, script):
    handle = api.submit_job(TitanJob(unique("fails"), script("import sys; print('last words'); sys.exit(3)")))
    with pytest.raises(JobFailed, match="failed with exit code 3") as failure:
        handle.wait(timeout=300)
    assert failure.value.report.state is JobStatus.DEAD
    assert failure.value.report.exit_code == 3
    assert "last words" in failure.value.report.log_tail
    with pytest.raises(ResultUnavailable, match="a result exists once the job has completed"):
        handle.result()


def test_a_remote_exception_comes_back_with_its_traceback(api, unique, script):
    handle = api.submit_job(TitanJob(unique("raises"), script("def f():\n    raise KeyError('lost')\nf()\n")))
    report = handle.wait(timeout=300, raise_on_failure=False)
    assert report.exception.type == "KeyError"
    assert "in f" in report.exception.traceback
    assert "KeyError" in report.describe()


def test_a_failing_script_runs_once_by_default_and_max_attempts_times_on_demand(
    api, unique, script, tmp_path
):
    source = script(
        "import sys, titan_job\nwith open(sys.argv[1], 'a') as f: print(titan_job.attempt, file=f)\nsys.exit(1)"
    )
    for attempts, expected in ((None, ["1"]), (3, ["1", "2", "3"])):
        trace = tmp_path / f"runs-{attempts}"
        job = TitanJob(unique("counted"), source, args=[str(trace)], max_attempts=attempts)
        report = api.submit_job(job).wait(timeout=300, raise_on_failure=False)
        assert report.state is JobStatus.DEAD
        assert trace.read_text().split() == expected


def test_a_signal_is_reported_by_name(api, unique, script):
    handle = api.submit_job(
        TitanJob(unique("killed"), script("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    )
    report = handle.wait(timeout=300, raise_on_failure=False)
    assert report.signal == "SIGSEGV"
    assert "ended by SIGSEGV" in report.describe()


def test_logs_are_whole_and_followed_once(api, unique, script):
    handle = api.submit_job(TitanJob(unique("prints"), script("for i in range(3000): print(f'line {i} é')")))
    expected = [f"line {i} é" for i in range(3000)]
    assert list(handle.follow_logs()) == expected
    handle.wait(timeout=300)
    assert handle.logs().splitlines() == expected
    first = api.read_logs(handle.job_id, nonce=handle.nonce)
    second = api.read_logs(handle.job_id, nonce=handle.nonce, position=first.position)
    assert (first.text + second.text).splitlines() == expected


def test_a_page_of_a_log_is_read_again_as_it_was(api, unique, script, tmp_path):
    """So does a trigger that takes the place of one that was killed while it copied the page."""
    gate = tmp_path / "gate"
    source = script(
        f"import os, time\nprint('é')\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)\nprint('two')"
    )
    handle = api.submit_job(TitanJob(unique("again"), source))
    wait_for(lambda: api.read_logs(handle.job_id, nonce=handle.nonce).text)
    first = api.read_logs(handle.job_id, nonce=handle.nonce)
    gate.touch()
    handle.wait(timeout=300)
    assert handle.logs() == "é\ntwo\n"
    assert api.read_logs(handle.job_id, nonce=handle.nonce, until=first.position) == first


def test_a_job_goes_to_the_worker_with_its_tag(api, unique, script):
    source = script("import os, titan_job; titan_job.result(os.getcwd())")
    cwds = {
        tag: api.submit_job(TitanJob(unique(tag), source, requirement=tag)).wait(timeout=60).result
        for tag in ("GPU", "GENERAL")
    }
    assert cwds["GPU"] != cwds["GENERAL"]


def test_a_shell_script_runs_with_its_arguments(api, unique, script):
    source = script('echo "got $1 $GREETING"\npython3 -m titan_job result \'{"ok": true}\'\n', "job.sh")
    handle = api.submit_job(TitanJob(unique("shell"), source, args=["a b"], env={"GREETING": "hi"}))
    assert handle.wait(timeout=300).result == {"ok": True}
    assert "got a b hi" in handle.logs()


def test_two_jobs_with_the_same_file_name_run_their_own_code(api, unique, tmp_path):
    jobs = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "main.py").write_text(f"import titan_job; titan_job.result({name!r})")
        jobs.append(TitanJob(unique(name), str(folder / "main.py")))
    handles = [api.submit_job(job) for job in jobs]
    assert [handle.wait(timeout=300).result for handle in handles] == ["one", "two"]


def test_cancel_ends_a_running_job(api, unique, script):
    source = script("import time, titan_job\nprint('started', flush=True)\ntime.sleep(600)")
    handle = api.submit_job(TitanJob(unique("endless"), source, timeout=600))
    while handle.status() is not JobStatus.RUNNING:
        with pytest.raises(WaitTimedOut, match=r"not over after 0\.05 s"):
            handle.wait(timeout=0.05)
    assert handle.cancel() is JobStatus.CANCELLED
    report = handle.wait(timeout=120, raise_on_failure=False)
    assert report.state is JobStatus.CANCELLED
    with pytest.raises(InvalidDag, match="was cancelled on this master"):
        api.submit_job(TitanJob(handle.job_id, source))


def test_a_timeout_ends_the_job_and_says_so(api, unique, script):
    handle = api.submit_job(TitanJob(unique("slow"), script("import time; time.sleep(600)"), timeout=0.5))
    report = handle.wait(timeout=300, raise_on_failure=False)
    assert report.state is JobStatus.DEAD
    assert "0.5" in report.describe()


def test_an_id_works_with_and_without_the_prefix(api, unique, script):
    handle = api.submit_job(TitanJob(unique("prefix"), script("print('hello')")))
    handle.wait(timeout=300)
    assert api.get_job_status(handle.job_id) == api.get_job_status(handle.full_id) == "COMPLETED"
    assert api.fetch_logs(handle.full_id) == api.fetch_logs(handle.job_id) == "hello\n"


def test_a_reused_id_reads_only_its_own_run(api, unique, script):
    job_id = unique("again")
    first = api.submit_job(TitanJob(job_id, script("import titan_job; titan_job.result(1); print('one')")))
    first.wait(timeout=300)
    second = api.submit_job(TitanJob(job_id, script("import titan_job; titan_job.result(2); print('two')")))
    assert second.wait(timeout=300).result == 2
    assert second.logs() == "two\n"
    assert api.job_handle(job_id).result() == 2


def test_an_id_reused_without_the_runtime_reads_nothing_of_the_run_before(api, unique, script):
    """Asked for by its id alone, as somebody else would."""
    job_id = unique("reused")
    first = api.submit_job(TitanJob(job_id, script("import titan_job; titan_job.result(1)")))
    assert first.wait(timeout=300).result == 1
    plain = script("raise SystemExit(3)")
    api.submit_job(TitanJob(job_id, plain, runtime=False))
    # A busy real master says for a while that the id has completed, as the run before had.
    wait_for(lambda: api.get_job_status(job_id) == "DEAD")
    report = api.job_report(job_id)
    assert (report.state, report.has_result, report.exit_code, report.worker) == ("DEAD", False, None, None)
    with pytest.raises(ResultUnavailable):
        api.job_handle(job_id).result()
    assert first.job_id == job_id


def test_an_unknown_id_is_told_apart(api, unique):
    job_id = unique("never")
    assert api.get_job_status(job_id) is JobStatus.UNKNOWN
    assert api.fetch_logs(job_id) == ""
    with pytest.raises(NotFound, match="does not know the job"):
        api.cancel_job(job_id)
    assert api.get_job_status(job_id) is JobStatus.UNKNOWN
    with pytest.raises(NotFound):
        api.job_handle(job_id).result()


def test_without_the_runtime_the_job_is_titans_own(api, unique, script):
    source = script("import sys; print('plain', sys.argv[1:])")
    handle = api.submit_job(TitanJob(unique("plain"), source, args="a b", runtime=False))
    report = handle.wait(timeout=300)
    assert report.state is JobStatus.COMPLETED
    assert not report.has_result
    assert handle.nonce is None
    assert "plain ['a', 'b']" in "\n".join(handle.follow_logs())


def test_a_parent_nobody_knows_is_refused(api, unique, script):
    with pytest.raises(InvalidDag, match="neither in this DAG nor known to the master"):
        api.submit_job(TitanJob(unique("orphan"), script("pass"), parents=[unique("nobody")]))


def test_a_result_is_any_json(api, unique, script):
    value = {"text": "é\n|;", "list": [1.5, None, True], "big": "x" * 200_000}
    source = script("import json, sys, titan_job; titan_job.result(json.loads(titan_job.params))")
    handle = api.submit_job(TitanJob(unique("json"), source, params=json.dumps(value)))
    assert handle.wait(timeout=300).result == value


def test_the_submission_error_names_its_ids():
    error = SubmissionUnconfirmed("lost", job_ids=("DAG-a",))
    assert error.outcome_unknown
    assert error.job_ids == ("DAG-a",)


@pytest.mark.parametrize("name", ["run.sh", "run.py", "run"])
def test_the_first_line_of_a_script_decides(api, unique, script, name):
    """A person who runs the file gets its options: here the first failing command ends it."""
    handle = api.submit_job(
        TitanJob(unique("line"), script("#!/bin/bash -e\necho begun\nfalse\necho 'went on'\n", name))
    )
    report = handle.wait(timeout=300, raise_on_failure=False)
    assert (report.exit_code, handle.logs()) == (1, "begun\n")


def test_plain_jobs_find_what_others_left_beside_their_files(api, unique, script, capabilities):
    """As upstream's own map-reduce example does; with it two jobs of one file run at a time."""
    tag = (
        "GENERAL" if "strict_submit" in capabilities else "GPU"
    )  # machines share nothing, also where they are imitated
    name = unique("chunk")
    here = "import os, sys, time\nhere = os.path.dirname(os.path.abspath(__file__))\n"
    first = script(f"{here}for n in '12': open(os.path.join(here, '{name}' + n), 'w').write(n)", "first.py")
    middle = script(
        f"{here}n = sys.argv[1]\ntext = open(os.path.join(here, '{name}' + n)).read()\ntime.sleep(0.5)\n"
        f"open(os.path.join(here, 'shared', '{name}out' + n), 'w').write(text * 2)",
        "middle.py",
    )
    last = script(f"print([open('{name}out' + n).read() for n in '12'])", "last.py")
    ids = [unique("job") for _ in range(4)]
    jobs = [
        TitanJob(ids[0], first, requirement=tag, runtime=False),
        TitanJob(ids[1], middle, args="1", parents=[ids[0]], requirement=tag, runtime=False),
        TitanJob(ids[2], middle, args="2", parents=[ids[0]], requirement=tag, runtime=False),
        TitanJob(ids[3], last, parents=ids[1:3], requirement=tag, runtime=False),
    ]
    dag = api.submit_dag(unique("dag"), jobs)
    dag.wait(timeout=300)
    assert list(dag[ids[3]].follow_logs()) == ["['11', '22']"]


@pytest.mark.parametrize("runtime", [True, False])
def test_a_script_that_is_no_file_runs_and_is_called_what_it_was_called(api, unique, runtime):
    job = TitanJob(
        unique("inline"),
        "étape 1.py",
        source="print('é')\nassert 0, 'over'",
        runtime=runtime,
        max_attempts=1 if runtime else None,
    )
    report = api.submit_job(job).wait(timeout=300, raise_on_failure=False)
    assert report.state is JobStatus.DEAD
    if runtime:
        assert 'étape 1.py", line 2, in <module>' in report.log_tail
        assert report.log_tail.splitlines()[0] == "é"


def test_a_shell_script_that_is_no_file(api, unique):
    handle = api.submit_job(TitanJob(unique("inline"), source="\n#!/bin/bash\nexit $((6 * 7))\n"))
    assert handle.wait(timeout=300, raise_on_failure=False).exit_code == 42
