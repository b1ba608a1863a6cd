"""TitanJob: the seed's constructor, frozen, and a sentence for whatever cannot be carried."""

from __future__ import annotations

import base64
import dataclasses
import inspect
from datetime import timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import pytest

from titan_sdk.errors import InvalidArgument, InvalidJob, MissingFile
from titan_sdk.model.durations import parse_duration
from titan_sdk.model.job import JobKind, TitanJob

KEYWORD_ONLY = [
    ("source", None),
    ("script_content", None),
    ("module", None),
    ("project", None),
    ("cwd", "project"),
    ("params", None),
    ("serializer", "json"),
    ("env", None),
    ("inputs", None),
    ("outputs", None),
    ("checkpoint_key", None),
    ("keep_checkpoint", False),
    ("runtime", True),
    ("python", None),
    ("requirements", None),
    ("inherit_packages", False),
    ("max_attempts", None),
    ("timeout", None),
    ("cancel_grace", 5.0),
    ("owner_lease", None),
    ("hitl_message", None),
    ("max_wait_seconds", 172800),
]


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "train.py"
    path.write_text("print('hi')\n")
    return str(path)


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(InvalidJob) as caught:
        TitanJob(*args, **kwargs)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


# -- the seed's signature -----------------------------------------------------------------------------


