"""Every name the rules let through is read back by a master as it was written."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from titan_sdk.model import rules
from titan_sdk.wire.jobs import RUN_PAYLOAD, JobLine, encode_line, parse_dag

text = st.text(st.sampled_from("abGPU;|[],=-. 0159\n\tAFINTY_"), min_size=1, max_size=22)


@given(job_id=text, tag=text, name=text, args=text)
def test_what_the_rules_accept_is_encoded_and_read_back(job_id: str, tag: str, name: str, args: str) -> None:
    job_id = job_id if rules.check_id(job_id) is None else "a"
    tag = tag if rules.check_requirement(tag) is None and tag != rules.full_id(job_id) else "GPU"
    fields = (
        name if rules.check_filename(name) is None else "f.py",
        args if rules.check_args(args) is None else "",
        "cHJpbnQ=",
        tag,
    )
    line = JobLine(rules.full_id(job_id), RUN_PAYLOAD, fields)
    assert parse_dag(encode_line(line)) == [line]
    assert line.requirement == tag


@pytest.mark.parametrize(
    ("given_id", "full", "short"),
    [("a", "DAG-a", "a"), ("DAG-a", "DAG-a", "a"), ("dag-a", "DAG-dag-a", "dag-a")],
)
def test_the_prefix_is_added_once(given_id: str, full: str, short: str) -> None:
    assert rules.full_id(given_id) == full
    assert rules.short_id(given_id) == short
    assert rules.full_id(rules.full_id(given_id)) == full


def test_an_empty_file_name_is_refused() -> None:
    assert rules.check_filename(" ") == "is empty"
