"""Job lines read as a real master reads them: protocol sections 4.1, 4.2 and 4.4, row by row."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from titan_sdk.wire.jobs import RUN_PAYLOAD, JobLine, LineError, parse_dag, parse_line


def parsed(text: str) -> JobLine:
    line = parse_line(text)
    assert isinstance(line, JobLine), line
    return line


def job(text: str) -> JobLine:
    """A whole line around the part under test: everything from the id to the requirement."""
    return parsed(f"{text}|1|0|[]")


def test_a_whole_line_is_read_field_by_field() -> None:
    line = parsed(" a|RUN_PAYLOAD|x.py|--n 3|cHJpbnQ=|GPU|7|1500|[b,DAG-c]|AFFINITY ")
    assert line == JobLine(
        job_id="DAG-a",
        header=RUN_PAYLOAD,
        fields=("x.py", "--n 3", "cHJpbnQ=", "GPU"),
        priority=7,
        delay_ms=1500,
        parents=("DAG-b", "DAG-c"),
        affinity=True,
    )
    assert (line.filename, line.args, line.content_b64, line.port) == ("x.py", "--n 3", "cHJpbnQ=", "")


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("DEPLOY_PAYLOAD|f.py|QQ==|8095|GPU", {"filename": "f.py", "content_b64": "QQ==", "port": "8095"}),
        ("RUN_ARCHIVE|p.zip/f.py|x y|GPU", {"filename": "p.zip/f.py", "args": "x y", "content_b64": ""}),
        ("START_ARCHIVE_SERVICE|p.zip/f.py|x|81|GPU", {"args": "x", "port": "81"}),
    ],
)
def test_each_header_has_its_own_fields(header: str, names: dict[str, str]) -> None:
    line = job(f"a|{header}")
    assert {name: line.field(name) for name in names} == names
    assert line.requirement == "GPU"


def test_a_short_line_has_empty_fields() -> None:
    line = job("a|RUN_PAYLOAD|f.py")
    assert (line.filename, line.args, line.content_b64) == ("f.py", "", "")
    assert job("a|GPU|f.py").filename == ""


# -- 4.1 rule 1: the flag -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["[]|AFFINITY", "[]|STICKY", "[] |AFFINITY", "[]|AFFINITY  "])
def test_both_flag_words_are_read_with_a_space_before_the_pipe(end: str) -> None:
    line = parsed(f"a|RUN_PAYLOAD|f.py||QQ==|GPU|1|0|{end}")
    assert line.affinity
    assert line.parents == ()


@pytest.mark.parametrize(
    ("end", "parents"),
    [
        ("[]|affinity", ("DAG-|affinity",)),
        ("[]|", ("DAG-|",)),
        ("[]| AFFINITY", ("DAG-| AFFINITY",)),
        ("[b]x", ("DAG-bx",)),
    ],
)
def test_anything_else_behind_the_bracket_becomes_a_parent_that_cannot_exist(
    end: str, parents: tuple[str, ...]
) -> None:
    line = parsed(f"a|RUN_PAYLOAD|f.py||QQ==|GPU|1|0|{end}")
    assert (line.parents, line.affinity) == (parents, False)


def test_two_flags_are_one_flag_and_a_parent_that_cannot_exist() -> None:
    line = parsed("a|RUN_PAYLOAD|f.py||QQ==|GPU|1|0|[]|AFFINITY|STICKY")
    assert (line.parents, line.affinity) == (("DAG-|AFFINITY",), True)


# -- 4.1 rule 2: the parents --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "parents"),
    [
        ("[]", ()),
        ("[ ]", ()),
        ("[b]", ("DAG-b",)),
        ("[ b , DAG-c ,, ]", ("DAG-b", "DAG-c")),
        ("[a]b]", ("DAG-ab",)),
        ("[b,b]", ("DAG-b", "DAG-b")),
        ("[dag-x]", ("DAG-dag-x",)),
        ("[b|c]", ("DAG-b|c",)),
    ],
)
def test_parents_are_split_trimmed_and_prefixed(end: str, parents: tuple[str, ...]) -> None:
    assert parsed(f"a|RUN_PAYLOAD|f.py||QQ==|GPU|1|0|{end}").parents == parents


def test_a_bracket_in_a_parent_moves_the_list_and_fails() -> None:
    assert isinstance(parse_line("a|RUN_PAYLOAD|f.py||QQ==|GPU|1|0|[b[c]"), LineError)


def test_no_parent_list_is_an_error_with_a_reason() -> None:
    error = parse_line("a|RUN_PAYLOAD|f.py||QQ==|GPU|1|0|")
    assert str(error) == (
        "line 'a|RUN_PAYLOAD|f.py||QQ==|GPU|1|0|': the parent list is missing; end the line with [] or [parent,...]"
    )


def test_a_long_line_is_shown_cut() -> None:
    assert str(parse_line("x" * 200)).startswith("line '" + "x" * 77 + "...':")


# -- 4.1 rule 3: priority and delay -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("middle", "priority", "delay"),
    [
        ("1|0|", 1, 0),
        ("1|0", 1, 0),
        (" 1 | 0 | ", 1, 0),
        ("-5|-1|", -5, -1),
        ("+2|3|", 2, 3),
        ("2147483647|9223372036854775807|", 2**31 - 1, 2**63 - 1),
        ("-2147483648|-9223372036854775808|", -(2**31), -(2**63)),
    ],
)
def test_priority_is_32_bit_and_delay_64_bit(middle: str, priority: int, delay: int) -> None:
    line = parsed(f"a|RUN_PAYLOAD|f.py||QQ==|GPU|{middle}[]")
    assert (line.priority, line.delay_ms, line.requirement) == (priority, delay, "GPU")


def test_zeros_in_front_of_a_number_are_nothing() -> None:
    line = parsed(f"a|RUN_PAYLOAD|f.py||QQ==|GPU|+{'0' * 5000}7|-{'0' * 5000}|[]")
    assert (line.priority, line.delay_ms) == (7, 0)


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        ("x|0|", "the priority 'x' is not a 32-bit integer"),
        ("2147483648|0|", "the priority '2147483648' is not a 32-bit integer"),
        ("-2147483649|0|", "the priority '-2147483649' is not a 32-bit integer"),
        ("1|soon|", "the delay 'soon' is not a 64-bit integer"),
        ("1|9223372036854775808|", "the delay '9223372036854775808' is not a 64-bit integer"),
        ("1|1.5|", "the delay '1.5' is not a 64-bit integer"),
        ("1||", "the delay '' is not a 64-bit integer"),
        ("1|\u0663|", "the delay '\u0663' is not a 64-bit integer"),
        # More digits than Python itself turns into a number.
        (f"{'9' * 5000}|0|", f"the priority '{'9' * 40}' is not a 32-bit integer"),
        (f"1|-{'9' * 5000}|", f"the delay '-{'9' * 39}' is not a 64-bit integer"),
    ],
    ids=range(10),
)
def test_numbers_that_do_not_parse_are_errors(middle: str, reason: str) -> None:
    error = parse_line(f"a|RUN_PAYLOAD|f.py||QQ==|GPU|{middle}[]")
    assert isinstance(error, LineError)
    assert error.reason == reason


# -- 4.1 rules 4 and 5: the id ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "full_id"),
    [
        ("a", "DAG-a"),
        (" a ", "DAG-a"),
        ("DAG-a", "DAG-a"),
        ("dag-a", "DAG-dag-a"),
        ("", "DAG-"),
        ("a b", "DAG-a b"),
    ],
)
def test_the_id_is_trimmed_and_prefixed(text: str, full_id: str) -> None:
    assert job(f"{text}|RUN_PAYLOAD|f.py||QQ==|GPU").job_id == full_id


def test_a_line_without_a_body_is_an_error() -> None:
    error = parse_line("a|RUN_PAYLOAD|1|0|[]")
    assert isinstance(error, LineError)
    assert error.reason == "there are fewer than three fields before the priority; expected id|HEADER|body"


# -- 4.2: the second field ----------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["a|GPU", "a|X|Y"])
def test_a_skill_before_the_header_is_ignored(before: str) -> None:
    line = job(f"{before}|RUN_PAYLOAD|f.py||QQ==|HIGH_MEM")
    assert (line.header, line.filename, line.requirement) == (RUN_PAYLOAD, "f.py", "HIGH_MEM")


def test_a_header_behind_the_third_field_is_not_found() -> None:
    assert job("a|X|Y|Z|RUN_PAYLOAD|f.py||QQ==|GPU").header == "X"


# -- 4.4: delimiters in fields ------------------------------------------------------------------------


def test_a_semicolon_in_the_args_drops_the_job_and_leaves_a_phantom() -> None:
    dropped, phantom = parse_dag("a|RUN_PAYLOAD|f.py|x;rest|cHJpbnQ|GPU|1|0|[]")
    assert isinstance(dropped, LineError)
    assert isinstance(phantom, JobLine)
    assert phantom.job_id == "DAG-rest"
    assert phantom.requirement == "cHJpbnQ"


def test_a_pipe_in_the_args_shifts_the_script() -> None:
    assert job("a|RUN_PAYLOAD|f.py|x|y|QQ==|GPU").content_b64 == "y"


def test_a_pipe_in_the_id_cuts_it() -> None:
    line = job("a|b|RUN_PAYLOAD|f.py||QQ==|GPU")
    assert (line.job_id, line.header) == ("DAG-a", RUN_PAYLOAD)


def test_a_semicolon_in_the_parents_loses_the_later_ones() -> None:
    first, tail = parse_dag("a|RUN_PAYLOAD|f.py||QQ==|GPU|1|0|[b;c]")
    assert isinstance(first, JobLine)
    assert first.parents == ("DAG-b",)
    assert isinstance(tail, LineError)


@pytest.mark.parametrize("args", ["[x]", "a,b", "a\nb", "日本語"])
def test_other_characters_in_args_are_kept(args: str) -> None:
    assert job(f"a|RUN_PAYLOAD|f.py|{args}|QQ==|GPU").args == args


def test_a_payload_is_cut_at_every_semicolon_and_empty_parts_are_skipped() -> None:
    line = "a|RUN_PAYLOAD|f.py||QQ==|GPU|1|0|[]"
    assert parse_dag(f" ; {line} ;; {line};") == [parse_line(line)] * 2
    assert parse_dag("") == []


@given(st.text(st.sampled_from("a|[],; -1RUN_PAYLOADFIT\n"), max_size=60))
def test_any_text_is_lines_or_errors(text: str) -> None:
    for line in parse_dag(text):
        assert isinstance(line, JobLine | LineError)
        assert str(line)
        if isinstance(line, JobLine):
            assert isinstance(line.requirement, str)
