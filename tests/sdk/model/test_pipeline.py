"""Titan's YAML format: what it means, and a place and a sentence for every mistake."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from titan_sdk.errors import InvalidPipeline
from titan_sdk.model.job import JobKind
from titan_sdk.model.pipeline import Pipeline, load_pipeline


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    for name in ("a.py", "b.py", "src/deep.py", "job.sh"):
        (tmp_path / name).write_text("")
    return tmp_path


def load(folder: Path, text: str) -> Pipeline:
    path = folder / "pipe.yaml"
    path.write_text(dedent(text), encoding="utf-8")
    return load_pipeline(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(InvalidPipeline) as caught:
        load(folder, text)
    sentence = str(caught.value)
    assert sentence.startswith(str(folder / "pipe.yaml"))
    return sentence.removeprefix(str(folder / "pipe.yaml"))


PROJECT = """\
name: agent
version: "2.0"

jobs:
  - id: init
    type: run
    file: a.py
    priority: 10
    args: "--mode reset"
  - id: watch
    file: src/deep.py
    delay: 5
    affinity: true
    requirement: GPU
    depends_on:
      - init
  - id: api
    type: service
    file: b.py
    port: 8095
    depends_on: [watch, "DAG-init"]
"""


def test_a_project_s_jobs_point_into_the_zip_of_its_folder(folder: Path) -> None:
    pipeline = load(folder, PROJECT)
    assert (pipeline.name, pipeline.project, pipeline.base_dir) == ("agent", True, folder.resolve())
    init, watch, api = pipeline.jobs
    assert [job.filename for job in pipeline.jobs] == [
        "agent.zip/a.py",
        "agent.zip/src/deep.py",
        "agent.zip/b.py",
    ]
    assert (init.kind, init.priority, init.args) == (JobKind.ARCHIVE, 10, "--mode reset")
    assert (watch.delay, watch.affinity, watch.requirement) == (5000, True, "GPU")
    assert (api.kind, api.port, api.parent_ids) == (JobKind.ARCHIVE_SERVICE, 8095, ("DAG-watch", "DAG-init"))


def test_without_a_project_jobs_are_scripts_beside_the_file_with_the_runtime(folder: Path) -> None:
    (job,) = load(
        folder,
        """\
        name: x
        project: false
        jobs:
          - id: a
            file: src/deep.py
            args: [--n, 3, "two words", yes]
            delay: 0.25
            params: {n: 1, list: [a, null]}
            env: {DEBUG: yes, LEVEL: 007}
            python: /usr/bin/python3
            max_attempts: 2
            timeout: 1.5
        """,
    ).jobs
    assert job.filename == str(folder.resolve() / "src/deep.py")
    assert (job.kind, job.uses_runtime) == (JobKind.SCRIPT, True)
    assert job.args == ("--n", "3", "two words", "yes")
    assert job.params == {"n": 1, "list": ["a", None]}
    assert job.env == {"DEBUG": "yes", "LEVEL": "007"}
    assert (job.delay, job.python, job.max_attempts, job.timeout) == (250, "/usr/bin/python3", 2, 1.5)


def test_durations_may_have_a_unit(folder: Path) -> None:
    line = "{id: a, file: a.py, delay: 2m, timeout: 1h30m, hitl_message: go, max_wait_seconds: 2d}"
    (job,) = load(folder, f"project: false\njobs:\n  - {line}\n").jobs
    assert (job.delay, job.timeout, job.max_wait_seconds) == (120_000, 5400, 172_800)


def test_the_runtime_can_be_left_out_and_a_service_is_a_plain_file(folder: Path) -> None:
    plain, service = load(
        folder,
        """\
        project: false
        jobs:
          - {id: a, file: a.py, runtime: false, args: a b}
          - {id: s, file: b.py, type: SERVICE, port: 81}
        """,
    ).jobs
    assert (plain.uses_runtime, plain.plain_args) == (False, "a b")
    assert (service.kind, service.port) == (JobKind.SERVICE, 81)


def test_what_is_left_out_or_empty_has_the_format_s_defaults(folder: Path) -> None:
    pipeline = load(folder, "jobs: [{id: a, file: a.py, requirement: , depends_on: , args: , port: }]")
    (job,) = pipeline.jobs
    assert (pipeline.name, pipeline.project) == ("titan_agent", True)
    assert (job.requirement, job.priority, job.delay, job.affinity) == ("GENERAL", 1, 0, False)
    assert (job.args, job.parents, job.max_wait_seconds) == (None, (), 172800)


def test_arguments_are_passed_as_they_are_written(folder: Path) -> None:
    jobs = "".join(
        f"\n  - {{id: a{n}, file: a.py, args: {text}}}" for n, text in enumerate(["010", "yes", "1e3"])
    )
    assert [job.args for job in load(folder, f"jobs:{jobs}").jobs] == ["010", "yes", "1e3"]


def test_merge_keys_give_defaults_that_a_job_may_override(folder: Path) -> None:
    jobs = load(
        folder,
        """\
        jobs:
          - &base {id: a, file: a.py, requirement: GPU, priority: 3}
          - {<<: *base, id: b, priority: 4}
        """,
    ).jobs
    assert [(job.job_id, job.requirement, job.priority) for job in jobs] == [("a", "GPU", 3), ("b", "GPU", 4)]


def test_a_backslash_separates_folders_of_a_project(folder: Path) -> None:
    assert (
        load(folder, r"jobs: [{id: a, file: src\deep.py}]").jobs[0].filename == "titan_agent.zip/src/deep.py"
    )


def test_yaml_is_imported_only_when_a_file_is_read() -> None:
    source = Path(sys.modules[load_pipeline.__module__].__file__ or "")
    for path in (source, source.with_name("pipeline_yaml.py")):
        assert not [line for line in path.read_text().splitlines() if line.startswith("import yaml")]


# -- the file -----------------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone.yaml"
    with pytest.raises(InvalidPipeline) as caught:
        load_pipeline(path)
    assert str(caught.value) == f"{path}: the pipeline file cannot be read (No such file or directory)"
    assert isinstance(caught.value, ValueError)


def test_bytes_that_are_no_text_are_refused(folder: Path) -> None:
    path = folder / "pipe.yaml"
    path.write_bytes(b"name: \xff")
    with pytest.raises(InvalidPipeline, match="the pipeline file is not UTF-8 text"):
        load_pipeline(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", ":1: the file is empty; it needs a name and jobs"),
        ("# only a comment\n", ":1: the file is empty; it needs a name and jobs"),
        ("a: b\n  c: d\n", ":2: this is not YAML: mapping values are not allowed here"),
        ("name: x\njobs: *nowhere\n", ":2: this is not YAML: found undefined alias 'nowhere'"),
        ("name: x\nversion: \x07\n", ":2: this is not YAML: special characters are not allowed"),
        ("- a\n", ":1: the file is a list, not a mapping of keys to values"),
        ("text\n", ":1: the file is a single value, not a mapping of keys to values"),
        ("name: x\n", ":1: the file has no key 'jobs'; add it"),
        ("name: x\nname: y\njobs: []\n", ":2: key 'name' is there twice, first in line 1"),
        ("nmae: x\njobs: []\n", ":1: the file has the unknown key 'nmae'; did you mean 'name'?"),
        (
            "zzz: x\njobs: []\n",
            ":1: the file has the unknown key 'zzz'; known keys are name, version, project, jobs",
        ),
        ("? [a]\n: b\n", ":1: the file has the unknown key [ScalarNode"),
        ("name: 7\njobs: []\n", ":1: key 'name': '7' is not a text; write it in quotes"),
        ("name: x\nproject: maybe\njobs: []\n", ":2: key 'project': 'maybe' is neither true nor false"),
        ("version: [1]\njobs: []\n", ":1: key 'version': is a list, not a single value"),
        (
            "name: a/b\njobs: []\n",
            ":1: key 'name': 'a/b' cannot name the project's zip file; use letters, digits, '_' and '-'",
        ),
        (
            "name: x\njobs:\n",
            ":2: key 'jobs': is a single value, not a list; put a dash in front of each member",
        ),
        ("name: x\njobs: []\n", ":2: key 'jobs': there are no jobs; list at least one"),
        ("jobs:\n  - a\n", ":2: job 1 is a single value, not a mapping of keys to values"),
    ],
)
def test_mistakes_in_the_file_itself(folder: Path, text: str, sentence: str) -> None:
    assert refusal(folder, text).startswith(sentence)


# -- one job ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("file: a.py", ":3: job 1 has no key 'id'; add it"),
        ("id: a", ":3: job 1 has no key 'file'; add it"),
        ("{id: a, file: a.py, type: service}", ":3: job 1 has no key 'port'; add it"),
        ("{id: a, file: a.py, type: service, port: }", ":3: key 'port': '' is not a whole number"),
        ("{id: a, file: a.py, type: batch}", ":3: key 'type': 'batch' is neither run nor service"),
        ("{id: , file: a.py}", ":3: key 'id': is empty"),
        ("{id: 7, file: a.py}", ":3: key 'id': '7' is not a text; write it in quotes"),
        (
            "{id: a, file: a.py, prority: 1}",
            ":3: job 1 has the unknown key 'prority'; did you mean 'priority'?",
        ),
        (
            "{id: a, file: a.py, parent: [b]}",
            ":3: job 1 has the unknown key 'parent'; did you mean 'parents'?",
        ),
        ("{id: a, file: a.py, id: b}", ":3: key 'id' is there twice, first in line 3"),
        ("{id: a, file: a.py, priority: high}", ":3: key 'priority': 'high' is not a whole number"),
        ("{id: a, file: a.py, priority: true}", ":3: key 'priority': 'true' is not a whole number"),
        ("{id: a, file: a.py, delay: soon}", ":3: key 'delay': 'soon' is not a number"),
        ("{id: a, file: a.py, delay: true}", ":3: key 'delay': 'true' is not a number"),
        ("{id: a, file: a.py, timeout: [5]}", ":3: key 'timeout': is a list, not a single value"),
        ("{id: a, file: a.py, timeout: soon}", ":3: key 'timeout': job 'a': timeout 'soon' is not a number"),
        ("{id: a, file: a.py, delay: .nan}", ":3: key 'delay': '.nan' is not a number"),
        ("{id: a, file: a.py, delay: .inf}", ":3: key 'delay': '.inf' is not a number"),
        ("{id: a, file: a.py, affinity: 1}", ":3: key 'affinity': '1' is neither true nor false"),
        ("{id: a, file: a.py, args: {a: b}}", ":3: key 'args': is a mapping, not a single value"),
        (
            "{id: a, file: a.py, depends_on: b}",
            ":3: key 'depends_on': is a single value, not a list; put a dash",
        ),
        (
            "{id: a, file: a.py, depends_on: [7]}",
            ":3: key 'depends_on': '7' is not a text; write it in quotes",
        ),
        ("{id: a, file: a.py, env: [b]}", ":3: key 'env': is a list, not a mapping of names to values"),
        (
            "{id: a, file: a.py, params: !!python/name:os x}",
            ":3: key 'params': cannot be read: could not determine",
        ),
        (
            "{id: a, file: a.py, params: 2024-13-01}",
            ":3: key 'params': cannot be read: month must be in 1..12",
        ),
        ("{id: a;b, file: a.py}", ":3: key 'id': job 'a;b': job_id 'a;b' contains ';'; use letters"),
        ("{id: a, file: gone.py}", ":3: key 'file': job 'a': there is no file "),
        (
            "{id: a, file: a.py, priority: 3000000000}",
            ":3: key 'priority': job 'a': priority 3000000000 is not a 32-",
        ),
        (
            "{id: a, file: a.py, depends_on: ['b c']}",
            ":3: key 'depends_on': job 'a': parents 'b c' contains ' '",
        ),
        ("{id: a, file: a.py, type: service, port: 0}", ":3: key 'port': job 'a': port 0 is not a port"),
        (
            "{id: a, file: a.py, hitl_message: ' '}",
            ":3: key 'hitl_message': job 'a': hitl_message ' ' is not a text",
        ),
        (
            "{id: a, file: a.py, timeout: -1}",
            ":3: key 'timeout': job 'a': timeout -1 is not a number of seconds",
        ),
        (
            "{id: a, file: a.py, depends_on: [a]}",
            ":1: jobs: DAG 'titan_agent' has a cycle: a -> a; remove one",
        ),
    ],
)
def test_mistakes_in_a_job(folder: Path, line: str, sentence: str) -> None:
    text = f"project: false\njobs:\n  - {line}\n"
    assert refusal(folder, text).startswith(sentence)


def test_the_line_is_the_key_s_and_not_the_job_s(folder: Path) -> None:
    sentence = refusal(folder, "jobs:\n  - id: a\n    file: a.py\n    priority: high\n")
    assert sentence.startswith(":4: key 'priority'")


def test_an_id_twice_names_both_lines(folder: Path) -> None:
    sentence = refusal(folder, "jobs:\n  - {id: a, file: a.py}\n  - {id: DAG-a, file: b.py}\n")
    assert sentence == ":3: key 'jobs': the id 'DAG-a' is already used in line 2"


@pytest.mark.parametrize(
    "key", ["params: 1", "env: {A: b}", "python: p", "max_attempts: 1", "timeout: 1", "runtime: false"]
)
def test_a_project_s_jobs_have_the_runtime_and_its_services_do_not(folder: Path, key: str) -> None:
    job = f"jobs:\n  - id: a\n    file: a.py\n    {key}\n"
    name = key.partition(":")[0]
    assert getattr(load(folder, job).jobs[0], name) is not None
    if name != "runtime":
        sentence = refusal(folder, job + "    type: service\n    port: 8095\n")
        assert sentence.startswith(f":4: key '{name}': job 'a': {name} ")


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("gone.py", "there is no file 'gone.py' in the project folder"),
        ("src", "there is no file 'src' in the project folder"),
        ("../x.py", "'../x.py' is outside the project folder"),
        ("/etc/hostname", "'/etc/hostname' is outside the project folder"),
    ],
)
def test_a_project_s_file_must_be_in_its_folder(folder: Path, file: str, problem: str) -> None:
    assert refusal(folder, f"jobs: [{{id: a, file: {file}}}]").startswith(f":1: key 'file': {problem}")


def test_without_the_runtime_a_project_s_file_must_be_a_script(folder: Path) -> None:
    (folder / "data.txt").write_text("")
    sentence = refusal(folder, "jobs: [{id: a, file: data.txt, runtime: false}]")
    assert sentence.startswith(
        ":1: key 'file': job 'a': filename 'titan_agent.zip/data.txt' does not end in .py"
    )


keys = st.sampled_from(
    ["id", "file", "type", "args", "port", "delay", "depends_on", "env", "params", "priority"]
)
values: Any = st.sampled_from(
    [
        "a",
        "a.py",
        "7",
        "-1.5",
        "true",
        "",
        "[]",
        "[a, [b]]",
        "{}",
        "{a: {}}",
        "*x",
        "&x b",
        "service",
        "2024-01-01",
    ]
)


@given(st.booleans(), st.lists(st.lists(st.tuples(keys, values), max_size=5), max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_file_is_a_pipeline_or_an_invalid_pipeline(
    folder: Path, project: bool, jobs: list[list[tuple[str, str]]]
) -> None:
    text = f"project: {str(project).lower()}\njobs:\n"
    for job in jobs:
        text += "  - {" + ", ".join(f"{key}: {value}" for key, value in job) + "}\n"
    try:
        pipeline = load(folder, text)
    except InvalidPipeline:
        return
    assert pipeline.jobs


def test_the_sdks_names_of_keys_are_known_too(folder: Path) -> None:
    pipeline = load(
        folder, "jobs: [{job_id: a, filename: a.py}, {id: b, file: a.py, parents: [a], job_type: run}]"
    )
    assert [(job.job_id, job.parents) for job in pipeline.jobs] == [("a", ()), ("b", ("a",))]
    with pytest.raises(
        InvalidPipeline, match="has 'parents' and 'depends_on', which are two names of one key"
    ):
        load(folder, "jobs: [{id: a, file: a.py, depends_on: [], parents: []}]")
    with pytest.raises(InvalidPipeline, match="key 'parents': is a single value, not a list"):
        load(folder, "jobs: [{id: a, file: a.py, parents: b}]")


@pytest.fixture
def team(folder: Path) -> Path:
    (folder / "team" / "pkg").mkdir(parents=True)
    (folder / "team" / "main.py").touch()
    (folder / "team" / "pkg" / "train.py").touch()
    return folder


TEAM = """\
project: team
jobs:
  - {id: a, file: main.py, cwd: worker}
  - {id: b, module: pkg.train, depends_on: [a]}
  - {id: c, project: team/pkg, file: train.py}