def test_positional_parameters_and_defaults_are_the_seed_s() -> None:
    parameters = list(inspect.signature(TitanJob).parameters.values())
    positional = [(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [
        ("job_id", inspect.Parameter.empty),
        ("filename", ""),
        ("job_type", "RUN_PAYLOAD"),
        ("args", None),
        ("parents", None),
        ("port", 0),
        ("is_archive", False),
        ("priority", 1),
        ("delay", 0),
        ("affinity", False),
        ("requirement", "GENERAL"),
    ]
    assert [(p.name, p.default) for p in parameters if p.kind is p.KEYWORD_ONLY] == KEYWORD_ONLY


def test_a_job_given_by_position_reads_back_field_by_field(script: str) -> None:
    job = TitanJob("a", script, "RUN_PAYLOAD", "--n 3", ["b"], 0, False, 10, 5, True, "GPU")
    assert (job.job_id, job.id, job.full_id) == ("a", "a", "DAG-a")
    assert (job.priority, job.delay, job.affinity, job.requirement) == (10, 5, True, "GPU")
    assert job.parent_ids == ("DAG-b",)
    assert job.argv == ("--n", "3")
    assert job.uses_runtime


def test_a_job_is_frozen_and_does_not_follow_its_caller_s_lists(script: str) -> None:
    parents, args, env = ["b"], ["x"], {"K": "v"}
    job = TitanJob("a", script, args=args, parents=parents, env=env)
    parents.append("c")
    args.append("y")
    env["L"] = "w"
    assert (job.parents, job.args, job.env) == (("b",), ("x",), {"K": "v"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.job_id = "b"  # type: ignore[misc]


def test_ids_with_the_prefix_are_the_same_job(script: str) -> None:
    job = TitanJob("DAG-a", script, parents=["b", "DAG-b", "c"])
    assert (job.job_id, job.full_id) == ("DAG-a", "DAG-a")
    assert job.parent_ids == ("DAG-b", "DAG-c")


@pytest.mark.parametrize(
    ("args", "argv", "plain"),
    [
        (None, (), ""),
        ("", (), ""),
        ("a  b", ("a", "b"), "a  b"),
        ('say "z w"', ("say", '"z', 'w"'), 'say "z w"'),
        (["a", "b"], ("a", "b"), "a b"),
        (["a b", ""], ("a b", ""), "a b "),
    ],
)
def test_a_text_is_split_at_spaces_and_a_list_is_exact(
    script: str, args: object, argv: tuple[str, ...], plain: str
) -> None:
    job = TitanJob("a", script, args=args)  # type: ignore[arg-type]
    assert (job.argv, job.plain_args) == (argv, plain)


@pytest.mark.parametrize(
    ("job_type", "is_archive", "kind"),
    [
        ("RUN_PAYLOAD", False, JobKind.SCRIPT),
        ("TASK", False, JobKind.SCRIPT),
        ("SERVICE", False, JobKind.SERVICE),
        ("RUN_PAYLOAD", True, JobKind.ARCHIVE),
        ("TASK", True, JobKind.ARCHIVE),
        ("SERVICE", True, JobKind.ARCHIVE_SERVICE),
    ],
)
def test_the_kind_follows_from_type_and_archive(
    script: str, job_type: str, is_archive: bool, kind: JobKind
) -> None:
    job = TitanJob("a", "p.zip/x.py" if is_archive else script, job_type, port=8095, is_archive=is_archive)
    assert job.kind is kind
    assert (kind.is_archive, kind.is_service) == (is_archive, job_type == "SERVICE")
    assert job.uses_runtime == (not kind.is_service)


def test_a_missing_requirement_is_general(script: str) -> None:
    assert TitanJob("a", script, requirement=None).requirement == "GENERAL"  # type: ignore[arg-type]


def test_a_path_object_is_a_filename(script: str) -> None:
    assert TitanJob("a", Path(script)).filename == script  # type: ignore[arg-type]


def test_a_missing_script_is_both_an_invalid_argument_and_a_file_not_found(tmp_path: Path) -> None:
    path = str(tmp_path / "gone.py")
    with pytest.raises(MissingFile, match="give a path that exists on this machine") as caught:
        TitanJob("a", path)
    assert str(caught.value).startswith(f"job 'a': there is no file {path!r} (current folder ")
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, ValueError)


# -- refusals: every sentence -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job_id", "sentence"),
    [
        ("", "job '': job_id '' is empty; give the job a name"),
        ("DAG-", "job 'DAG-': job_id 'DAG-' is empty; give the job a name"),
        ("a;b|c", "job 'a;b|c': job_id 'a;b|c' contains ';', '|'; use letters, digits, '.', '_' and '-'"),
        ("../x", "job '../x': job_id '../x' contains '/'; use letters, digits, '.', '_' and '-'"),
        ("..", "job '..': job_id '..' consists of dots only; give the job a name"),
        (7, "job 7: job_id 7 is not a text"),
    ],
)
def test_ids_a_master_would_corrupt_are_refused(script: str, job_id: Any, sentence: str) -> None:
    assert refusal(job_id, script) == sentence


def test_the_longest_id_has_200_characters(script: str) -> None:
    assert len(TitanJob("x" * 200, script).full_id) == 204
    assert refusal("x" * 201, script).endswith("is 201 characters long; the limit is 200")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"filename": 7}, "filename 7 is not a path; give the script's path as a text"),
        ({"filename": b"x.py"}, "filename b'x.py' is not a path; give the script's path as a text"),
        ({"parents": "b"}, "parents 'b' is a single text; give a list of job ids"),
        ({"parents": 7}, "parents 7 is not a list of job ids"),
        ({"parents": [7]}, "parents 7 is not a job id; give the parent's job_id"),
        ({"parents": ["b,c"]}, "parents 'b,c' contains ','; use letters, digits, '.', '_' and '-'"),
        ({"args": b"x"}, "args b'x' is neither a text nor a list of texts"),
        ({"args": {"x": 7}}, "args {'x': 7} is neither a text nor a list of texts"),
        (
            {"args": ["x", None]},
            "args ('x', None) holds something else than texts and numbers; convert it with",
        ),
        ({"args": ["x", ["y"]]}, "args ('x', ['y']) holds something else than texts and numbers; convert it"),
        ({"args": ["\0"]}, "args ('\\x00',) contains a NUL character, which no process can be given"),
        ({"requirement": 7}, "requirement 7 is not a text"),
        ({"requirement": " "}, "requirement ' ' is empty; name a tag such as GENERAL or GPU"),
        ({"requirement": "GPU "}, "requirement 'GPU ' has spaces at its edges; remove them"),
        (
            {"requirement": "x" * 20},
            (
                f"requirement '{'x' * 20}' is 20 characters long; "
                "Titan silently takes a tag of over 19 characters for GENERAL"
            ),
        ),
        ({"requirement": "-5"}, "requirement '-5' is a number, which Titan skips; put a letter in front"),
        (
            {"requirement": "AFFINITY"},
            "requirement 'AFFINITY' is read by Titan as something else than a tag; choose another word",
        ),
        (
            {"requirement": "x="},
            "requirement 'x=' is read by Titan as something else than a tag; choose another word",
        ),
        (
            {"requirement": "INTERNAL_SCALE"},
            (
                "requirement 'INTERNAL_SCALE' contains INTERNAL_SCALE, which Titan always sends to GENERAL; "
                "choose another word"
            ),
        ),
        (
            {"requirement": "G|U"},
            "requirement 'G|U' contains '|', which would corrupt the job line; choose another word",
        ),
        (
            {"job_type": "BATCH"},
            (
                "job_type 'BATCH' is not known; use one of DEPLOY_PAYLOAD, RUN_ARCHIVE, RUN_PAYLOAD, SERVICE, "
                "START_ARCHIVE_SERVICE, TASK"
            ),
        ),
        ({"priority": 2**31}, "priority 2147483648 is not a 32-bit integer"),
        ({"priority": True}, "priority True is not a 32-bit integer"),
        ({"delay": -1}, "delay -1 is not a number of milliseconds from 0 up"),
        ({"delay": 1.5}, "delay 1.5 is not a number of milliseconds from 0 up"),
        ({"max_attempts": 0}, "max_attempts 0 is not a whole number from 1 up"),
        ({"timeout": 0}, "timeout 0 is not a number of seconds above 0"),
        ({"cancel_grace": -1}, "cancel_grace -1 is not a number of seconds from 0 to 3600"),
        ({"cancel_grace": float("inf")}, "cancel_grace inf is not a number of seconds from 0 to 3600"),
        ({"cancel_grace": "2h"}, "cancel_grace '2h' is not a number of seconds from 0 to 3600"),
        ({"cancel_grace": None}, "cancel_grace None is not a number of seconds from 0 to 3600"),
        ({"owner_lease": -1}, "owner_lease -1 is not a number of seconds above 0"),
        ({"timeout": "soon"}, "timeout 'soon' is not a number of seconds above 0, a text such as '10m'"),
        ({"timeout": "0s"}, "timeout '0s' is not a number of seconds above 0"),
        ({"timeout": timedelta(0)}, "timeout datetime.timedelta(0) is not a number of seconds above 0"),
        ({"timeout": 1e300}, "timeout 1e+300 is not a number of seconds above 0 and below thirty years"),
        ({"owner_lease": True}, "owner_lease True is not a number of seconds above 0"),
        ({"delay": "-5m"}, "delay '-5m' is not a number of milliseconds from 0 up"),
        (
            {"delay": timedelta(seconds=-1)},
            "delay datetime.timedelta(days=-1, seconds=86399) is not a number",
        ),
        ({"hitl_message": "go?", "max_wait_seconds": "1.5s"}, "max_wait_seconds 1.5 is not a whole number"),
        ({"timeout": float("nan")}, "timeout nan is not a number of seconds above 0"),
        ({"hitl_message": ""}, "hitl_message '' is not a text that asks for something"),
        ({"env": ["K"]}, "env ['K'] is not a mapping of names to texts"),
        ({"env": {"A=B": "x"}}, "env {'A=B': 'x'} is not a pair of texts with a name free of '='"),
        ({"env": {"": "x"}}, "env {'': 'x'} is not a pair of texts with a name free of '='"),
        ({"env": {"A": None}}, "env {'A': None} is not a pair of texts with a name free of '='"),
        ({"env": {1: "x"}}, "env {1: 'x'} is not a pair of texts with a name free of '='"),
        ({"env": {"A": "\0"}}, "env {'A': '\\x00'} contains a NUL character, which no process can be given"),
        ({"env": {"A": "\ud800"}}, "env {'A': '\\ud800'} contains '\\ud800', half of a surrogate pair"),
        ({"args": ["ok", "\ud800"]}, "args ('ok', '\\ud800') contains '\\ud800', half of a surrogate pair"),
        (
            {"params": {"a": [{1: object()}]}},
            "params['a'][0][1] is of type builtins.object, which cannot be carried",
        ),
        ({"params": {1, len}}, "params{a member} is of type builtins.builtin_function_or_method"),
        (
            {"params": 1, "serializer": "pickle"},
            "params: the serializer is 'json' or 'cloudpickle', not 'pickle'",
        ),
    ],
)
def test_each_field_s_refusal_is_a_sentence(script: str, change: dict[str, Any], sentence: str) -> None:
    assert refusal("a", **{"filename": script, **change}).startswith(f"job 'a': {sentence}")


