"""`import titan_job` in Python, `python3 -m titan_job` in shell: results, progress, params."""

from __future__ import annotations

import pickle

import pytest

from tests.support.runtime_bench import Bench

# Slow: Results of megabytes, in parts.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            0,
            -1.5,
            "",
            "é\U0001f389\x00",
            [],
            {},
            {"a": [1, {"b": None}]},
            10**30,
            "NULL",
            "ERROR",
        ),
        *((1, [b"x"]), {1: {2, 3}}, {"titan_value": 1, "value": [1]}),
    ],
)
def test_a_result_comes_back_equal(bench: Bench, value: object) -> None:
    spec = bench.spec(f"import titan_job\ntitan_job.result({value!r})")
    assert bench.run(spec).code == 0
    assert bench.result(spec) == value


def test_the_last_result_counts_and_a_failed_job_keeps_it(bench: Bench) -> None:
    spec = bench.spec("import titan_job\ntitan_job.result(1)\ntitan_job.result([2])\nraise SystemExit(4)")
    assert bench.run(spec).code == 4
    assert bench.result(spec) == [2]


def test_no_result_is_not_a_null_result(bench: Bench) -> None:
    spec = bench.spec("pass")
    bench.run(spec)
    assert bench.state(spec).result is None


def test_a_large_result_travels_in_slices(bench: Bench) -> None:
    """Quotes double in each slice, which must still fit into a Titan packet."""
    spec = bench.spec("import titan_job\ntitan_job.result(['\"' * 9_000_000, 'é' * 10])")
    assert bench.run(spec).code == 0
    info = bench.state(spec).result
    assert info is not None
    assert info.chunks == 5
    assert max(len(value) for value in bench.store.values.values()) < 10_485_760 - 200
    assert bench.result(spec) == ['"' * 9_000_000, "é" * 10]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (
            "{'model': {'layers': [1, object()]}}",
            "TypeError: result['model']['layers'][1] is of type builtins.object, which cannot be carried",
        ),
        ("{'a': {1: range(2)}}", "TypeError: result['a'][1] is of type builtins.range"),
        ("(lambda x: x.append(x) or x)([])", "TypeError: result[0] contains itself"),
    ],
)
def test_what_is_not_json_is_refused_by_its_place(bench: Bench, value: str, complaint: str) -> None:
    spec = bench.spec(f"import titan_job\ntitan_job.result({value})")
    done = bench.run(spec)
    assert done.code == 1
    assert complaint in done.text
    assert bench.state(spec).result is None


@pytest.mark.parametrize(
    ("value", "suffix"),
    [
        ("[{1, 2}, range(3)]", "pickle"),
        ("{1: range(2)}", "pickle"),
        ("[Mine()]", "txt"),
        ("(lambda: 1, 'text')", "txt"),
    ],
)
def test_what_is_no_result_is_kept_as_an_artifact_that_the_error_names(
    bench: Bench, value: str, suffix: str
) -> None:
    source = f"import titan_job\nclass Mine: __repr__ = lambda self: 'Mine!'\nvalue = {value}\nprint(repr(value))\n"
    spec = bench.spec(source + "titan_job.result(value)", job_id="DAG-a b:c")
    done = bench.run(spec)
    name = f"unsent-DAG-a_b_c-{spec.nonce}-1.{suffix}"
    exception = bench.state(spec).exception
    assert exception is not None
    shown = done.text.splitlines()[0]
    assert f"The value was {shown}; once the job has ended, the artifact {name} holds it as {suffix}" in (
        exception.message
    )
    kept = bench.store.assets[name]
    assert (repr(pickle.loads(kept)) if suffix == "pickle" else kept.decode()) == shown


def test_a_large_one_is_kept_in_parts(bench: Bench) -> None:
    spec = bench.spec("import titan_job\ntitan_job.result([b'x' * 9_000_000, range(2)])")
    assert "unsent-DAG-job-" in bench.run(spec).text
    parts = [name for name in sorted(bench.store.assets) if name.startswith("unsent-")]
    assert [name.rpartition(".")[2] for name in parts] == ["1of2", "2of2"]
    assert pickle.loads(b"".join(bench.store.assets[name] for name in parts)) == [b"x" * 9_000_000, range(2)]


def test_nothing_is_kept_once_there_is_a_result(bench: Bench) -> None:
    source = (
        "import titan_job\ntry:\n    titan_job.result({len})\nexcept TypeError:\n    titan_job.result([1])"
    )
    spec = bench.spec(source)
    assert bench.run(spec).code == 0
    assert bench.result(spec) == [1]
    assert not [name for name in bench.store.assets if name.startswith("unsent-")]


def test_a_result_written_by_hand_that_is_not_json_fails_the_job(bench: Bench) -> None:
    spec = bench.spec('printf "{oops" > "$TITAN_JOB_DIR/result.json"', "hand.sh")
    assert bench.run(spec).code == 1
    state = bench.state(spec)
    assert state.state == "failed"
    assert state.reason is not None
    assert "its result is not JSON text" in state.reason


def test_shell_scripts_use_titan_job_as_a_command(bench: Bench) -> None:
    source = """
    rows=$(python3 -m titan_job params rows)
    python3 -m titan_job progress 0.5 "half of $rows"
    python3 -m titan_job result "{\\"rows\\": $rows, \\"name\\": \\"é\\"}"
    python3 -m titan_job result nonsense; echo "code $?"
    python3 -m titan_job; echo "code $?"
    """
    spec = bench.spec(source, "job.sh", params={"rows": 7})
    done = bench.run(spec)
    assert done.code == 0
    assert bench.result(spec) == {"rows": 7, "name": "é"}
    assert bench.state(spec).progress == (0.5, "half of 7")
    assert "code 1" in done.text
    assert "usage:" in done.text
    assert "code 2" in done.text


def test_progress_is_visible_while_the_job_runs(bench: Bench) -> None:
    fifo = bench.fifo()
    spec = bench.spec(f"import titan_job\ntitan_job.progress(0.25, 'é')\nopen({str(fifo)!r}).read()")
    running = bench.start(spec)
    bench.store.wait_until(
        lambda: bench.has_state(spec, "running") and bench.state(spec).progress == (0.25, "é")
    )
    fifo.open("w").close()
    assert running.wait().code == 0


@pytest.mark.parametrize("fraction", ["1.5", "-0.1", "float('nan')", "'x'"])
def test_progress_refuses_what_is_no_fraction(bench: Bench, fraction: str) -> None:
    assert bench.run(bench.spec(f"import titan_job\ntitan_job.progress({fraction})")).code == 1


def test_outside_a_job_values_are_checked_and_a_warning_says_they_are_not_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TITAN_JOB_DIR", raising=False)
    from titan_sdk.runtime.worker.lib import titan_job

    assert titan_job.__getattr__("params") is None
    with pytest.warns(RuntimeWarning, match="the result is not stored"):
        titan_job.result({"a": 1})
    with pytest.raises(TypeError, match="cannot be carried"):
        titan_job.result(object())
    with pytest.raises(AttributeError):
        titan_job.__getattr__("parms")
