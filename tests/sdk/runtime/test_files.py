"""A job's files on the worker: what was fetched is kept and checked, and nothing is left behind."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path

import pytest

from tests.support.runtime_bench import Bench
from titan_sdk.runtime import keys
from titan_sdk.runtime.worker import artifacts, files, folders, limits, store

DATA = b"rows"
SHA = hashlib.sha256(DATA).hexdigest()
INPUT = {"to": "in/rows.csv", "name": "rows.csv", "size": len(DATA), "sha256": SHA}
READ = "import titan_job; titan_job.result(open('in/rows.csv').read())"


def kept(bench: Bench) -> list[str]:
    return sorted(name for name in os.listdir(bench.cache / "files") if not name.endswith(".lock"))


@pytest.fixture
def own_cache(bench: Bench) -> Bench:
    bench.environment["TITAN_RUNTIME_CACHE"] = str(bench.cache)
    bench.cache.mkdir(mode=0o700)
    return bench


def test_what_was_fetched_once_is_kept_for_the_next_job(own_cache: Bench) -> None:
    bench = own_cache
    bench.store.assets["rows.csv"] = DATA
    for _ in range(2):
        spec = bench.spec(READ, inputs=(INPUT,))
        assert bench.run(spec).code == 0
        assert bench.result(spec) == "rows"
        bench.store.assets.pop("rows.csv", None)
    assert kept(bench) == [SHA]
    assert bench.leftovers() == []


def test_a_kept_file_that_was_damaged_is_fetched_again(own_cache: Bench) -> None:
    bench = own_cache
    bench.store.assets["rows.csv"] = DATA
    assert bench.run(bench.spec(READ, inputs=(INPUT,))).code == 0
    (bench.cache / "files" / SHA).write_bytes(b"ROWS")
    spec = bench.spec(READ, inputs=(INPUT,))
    assert bench.run(spec).code == 0
    assert bench.result(spec) == "rows"


def test_a_job_may_write_to_its_inputs(own_cache: Bench) -> None:
    bench = own_cache
    bench.store.assets["rows.csv"] = DATA
    writes = bench.spec("open('in/rows.csv', 'a').write('more')", inputs=(INPUT,))
    assert bench.run(writes).code == 0
    assert (bench.cache / "files" / SHA).read_bytes() == DATA


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FILES_LIMIT", 10)
    for age, name in enumerate("cba"):
        (tmp_path / name).write_bytes(bytes(4))
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    (tmp_path / "x.part").write_bytes(b"")
    os.utime(tmp_path / "x.part", (1000, 1000))
    (tmp_path / "y.part").write_bytes(b"")
    files._make_room(str(tmp_path), 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "y.part"]


def test_a_worker_may_keep_nothing(own_cache: Bench) -> None:
    bench = own_cache
    bench.store.assets["rows.csv"] = DATA
    spec = bench.spec(READ, inputs=(INPUT,))
    assert bench.run(spec, TITAN_RUNTIME_FILES_LIMIT="0").code == 0
    assert not (bench.cache / "files").exists()


def test_an_input_that_is_gone_is_said_and_no_code_starts(bench: Bench) -> None:
    spec = bench.spec("open('started', 'w')", inputs=(INPUT,))
    assert bench.run(spec, TITAN_RUNTIME_START_PATIENCE="0.2").code == 97
    state = bench.state(spec)
    assert state.state == "failed"
    assert (state.reason or "").startswith("its input 'in/rows.csv' cannot be put in place: ")
    assert not (bench.shared / "started").exists()
    assert bench.leftovers() == []


def test_a_stop_while_inputs_are_fetched(bench: Bench) -> None:
    bench.store.assets["rows.csv"] = b"other"
    running = bench.start(bench.spec(READ, inputs=(INPUT,)), TITAN_RUNTIME_START_PATIENCE="300")
    bench.store.wait_until(lambda: (0x54, "rows.csv") in bench.store.requests)
    running.process.terminate()
    assert running.wait().code in (128 + 15, 97)
    assert bench.leftovers() == []


def test_an_archive_that_leads_out_of_its_folder_is_refused(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../out", "x")
    content = path.read_bytes()
    bench.store.assets["evil.zip"] = content
    digest = hashlib.sha256(content).hexdigest()
    spec = bench.spec(
        READ, inputs=({"to": "in/", "name": "evil.zip", "size": len(content), "sha256": digest},)
    )
    assert bench.run(spec).code == 98
    assert "its member '../out' lies outside of it" in (bench.state(spec).reason or "")


def test_a_large_output_goes_in_parts_where_a_packet_is_too_small(bench: Bench) -> None:
    source = f"open('big', 'wb').write(bytes({limits.PART}) + b'end')"
    spec = bench.spec(source, outputs={"big": "big"})
    assert bench.run(spec).code == 0
    ref = bench.state(spec).outputs["big"]
    assert not isinstance(ref, tuple)
    parts = [bench.store.assets[name] for name in ref.part_names]
    assert [len(part) for part in parts] == [limits.PART, 3]
    assert hashlib.sha256(b"".join(parts)).hexdigest() == ref.sha256


def test_outputs_are_not_published_when_the_job_fails(bench: Bench) -> None:
    spec = bench.spec("open('f', 'w'); raise SystemExit(3)", outputs={"f": "f"})
    assert bench.run(spec).code == 3
    assert bench.state(spec).outputs == {}


def test_an_output_that_the_disk_has_no_room_for_is_said(bench: Bench) -> None:
    # The name of the zip is taken.
    source = "import os; os.mkdir('d'); open(os.environ['TITAN_JOB_DIR'] + '/output.zip', 'w').close()"
    spec = bench.spec(source, outputs={"d": "d/"})
    assert bench.run(spec).code == 1
    assert (bench.state(spec).reason or "").startswith("its outputs cannot be published: [Errno 17]")


def test_too_many_files_are_refused(bench: Bench) -> None:
    spec = bench.spec("[open(str(n), 'w') for n in range(1001)]", outputs={"f": "*"})
    assert bench.run(spec).code == 1
    assert "its outputs are 1001 files; the limit is 1000" in (bench.state(spec).reason or "")


def test_publish_outside_of_a_job_warns_and_a_missing_file_is_named(bench: Bench) -> None:
    source = """