"""


def test_a_folder_beside_the_file_is_the_jobs_project(team: Path) -> None:
    pipeline = load(team, TEAM)
    root = str(team.resolve() / "team")
    assert [(job.entry, job.project, job.cwd) for job in pipeline.jobs] == [
        ("main.py", root, "worker"),
        ("pkg/train.py", root, "project"),
        ("train.py", f"{root}/pkg", "project"),
    ]
    assert not pipeline.project


def test_a_project_of_one_job_or_a_module_leaves_the_others_in_the_files_folder(team: Path) -> None:
    pipeline = load(
        team, "jobs: [{id: a, file: a.py}, {id: b, project: team, module: pkg.train}, {id: c, module: a}]"
    )
    assert [(job.is_archive, job.entry) for job in pipeline.jobs] == [
        (True, None),
        (False, "pkg/train.py"),
        (False, "a.py"),
    ]
    assert pipeline.project
    assert pipeline.jobs[2].project == str(team.resolve())
    alone = load(team, "project: false\njobs: [{id: a, module: calendar}]").jobs[0]
    assert (alone.module, alone.project) == ("calendar", None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "project: gone\njobs: [{id: a, file: main.py}]",
            ":1: key 'project': 'gone' is neither true nor false, nor a folder in ",
        ),
        (
            "project: 3\njobs: [{id: a, file: main.py}]",
            ":1: key 'project': '3' is neither true nor false, nor a text",
        ),
        (
            "project: team\njobs: [{id: a, file: a.py}]",
            ":2: key 'file': job 'a': filename 'a.py' is no file of the project",
        ),
        ("project: team\njobs: [{id: a}]", ":2: job 1 has no key 'file'; add it"),
        (
            "jobs: [{id: a, project: team, module: main, file: main.py}]",
            ":1: key 'file': job 'a': filename and module",
        ),
        ("jobs: [{id: a, module: team.gone}]", ":1: key 'module': job 'a': module 'team.gone'"),
        (
            "project: team\njobs: [{id: a, file: main.py, type: service, port: 80}]",
            ":2: key 'project': job 'a': project '",
        ),
    ],
)
def test_what_is_wrong_with_a_project_is_said_at_its_line(team: Path, text: str, sentence: str) -> None:
    (team / "team" / "__init__.py").touch()
    assert refusal(team, text).startswith(sentence)


def test_the_packages_of_a_job(team: Path) -> None:
    (team / "requirements.txt").write_text("numpy\n")
    text = """
project: false
jobs:
  - {id: a, file: team/main.py, requirements: requirements.txt, inherit_packages: true}
  - {id: b, file: team/main.py, requirements: [numpy, "pandas>=2"]}
"""
    (team / "p.yaml").write_text(text)
    first, second = load_pipeline(team / "p.yaml").jobs
    assert (first.requirements, first.inherit_packages) == (str(team / "requirements.txt"), True)
    assert second.requirements == ("numpy", "pandas>=2")
    for wrong, sentence in {
        "absent.txt": r"p\.yaml:4: key 'requirements': .*there is no requirements file",
        "[numpy=1]": r"p\.yaml:4: key 'requirements': .*'numpy=1' is no requirement",
    }.items():
        (team / "p.yaml").write_text(text.replace("requirements.txt", wrong))
        with pytest.raises(InvalidPipeline, match=sentence):
            load_pipeline(team / "p.yaml")
