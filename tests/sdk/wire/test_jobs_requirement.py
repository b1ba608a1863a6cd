"""Which capability a job needs, as a real master finds it (protocol section 4.3)."""

from __future__ import annotations

import pytest

from titan_sdk.wire.jobs import JobLine, parse_line

LONG_SCRIPT = "cHJpbnQoJ2hlbGxvIHdvcmxkJyk"


def tag(text: str) -> str:
    line = parse_line(f"{text}|1|0|[]")
    assert isinstance(line, JobLine), line
    return line.requirement


def script(requirement: str, content: str = LONG_SCRIPT) -> str:
    return tag(f"a|RUN_PAYLOAD|f.py|fast|{content}|{requirement}")


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("GPU", "GPU"),
        (" GENERAL ", "GENERAL"),
        ("", "GENERAL"),
        ("x" * 19, "x" * 19),
        ("x" * 20, "GENERAL"),
        ("GPU=", "GENERAL"),
        ("gpu", "gpu"),
        ("[GPU", "[GPU"),
    ],
)
def test_the_requirement_field_as_sent_and_as_read(sent: str, read: str) -> None:
    assert script(sent) == read


@pytest.mark.parametrize("sent", ["AFFINITY", "[x]", "[]", "123", "-5", "+5", "DAG-a"])
def test_what_looks_like_metadata_is_skipped_and_the_script_is_examined(sent: str) -> None:
    assert script(sent) == "GENERAL"
    assert script(sent, content="cHJpbnQ") == "cHJpbnQ"
    assert script(sent, content="cHI=") == "GENERAL"


def test_an_omitted_requirement_examines_the_field_before_it() -> None:
    assert tag("a|RUN_PAYLOAD|f.py|fast|cHJpbnQ") == "cHJpbnQ"
    assert tag("a|RUN_PAYLOAD|f.py|fast") == "fast"


@pytest.mark.parametrize(
    "body", ["RUN_ARCHIVE|p.zip/f.py|fast", "START_ARCHIVE_SERVICE|p.zip/f.py|fast|8095"]
)
def test_archives_with_a_numeric_requirement_demand_a_worker_named_like_the_args(body: str) -> None:
    assert tag(f"a|{body}|7") == "fast"
    assert tag(f"a|{body}|") == "GENERAL"


def test_only_metadata_is_general() -> None:
    assert tag("a|RUN_PAYLOAD|1|2|[3]") == "GENERAL"


@pytest.mark.parametrize(
    "text",
    [
        "a|RUN_PAYLOAD|INTERNAL_SCALE.py||QQ==|GPU",
        "a|RUN_PAYLOAD|f.py|INTERNAL_SCALE|QQ==|GPU",
        "a_INTERNAL_SCALE|RUN_PAYLOAD|f.py||QQ==|GPU",
        "a|INTERNAL_SCALE|x",
    ],
)
def test_the_word_internal_scale_anywhere_is_general(text: str) -> None:
    assert tag(text) == "GENERAL"


def test_without_a_header_the_second_field_is_the_capability() -> None:
    assert tag("a| GPU |echo hi") == "GPU"
