"""Job lines written: what is accepted is read back equal; what would be read otherwise is refused."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, strategies as st

from titan_sdk.errors import LocalProtocolError
from titan_sdk.wire.jobs import (
    DEPLOY_PAYLOAD,
    HEADERS,
    RUN_ARCHIVE,
    RUN_PAYLOAD,
    START_ARCHIVE_SERVICE,
    JobLine,
    dump_line,
    encode_dag,
    encode_line,
    load_line,
    parse_dag,
    parse_line,
)

PLAIN = JobLine("DAG-a", RUN_PAYLOAD, ("f.py", "", "cHJpbnQ=", "GPU"))

raw = st.text(st.sampled_from("ab |;,[]=1-\nAFINTYé"), max_size=8)
safe = st.text(st.sampled_from("abcXYZ019._-"), min_size=1, max_size=12)


def lines(text: st.SearchStrategy[str]) -> st.SearchStrategy[JobLine]:
    ids = text.map("DAG-".__add__)
    return st.sampled_from(sorted(HEADERS)).flatmap(
        lambda header: st.builds(
            JobLine,
            job_id=ids,
            header=st.just(header),
            fields=st.tuples(*[text] * len(HEADERS[header])),
            priority=st.integers(-(2**32), 2**32),
            delay_ms=st.integers(-(2**64), 2**64),
            parents=st.lists(ids, max_size=3).map(tuple),
            affinity=st.booleans(),
        )
    )


@given(lines(raw) | lines(safe))
def test_whatever_is_encoded_is_parsed_back_equal(line: JobLine) -> None:
    try:
        text = encode_line(line)
    except LocalProtocolError:
        return
    assert parse_dag(text) == [line]
    assert line.requirement == line.field("requirement").strip()


@given(st.lists(safe.map(lambda name: PLAIN._replace(job_id="DAG-" + name)), max_size=5))
def test_a_dag_of_safe_lines_is_always_encoded_and_parsed_back(dag: list[JobLine]) -> None:
    assert parse_dag(encode_dag(dag)) == dag


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (PLAIN, "DAG-a|RUN_PAYLOAD|f.py||cHJpbnQ=|GPU|1|0|[]"),
        (
            JobLine("DAG-b", DEPLOY_PAYLOAD, ("s.py", "QQ==", "8095", "GENERAL"), 5, 2000, ("DAG-a",), True),
            "DAG-b|DEPLOY_PAYLOAD|s.py|QQ==|8095|GENERAL|5|2000|[DAG-a]|AFFINITY",
        ),
        (
            JobLine("DAG-c", RUN_ARCHIVE, ("p.zip/f.py", "x y", "GENERAL"), parents=("DAG-a", "DAG-b")),
            "DAG-c|RUN_ARCHIVE|p.zip/f.py|x y|GENERAL|1|0|[DAG-a,DAG-b]",
        ),
        (
            JobLine("DAG-d", START_ARCHIVE_SERVICE, ("p.zip/s.py", "", "81", "GENERAL")),
            "DAG-d|START_ARCHIVE_SERVICE|p.zip/s.py||81|GENERAL|1|0|[]",
        ),
    ],
)
def test_the_line_as_upstream_writes_it(line: JobLine, text: str) -> None:
    assert encode_line(line) == text
    assert parse_line(text) == line


def test_ids_may_be_written_without_the_prefix_and_are_read_with_it() -> None:
    short = PLAIN._replace(job_id="a", parents=("b", "DAG-c"))
    assert encode_line(short) == "a|RUN_PAYLOAD|f.py||cHJpbnQ=|GPU|1|0|[b,DAG-c]"
    assert parse_line(encode_line(short)) == PLAIN._replace(parents=("DAG-b", "DAG-c"))


@pytest.mark.parametrize("short", [True, False])
def test_a_job_may_be_called_like_the_tag_that_it_requires(short: bool) -> None:
    job_id = "GPU" if short else "DAG-GPU"
    text = encode_line(PLAIN._replace(job_id=job_id))
    assert parse_line(text) == PLAIN._replace(job_id="DAG-GPU")


def test_a_tag_that_is_the_jobs_full_id_is_refused() -> None:
    odd = PLAIN._replace(job_id="a", fields=("f.py", "", "", "DAG-a"))
    with pytest.raises(LocalProtocolError, match="would read requirement 'DAG-a' as 'GENERAL'"):
        encode_line(odd)


odd_or_plain = st.text(st.sampled_from("AFINTY_SCLE-.01a, "), max_size=16) | st.sampled_from(
    [
        "AFFINITY",
        "STICKY",
        "INTERNAL_SCALE",
        "GPU",
        "A" * 19,
        "A" * 20,
        "DAG-GPU",
        "RUN_PAYLOAD",
        "DEPLOY_PAYLOAD",
    ]
)


@given(lines(odd_or_plain))
def test_what_is_taken_for_plain_without_being_read_back_is_read_back_equal(line: JobLine) -> None:
    try:
        text = encode_line(line)
    except LocalProtocolError:
        return
    read = parse_line(text)
    assert read == line
    assert isinstance(read, JobLine)
    assert read.requirement == line.field("requirement").strip()


def test_lines_of_a_dag_are_joined_by_a_semicolon() -> None:
    assert encode_dag([PLAIN, PLAIN]) == f"{encode_line(PLAIN)} ; {encode_line(PLAIN)}"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"fields": ("f.py", "x;y", "", "GPU")}, "job 'DAG-a': args 'x;y' contains '|' or ';'"),
        ({"fields": ("f|g.py", "", "", "GPU")}, "job 'DAG-a': filename 'f|g.py' contains '|' or ';'"),
        ({"fields": ("f.py",)}, "job 'DAG-a': header 'RUN_PAYLOAD' does not go with 1 fields"),
        ({"header": "GPU"}, "job 'DAG-a': header 'GPU' does not go with 4 fields"),
        ({"header": "", "fields": ()}, "job 'DAG-a': header '' does not go with 0 fields"),
        ({"job_id": "DAG-a;b"}, "job 'DAG-a;b': id 'DAG-a;b' contains a delimiter of the job grammar"),
        ({"parents": ("DAG-[b]",)}, "job 'DAG-a': id 'DAG-[b]' contains a delimiter of the job grammar"),
        ({"job_id": "DAG-a "}, "job 'DAG-a ': a master would read job_id 'DAG-a ' as 'DAG-a'"),
        ({"parents": ("DAG-b ",)}, "job 'DAG-a': a master would read parents ('DAG-b ',) as ('DAG-b',)"),
        ({"priority": 2**31}, "job 'DAG-a': the priority '2147483648' is not a 32-bit integer"),
        ({"delay_ms": 2**63}, "job 'DAG-a': the delay '9223372036854775808' is not a 64-bit integer"),
        (
            {"fields": ("f.py", "", "cHJpbnQ", "123")},
            "job 'DAG-a': a master would read requirement '123' as 'cHJpbnQ'",
        ),
        (
            {"job_id": "DAG-INTERNAL_SCALE"},
            "job 'DAG-INTERNAL_SCALE': a master would read requirement 'GPU' as 'GENERAL'",
        ),
        ({"fields": ("f.py", "", "", "")}, "job 'DAG-a': a master would read requirement '' as 'GENERAL'"),
    ],
)
def test_each_refusal_is_a_sentence(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode_line(PLAIN._replace(**change))  # type: ignore[arg-type]
    assert str(caught.value).startswith(sentence)


@given(lines(raw))
def test_a_pickled_line_is_the_same_line(line: JobLine) -> None:
    back = pickle.loads(pickle.dumps(line, protocol=pickle.HIGHEST_PROTOCOL))
    assert type(back) is JobLine
    assert back == line


def test_a_stored_line_is_read_back_exactly() -> None:
    line = JobLine("a", RUN_PAYLOAD, ("é.py", "", "cHJpbnQ=", "GPU"), -3, 10, ("DAG-b", "c"), affinity=True)
    assert load_line("a", dump_line(line)) == line
