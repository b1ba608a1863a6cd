from __future__ import annotations

import pytest

from tests.sdk.cluster.peer import b64, script
from titan_sdk.cluster.master.admission import SubmissionRefused, check_graph, check_job, read_dag
from titan_sdk.wire.jobs import JobLine, dump_line, load_line


def checked(payload: str, *known: str) -> list[JobLine]:
    lines = read_dag(payload)
    check_graph(lines, known.__contains__)
    return lines


def refused(payload: str, *known: str) -> str:
    with pytest.raises(SubmissionRefused) as caught:
        checked(payload, *known)
    return str(caught.value)


GOOD = script("good", "pass")


def test_a_good_dag_is_taken_in_its_order() -> None:
    lines = checked(script("b", "pass", parents=["a"]) + ";" + script("a", "pass"))
    assert [line.job_id for line in lines] == ["DAG-b", "DAG-a"]


def test_a_parent_may_have_been_submitted_before() -> None:
    (line,) = checked(script("b", "pass", parents=["old"]), "DAG-old")
    assert line.parents == ("DAG-old",)


def line(fields: str, header: str = "RUN_PAYLOAD", parents: str = "[]") -> str:
    return f"job|{header}|{fields}|1|0|{parents}"


REFUSALS = {
    "": "the DAG has no jobs",
    " ; ": "the DAG has no jobs",
    f"{GOOD} ; what is this": "line 2 ('what is this') cannot be read: the parent list is missing",
    "job|RUN_PAYLOAD|a.py||||x|0|[]": "the priority 'x' is not a 32-bit integer",
    "|RUN_PAYLOAD|a.py|||GENERAL|1|0|[]": "the id is empty",
    line("a.py||x|GENERAL", header="FLY"): "'FLY' is no kind of job; use one of RUN_PAYLOAD",
    line(f"a.py|one|two|{b64('')}|GENERAL"): "5 fields where 4 are expected",
    line(f"a.py|{b64('')}|GENERAL"): "3 fields where 4 are expected",
    line(f"a.py||{b64('')}|12"): "requirement '12' is a number",
    line(f"a.py||{b64('')}|{'x' * 20}"): "is 20 characters long",
    line(f"a.txt||{b64('')}|GENERAL"): "filename 'a.txt' ends neither in .py nor in .sh",
    line(f"../a.py||{b64('')}|GENERAL"): "filename '../a.py' is not a plain file name",
    line(f"{'x' * 300}.py||{b64('')}|GENERAL"): "longer than 200 bytes",
    line("a.py||no base64!|GENERAL"): "the script is not base64",
    line(f"a.py|x\0y|{b64('')}|GENERAL"): "args contain a NUL",
    line("project||GENERAL", header="RUN_ARCHIVE"): "does not name an entry of a zip",
    line("p.zip/x.txt||GENERAL", header="RUN_ARCHIVE"): "the entry 'x.txt' ends neither in .py",
    line("p.zip/../x.py||GENERAL", header="RUN_ARCHIVE"): "leaves the archive",
    line(f"s.py|{b64('')}|http|GENERAL", header="DEPLOY_PAYLOAD"): "port 'http' is not a number",
    line(f"s.py|{b64('')}|70000|GENERAL", header="DEPLOY_PAYLOAD"): "port '70000' is not a number",
    f"{GOOD};{GOOD}": "line 2: the id 'DAG-good' occurs twice",
    script("a", "pass", parents=["ghost"]): "the parent 'DAG-ghost' is neither in this DAG nor",
    script("a", "pass", parents=["a"]): "form a cycle (DAG-a -> DAG-a)",
    ";".join(script(a, "pass", parents=[b]) for a, b in ("ab", "bc", "ca")): "form a cycle (DAG-a -> DAG-b",
    ("x" * 2000) + "|RUN_PAYLOAD|a.py|||GENERAL|1|0|[]": "the id is longer than 1000 bytes",
}


@pytest.mark.parametrize(("payload", "sentence"), REFUSALS.items(), ids=range(len(REFUSALS)))
def test_a_bad_dag_is_refused_with_the_line_the_field_and_the_fix(payload: str, sentence: str) -> None:
    assert sentence in refused(payload)


def test_a_dag_of_too_many_jobs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titan_sdk.cluster.master.admission.MAX_DAG_JOBS", 2)
    assert "has 3 jobs; the limit is 2" in refused(";".join(script(f"j{n}", "pass") for n in range(3)))


def test_an_empty_requirement_means_general() -> None:
    (found,) = checked(script("a", "pass", tag=""))
    assert found.requirement == "GENERAL"


@pytest.mark.parametrize(
    ("tail", "priority", "delay"), [("", 1, 0), ("|250", 1, 250), ("|7|250", 7, 250), ("|-7|250", -7, 250)]
)
def test_submit_job_reads_its_numbers_from_the_right(tail: str, priority: int, delay: int) -> None:
    job = check_job(f"mine|RUN_PAYLOAD|a.py|x y|{b64('pass')}|GENERAL{tail}")
    assert (job.job_id, job.priority, job.delay_ms, job.parents) == ("mine", priority, delay, ())


def test_submit_job_without_an_id_gets_one() -> None:
    first, second = (check_job(f"RUN_PAYLOAD|a.py||{b64('pass')}|GENERAL") for _ in range(2))
    assert first.job_id != second.job_id


@pytest.mark.parametrize("payload", ["", "garbage", "a|b|c", "id|FLY|x"])
def test_submit_job_refuses_what_is_no_job(payload: str) -> None:
    with pytest.raises(SubmissionRefused, match="this is not a job"):
        check_job(payload)


def test_a_line_is_stored_exactly() -> None:
    job = JobLine("raw id", "RUN_PAYLOAD", ("é.py", "a  b\n", "eA==", "GPU"), -3, 5, ("DAG-p",), True)
    assert load_line("raw id", dump_line(job)) == job