@pytest.mark.parametrize("port", [0, 65536, "81", True])
def test_a_service_needs_a_port(script: str, port: Any) -> None:
    expected = f"job 'a': port {port!r} is not a port; a service needs the port its script listens on"
    assert refusal("a", script, "SERVICE", port=port) == expected


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90),
        (1.5, 1.5),
        ("90", 90),
        ("1.5", 1.5),
        ("10m", 600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 2d ", 172800),
        ("1w1d", 691200),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("1s500ms", 1.5),
        (timedelta(minutes=10), 600),
        (timedelta(microseconds=1500), 0.0015),
    ],
)
def test_a_duration_is_a_number_a_text_or_a_timedelta(script: str, written: Any, seconds: float) -> None:
    assert parse_duration(written, "it") == pytest.approx(seconds)
    job = TitanJob("a", script, timeout=written, owner_lease=written, cancel_grace="1m")
    assert (job.timeout, job.owner_lease) == (pytest.approx(seconds), pytest.approx(seconds))
    assert job.cancel_grace == 60


@pytest.mark.parametrize("written", ["", "m", "10M", "1m1h", "1h1h", "h1", "1e3s", "٣m", "10 minutes", "1.m"])
def test_what_is_no_duration_is_refused(written: str) -> None:
    with pytest.raises(
        InvalidArgument, match=f"it {written!r} is not a number of seconds above 0, a text such"
    ):
        parse_duration(written, "it")