import os, titan_job
open("here", "w")
try:
    titan_job.publish("gone.txt")
except FileNotFoundError as exc:
    titan_job.result(str(exc))
"""
    spec = bench.spec(source)
    assert bench.run(spec).code == 0
    assert "there is no 'gone.txt' in" in bench.result(spec)
    assert "which holds here" in bench.result(spec)
    outside = bench.spec(
        "import os, titan_job; del os.environ['TITAN_JOB_DIR']; print(titan_job.publish('x'))"
    )
    done = bench.run(outside)
    assert "nothing is kept" in done.text
    assert "None\n" in done.text


def test_a_module_of_the_script_s_folder_does_not_get_in_the_way(bench: Bench) -> None:
    # json.py, zipfile.py and glob.py of its own, as a script may have.
    source = """
import os, sys, titan_job
os.makedirs("own")
for name in ("json", "zipfile", "glob", "struct"):
    open("own/%s.py" % name, "w").write("MINE = 1")
sys.path.insert(0, os.path.abspath("own"))
import json
ref = titan_job.publish("own")
assert json is sys.modules["json"] and json.MINE
titan_job.result(ref["folder"])
"""
    spec = bench.spec(source, outputs={"unused": "own"})
    assert bench.run(spec).text == ""
    assert bench.result(spec) is True


def test_shell_scripts_publish_too(bench: Bench) -> None:
    spec = bench.spec("echo hi > f && python3 -m titan_job publish f greeting > /dev/null", name="job.sh")
    assert bench.run(spec).code == 0
    assert list(bench.state(spec).outputs) == ["greeting"]


def test_names_belong_to_their_run() -> None:
    for job_id in ("a", "x" * 100, "x" * 101, "x" * 100 + "y" * 100):
        name = artifacts.name_of("DAG-" + job_id, "f" * 16, "model~" + artifacts.plain("é" * 300))
        assert name.startswith(keys.run_artifacts("DAG-" + job_id, "f" * 16))
        assert len(name.encode()) < 220
    assert keys.run_artifacts("DAG-" + "x" * 101, "") != keys.run_artifacts("DAG-" + "x" * 102, "")


def test_a_folder_as_one_file_and_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "deep").mkdir()
    (source / "deep" / "run.sh").write_text("exit")
    os.chmod(source / "deep" / "run.sh", 0o755)
    folders.pack(str(source), str(tmp_path / "one.zip"))
    os.utime(source / "deep" / "run.sh", (1, 1))
    folders.pack(str(source), str(tmp_path / "two.zip"))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    folders.unpack(str(tmp_path / "one.zip"), str(tmp_path / "back"), 10)
    assert (tmp_path / "back" / "empty").is_dir()
    assert os.access(tmp_path / "back" / "deep" / "run.sh", os.X_OK)
    with pytest.raises(ValueError, match="it unpacks to more than"):
        folders.unpack(str(tmp_path / "one.zip"), str(tmp_path / "small"), 3)
    os.mkfifo(source / "pipe")
    with pytest.raises(ValueError, match="is neither a file nor a folder"):
        folders.pack(str(source), str(tmp_path / "three.zip"))


def test_a_link_in_a_folder_is_what_it_leads_to(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "step-8").mkdir(parents=True)
    (source / "step-8" / "model").write_text("m")
    (source / "last").symlink_to("step-8")
    (source / "newest").symlink_to("last/model")
    folders.pack(str(source), str(tmp_path / "packed.zip"))
    folders.unpack(str(tmp_path / "packed.zip"), str(tmp_path / "back"), 10)
    for name in ("step-8/model", "last/model", "newest"):
        assert (tmp_path / "back" / name).read_text() == "m"


@pytest.mark.parametrize(
    ("name", "target", "sentence"),
    [
        ("link", "..", "so it has no end"),
        ("link", "/dev", "is a link out of the folder, to the folder /dev"),
        ("link", "nowhere", "is a link that leads nowhere"),
        ("deep\\model", "deep/model", "has a backslash"),
        ("\udcff", "deep/model", "not UTF-8"),
    ],
)
def test_what_a_zip_cannot_hold_is_refused_by_its_path(
    tmp_path: Path, name: str, target: str, sentence: str
) -> None:
    source = tmp_path / "source" / "deep"
    source.mkdir(parents=True)
    (source / "model").touch()
    os.symlink(target, source / name)
    with pytest.raises(ValueError, match=sentence):
        folders.pack(str(source.parent), str(tmp_path / "packed.zip"))


@pytest.mark.parametrize("damage", ["deflate", "method", "encrypted"])
def test_a_zip_that_cannot_be_read_is_said_and_no_code_starts(bench: Bench, damage: str) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"a" * 1000)
    packed = bytearray(held.getvalue())
    listed = packed.index(b"PK\1\2")
    if damage == "deflate":
        packed[33:37] = b"\xff" * 4
    elif damage == "method":
        packed[8] = packed[listed + 10] = 97
    else:
        packed[6] = packed[listed + 8] = 1
    bench.store.assets["a.zip"] = data = bytes(packed)
    wanted = {"to": "in/", "name": "a.zip", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    spec = bench.spec("print('never')", inputs=(wanted,))
    assert bench.run(spec).code == 98
    assert "its input 'in/' cannot be put in place: it is" in (bench.state(spec).reason or "")


def test_files_of_one_base_name_do_not_take_each_other_s_place(bench: Bench) -> None:
    several = [
        {"name": "rows.csv", "size": 4, "sha256": digest, "path": path}
        for path, digest in (("a/rows.csv", SHA), ("a/rows.csv", SHA), ("b/rows.csv", "0" * 64))
    ]
    bench.store.assets["rows.csv"] = DATA
    spec = bench.spec("print('never')", inputs=({"to": "in/", "files": several},))
    assert bench.run(spec).code == 98
    assert "'a/rows.csv' and 'b/rows.csv' have the same base name" in (bench.state(spec).reason or "")


def test_an_input_may_have_the_longest_name_of_all(bench: Bench) -> None:
    bench.store.assets["rows.csv"] = DATA
    spec = bench.spec(
        "import os, titan_job; titan_job.result(os.listdir('.'))", inputs=({**INPUT, "to": "x" * 255},)
    )
    assert bench.run(spec).code == 0
    assert bench.result(spec) == ["x" * 255]


def test_a_key_that_stands_for_something_else_is_said(bench: Bench) -> None:
    bench.store.values["setting"] = '{"a": 1}'
    spec = bench.spec("print('never')", inputs=({"to": "a", "uri": "setting"},))
    assert bench.run(spec).code == 98
    assert "what titan://setting stands for is no reference of a file" in (bench.state(spec).reason or "")


def test_names_of_published_files_are_taken_as_they_are_or_refused(bench: Bench) -> None:
    spec = bench.spec("""
import titan_job
refs = []
for name in ("größe.png", "grüße.png", "a" * 50 + ".png", "b" * 50 + ".png", "plain.png"):
    with open(name, "w") as file:
        file.write(name)
    refs.append(titan_job.publish(name)["name"])
said = []
for name in ("ä", "a/b", "", "x" * 41):
    try:
        titan_job.publish("plain.png", name=name)
    except ValueError as exc:
        said.append(str(exc))
titan_job.result([len(set(refs)), len(said)])
""")
    assert bench.run(spec).code == 0
    assert bench.result(spec) == [5, 4]
    outputs = bench.state(spec).outputs
    assert len(outputs) == 5
    assert "plain.png" in outputs


def test_a_real_master_that_keeps_nothing_is_said(bench: Bench) -> None:
    master = store.StoreConnection("127.0.0.1", bench.store.port)
    artifacts.remove(master, {"name": "a"}, lambda: lambda: 0.0)
    assert bench.store.assets["a"] == b""
    artifacts.remove(master, {"name": "b", "parts": ["x", "y"]}, lambda: lambda: 0.0)
    assert (bench.store.assets["b.1of2"], bench.store.assets["b.2of2"]) == (b"", b"")