def test_a_number_is_milliseconds_where_the_field_says_so(script: str) -> None:
    delays = [0, 5, 5.0, "5", "5ms", "2s", timedelta(seconds=2), "1m", 2**62]
    got = [TitanJob("a", script, delay=delay).delay for delay in delays]  # type: ignore[arg-type]
    assert got == [0, 5, 5, 5, 5, 2000, 2000, 60_000, 2**62]
    assert TitanJob("a", script, hitl_message="go?", max_wait_seconds="2h").max_wait_seconds == 7200


class Colour(StrEnum):
    RED = "red"


class Shade(str, Enum):  # noqa: UP042 - its str() is not its value, and that is the point
    RED = "red"


def test_numbers_booleans_and_paths_are_texts_of_themselves(script: str) -> None:
    args = ["--n", 3, 0.5, True, Colour.RED, Shade.RED, Path("a/b"), Decimal("1.10"), 2**70]
    job = TitanJob("a", script, args=args, env={"N": 3, "F": 0.5, "B": False, "P": Path("a"), "S": Shade.RED})  # type: ignore[arg-type, list-item, dict-item]
    assert job.argv == ("--n", "3", "0.5", "True", "red", "red", "a/b", "1.10", str(2**70))
    assert job.env == {"N": "3", "F": "0.5", "B": "False", "P": "a", "S": "red"}
    assert {type(piece) for piece in (*job.argv, *job.env.values())} == {str}
    assert TitanJob("a", script, args=7).args == "7"


def test_a_service_takes_no_arguments(script: str) -> None:
    assert refusal("a", script, "SERVICE", "x", port=81) == (
        "job 'a': args 'x' cannot reach a service: Titan starts services without arguments"
    )


@pytest.mark.parametrize("name", ["p.tar/x.py", "p.zip", "p.zip.zip/x.py", "my.zipper.zip/x.py"])
def test_an_archive_pointer_is_cut_at_the_first_zip(name: str) -> None:
    assert refusal("a", name, is_archive=True) == (
        f"job 'a': filename {name!r} does not point into an archive; write 'name.zip/entry.py'"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"params": {"n": 1}},
        {"env": {"K": "v"}},
        {"python": "/usr/bin/python3"},
        {"max_attempts": 2},
        {"timeout": 5},
        {"owner_lease": 5},
        {"cancel_grace": 6},
    ],
)
@pytest.mark.parametrize("carrier", [{"runtime": False}, {"job_type": "SERVICE", "port": 81}])
def test_what_only_the_runtime_carries_is_refused_without_it(
    script: str, change: dict[str, Any], carrier: dict[str, Any]
) -> None:
    name = next(iter(change))
    expected = (
        f"{name} {change[name]!r} needs the runtime, which services and jobs with runtime=False do not have"
    )
    assert refusal("a", script, **carrier, **change) == f"job 'a': {expected}"


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["a b"], "has a space or an empty piece, which Titan splits or drops without the runtime"),
        ([""], "has a space or an empty piece, which Titan splits or drops without the runtime"),
        ("a;b", "contains ';', which would corrupt the job line; use a script job with the runtime"),
        ("a|b;c", "contains ';', '|', which would corrupt the job line; use a script job with the runtime"),
        ("INTERNAL_SCALE", "contains INTERNAL_SCALE, which Titan always sends to GENERAL"),
    ],
)
def test_plain_arguments_that_titan_would_alter_are_refused(script: str, args: Any, problem: str) -> None:
    assert problem in refusal("a", script, args=args, runtime=False)
    assert TitanJob("a", script, args=args).uses_runtime


def test_plain_arguments_that_titan_keeps_are_taken(script: str) -> None:
    assert TitanJob("a", script, args=["a", "b"], runtime=False).plain_args == "a b"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("x;y.py", "contains ';', which would corrupt the job line; rename the file, or let the runtime"),
        ("x|y.py", "contains '|', which would corrupt the job line"),
        ("x.txt", "does not end in .py or .sh, the only kinds Titan runs by itself"),
        ("INTERNAL_SCALE.py", "contains INTERNAL_SCALE"),
    ],
)
def test_plain_file_names_that_titan_would_not_run_are_refused(
    tmp_path: Path, name: str, problem: str
) -> None:
    path = tmp_path / name
    path.write_text("")
    assert problem in refusal("a", str(path), runtime=False)
    assert TitanJob("a", str(path)).uses_runtime


def test_an_archive_entry_of_another_kind_needs_the_runtime() -> None:
    assert "does not end in .py or .sh" in refusal("a", "p.zip/run", is_archive=True, runtime=False)
    assert TitanJob("a", "p.zip/run", is_archive=True).uses_runtime


def test_the_line_without_the_runtime_is_upstreams(script: str) -> None:
    packed = base64.b64encode(Path(script).read_bytes()).decode()
    name = Path(script).name
    plain = TitanJob("a", script, args="--lr 0.1", parents=["p", "DAG-q"], priority=7, delay=5, affinity=True)
    assert plain.to_string() == f"a|RUN_PAYLOAD|{name}|--lr 0.1|{packed}|GENERAL|7|5|[p,DAG-q]|AFFINITY"
    service = TitanJob("s", script, "SERVICE", port=8095, requirement="GPU")
    assert service.to_string() == f"s|DEPLOY_PAYLOAD|{name}|{packed}|8095|GPU|1|0|[]"
    archive = TitanJob("z", "p.zip/m.py", is_archive=True, args="x")
    assert archive.to_string() == "z|RUN_ARCHIVE|p.zip/m.py|x|GENERAL|1|0|[]"
    both = TitanJob("b", "p.zip/m.py", "SERVICE", is_archive=True, port=81)
    assert both.to_string() == "b|START_ARCHIVE_SERVICE|p.zip/m.py||81|GENERAL|1|0|[]"


def test_what_cannot_stand_in_a_line_has_none(script: str) -> None:
    with pytest.raises(InvalidJob, match="would corrupt the job line"):
        TitanJob("a", script, args="a|b").to_string()


class Name(str, Enum):  # noqa: UP042 - not StrEnum, whose members print as their values
    JOB = "job-1"
    PARENT = "parent-1"
    TAG = "GPU"
    KEY = "COLOUR"


def test_a_member_of_an_enumeration_of_texts_is_its_value(script: str) -> None:
    job = TitanJob(
        Name.JOB,
        script,
        requirement=Name.TAG,
        parents=[Name.PARENT],
        args=[Name.KEY],
        env={Name.KEY: Name.TAG},
    )
    texts = [
        job.job_id,
        job.requirement,
        *(job.parents or ()),
        *job.argv,
        *job.variables,
        *job.variables.values(),
    ]
    assert [f"{text}" for text in texts] == ["job-1", "GPU", "parent-1", "COLOUR", "COLOUR", "GPU"]
    assert {type(text) for text in texts} == {str}


@pytest.mark.parametrize(
    "fields",
    [{"args": ["x" * 131072]}, {"args": "x" * 131072}, {"env": {"A": "x" * 131070}}, {"args": ["é" * 65536]}],
)
def test_a_text_that_linux_gives_no_process_is_refused(script: str, fields: dict[str, Any]) -> None:
    sentence = refusal("a", script, **fields)
    assert "has 131,072 bytes; Linux gives a process arguments and variables of up to 131,071" in sentence
    assert len(sentence) < 600


def test_more_arguments_than_linux_takes_together_are_refused(script: str) -> None:
    assert TitanJob("a", script, args=["x" * 131071] * 15).uses_runtime
    assert "args and env take 2,097,280 bytes" in refusal("a", script, args=["x" * 131071] * 16)


@pytest.mark.parametrize("python", ["/bin/sh", "bash", "/usr/bin/env"])
def test_a_python_that_is_none_is_refused(script: str, python: str) -> None:
    assert "is no Python; name one, such as python3.12" in refusal("a", script, python=python)


def test_a_folder_is_refused_as_one(tmp_path: Path) -> None:
    assert "is a folder; give the script to run" in refusal("a", str(tmp_path))


# -- a script that is no file ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job_id", "source", "name"),
    [
        ("train", "print(1)", "train-script.py"),
        ("train-1", "print(1)", "train-1.py"),
        ("email.py", "", "email-script.py"),
        ("DAG-x", "#!/bin/bash -e\nls", "DAG-x.sh"),
        ("x", "\n\n#!/usr/bin/env sh\nls", "x.sh"),
        ("x", b"#! /usr/bin/python3\n\xff", "x-script.py"),
        ("j" * 200, "", "j" * 100 + "-script.py"),
    ],
)
def test_an_inline_script_is_named_after_its_job(job_id: str, source: str | bytes, name: str) -> None:
    assert TitanJob(job_id, source=source).filename == name


def test_an_inline_script_travels_byte_for_byte_under_the_name_it_is_given() -> None:
    text = "\ufeff\r\nprint('é')\n\n"
    job = TitanJob("a", "no/such folder/étape.py", source=text, runtime=False)
    assert job.read_script() == text.encode()
    assert job.to_string().split("|")[2:5] == ["étape.py", "", base64.b64encode(text.encode()).decode()]
    assert TitanJob("a", source=b"\xff\0").read_script() == b"\xff\0"


def test_upstream_s_name_for_the_source_is_another_word_for_it() -> None:
    job = TitanJob("a", script_content="pass")
    assert job == TitanJob("a", source="pass")
    assert dataclasses.replace(job, source="1").read_script() == b"1"
    assert "give one of them" in refusal("a", source="pass", script_content="pass")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "nothing says what to run; give its path (filename), its text (source), or a module"),
        ({"source": 1}, "source 1 is neither a text nor bytes"),
        ({"source": Path("x.py")}, "is neither a text nor bytes"),
        ({"source": "a\ud800"}, "lone surrogate '\\ud800' at character 1"),
        ({"source": "", "is_archive": True, "filename": "a.zip/b.py"}, "exclude each other"),
    ],
)
def test_a_source_that_cannot_travel_is_refused(given: dict[str, Any], problem: str) -> None:
    assert problem in refusal("a", **given)
