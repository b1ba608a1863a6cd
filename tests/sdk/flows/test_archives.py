"""An archive is pinned to its content at the submit: looked for, verified, and put under a name of its own."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import re
import tempfile
import zipfile

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, InvalidArgument, InvalidJob, RequestRefused, TitanJob
from titan_sdk.flows import archives
from titan_sdk.flows.archives import pack_folder
from titan_sdk.flows.submit import submit_dag
from titan_sdk.session import Session
from titan_sdk.wire.extensions import AssetRead, AssetWrite
from titan_sdk.wire.jobs import parse_dag
from titan_sdk.wire.opcodes import Opcode


def zipped(text):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("main.py", text)
    return packed.getvalue()


CONTENT = zipped("print('code')")
PINNED = f"titan-project-{hashlib.sha256(CONTENT).hexdigest()[:32]}.zip"


class Real(MasterModel):
    """A real master's uploads: whole, in Base64."""

    def put(self, name, content):
        self.assets[name] = base64.b64encode(content).decode()

    def has(self, name):
        return base64.b64decode(self.assets[name])


class Bundled(Real):
    """The bundled master's: in chunks, with their checksum."""

    def __init__(self):
        super().__init__(bundled=True)
        self.features.append("chunked_artifacts")

    def __call__(self, call):
        match call.opcode:
            case Opcode.ASSET_READ:
                asked = AssetRead.decode(call.payload)
                if asked.name not in self.assets:
                    return "ERROR_NOT_FOUND"
                content = self.has(asked.name)
                head = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                return json.dumps(head).encode() + b"\n" + content[asked.offset :]
            case Opcode.ASSET_WRITE:
                chunk = AssetWrite.decode(call.payload)
                assert (chunk.offset, hashlib.sha256(chunk.content).hexdigest()) == (0, chunk.sha256)
                self.put(chunk.name, chunk.content)
                return json.dumps({"size": len(chunk.content)})
        return super().__call__(call)


def uploads(runner):
    """Names that were written, the runtime's own left out."""
    written = [payload.partition("|")[0] for payload in runner.sent(Opcode.UPLOAD_ASSET)]
    written += [AssetWrite.decode(payload).name for payload in runner.sent(Opcode.ASSET_WRITE)]
    return [name for name in written if not name.startswith("titan-runtime")]


def submit(runner, *jobs):
    runner.run(submit_dag(Session(ClientConfig()), "d", jobs))
    return {line.job_id: line.filename for line in parse_dag(runner.sent(Opcode.SUBMIT_DAG)[-1])}


def job(job_id="a", entry="p.zip/main.py", **options):
    return TitanJob(job_id, entry, is_archive=True, runtime=False, **options)


@pytest.mark.parametrize("kind", [Real, Bundled])
def test_jobs_point_at_what_their_archive_held_when_they_were_submitted(kind):
    master = kind()
    master.put("p.zip", CONTENT)
    runner = FlowRunner(master)
    assert submit(runner, job("a"), job("b")) == dict.fromkeys(("DAG-a", "DAG-b"), f"{PINNED}/main.py")
    assert master.has(PINNED) == CONTENT
    assert uploads(runner) == [PINNED]
    submit(runner, job("c"))
    assert uploads(runner) == [PINNED]


@pytest.mark.parametrize("kind", [Real, Bundled])
def test_what_is_damaged_under_the_name_of_its_content_is_put_right(kind):
    """A real master shows an upload that was cut off, say."""
    master = kind()
    master.put("p.zip", CONTENT)
    master.put(PINNED, CONTENT[:-9])
    submit(FlowRunner(master), job())
    assert master.has(PINNED) == CONTENT


def test_of_an_archive_that_stands_there_already_not_a_byte_is_moved():
    master = Bundled()
    master.put("p.zip", CONTENT)
    master.put(PINNED, CONTENT)
    runner = FlowRunner(master)
    assert submit(runner, job()) == {"DAG-a": f"{PINNED}/main.py"}
    reads = [AssetRead.decode(payload) for payload in runner.sent(Opcode.ASSET_READ)]
    assert [read.name for read in reads] == ["p.zip", PINNED]
    assert min(read.offset for read in reads) > len(CONTENT)


@pytest.mark.parametrize("kind", [Real, Bundled])
def test_an_archive_that_nobody_uploaded_is_missed_unless_a_parent_may_upload_it(kind, tmp_path):
    runner = FlowRunner(kind())
    with pytest.raises(
        InvalidJob, match=r"job 'a': the master has no uploaded file 'p\.zip'; upload it first"
    ):
        submit(runner, job())
    assert not runner.sent(Opcode.SUBMIT_DAG)
    (tmp_path / "maker.py").write_text("pass")
    maker = TitanJob("maker", str(tmp_path / "maker.py"), runtime=False)
    assert submit(runner, maker, job(parents=["maker"]))["DAG-a"] == "p.zip/main.py"


def test_what_is_no_zip_is_refused_by_the_job_that_points_into_it():
    master = Real()
    master.put("p.zip", b"PK, but no zip")
    runner = FlowRunner(master)
    with pytest.raises(InvalidJob, match=r"job 'a': the master's file 'p\.zip' is not a whole zip; upload"):
        submit(runner, job())
    assert not runner.sent(Opcode.SUBMIT_DAG)


def test_an_archive_that_is_being_uploaded_is_read_once_it_is_whole():
    """A real master shows a file while it grows; this one is smaller than what was begun under its name before."""
    master, begun = Real(), zipped("print('other code')" * 99)[:-9]

    def answer(call):
        if call.opcode is Opcode.FETCH_ASSET and call.payload == "p.zip":
            master.put("p.zip", CONTENT if runner.time >= 0.3 else begun)
        return master(call)

    runner = FlowRunner(answer)
    assert submit(runner, job()) == {"DAG-a": f"{PINNED}/main.py"}
    assert master.has(PINNED) == CONTENT


@pytest.mark.parametrize("times", [1, 5])
def test_an_archive_that_is_replaced_while_it_is_fetched_is_fetched_again(times):
    """Where that goes on for ever, the master's own words are the error."""
    master = Bundled()
    master.put("p.zip", CONTENT)
    left = [times]

    def answer(call):
        if call.opcode is Opcode.ASSET_READ and AssetRead.decode(call.payload).offset == 0 and left[0]:
            left[0] -= 1
            return "ERROR: the artifact was replaced meanwhile"
        return master(call)

    runner = FlowRunner(answer)
    if times == 1:
        assert submit(runner, job()) == {"DAG-a": f"{PINNED}/main.py"}
        return
    with pytest.raises(RequestRefused, match="was replaced meanwhile"):
        submit(runner, job())
    assert not runner.sent(Opcode.SUBMIT_DAG)


def test_one_that_goes_away_while_it_is_fetched_is_missed():
    master = Bundled()
    master.put("p.zip", CONTENT)

    def answer(call):
        text = master(call)
        if call.opcode is Opcode.ASSET_READ:
            master.assets.pop("p.zip", None)
        return text

    with pytest.raises(InvalidJob, match="the master has no uploaded file"):
        submit(FlowRunner(answer), job())


def test_a_folder_that_cannot_be_packed_leaves_nothing_open(tmp_path, mocker):
    made = mocker.spy(tempfile, "TemporaryFile")
    with pytest.raises(InvalidArgument, match="has no files to upload"):
        pack_folder(tmp_path, "p.zip")
    assert made.spy_return.closed


@pytest.fixture
def team(tmp_path):
    folder = tmp_path / "team"
    folder.mkdir()
    (folder / "main.py").write_text("print('code')")
    return folder


def in_project(team, job_id="a", **options):
    return TitanJob(job_id, "main.py", project=team, **options)


def submit_spec(runner, *jobs):
    """What the launchers are told of their projects."""
    submit(runner, *jobs)
    stubs = [line.content_b64 for line in parse_dag(runner.sent(Opcode.SUBMIT_DAG)[-1])]
    found = [re.search(r"'project': (\{.*?\})", base64.b64decode(stub).decode()) for stub in stubs]
    return [ast.literal_eval(match[1]) for match in found]


@pytest.mark.parametrize("kind", [Real, Bundled])
def test_a_folder_is_packed_and_sent_once(kind, team):
    master = kind()
    runner = FlowRunner(master)
    first, second = submit_spec(runner, in_project(team, "a"), in_project(team, "b"))
    assert first == second
    assert uploads(runner) == [first["asset"]]
    content = master.has(first["asset"])
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (first["sha256"], first["bytes"])
    assert submit_spec(runner, TitanJob("c", module="main", project=team)) == [first]
    assert uploads(runner) == [first["asset"]]
    (team / "main.py").write_text("print('other')")
    assert submit_spec(runner, in_project(team, "d"))[0]["asset"] != first["asset"]


def test_where_a_packet_is_too_small_the_folder_goes_in_parts(team, monkeypatch):
    monkeypatch.setattr(archives, "PART", 100)
    told = []
    master = Real()
    runner = FlowRunner(master)
    flow = submit_dag(Session(ClientConfig()), "d", [in_project(team)], progress=lambda *at: told.append(at))
    pinned = runner.run(flow).archives[f"{team}/"]
    names = [f"titan-part-{digest[:32]}.bin" for digest in pinned.parts]
    assert uploads(runner) == names
    assert hashlib.sha256(b"".join(map(master.has, names))).hexdigest() == pinned.sha256
    assert told[-1] == (pinned.size, pinned.size)
    again = submit_dag(Session(ClientConfig()), "e", [in_project(team, "b")], archives={f"{team}/": pinned})
    assert runner.run(again).archives == {f"{team}/": pinned}
    runner.run(submit_dag(Session(ClientConfig()), "f", [in_project(team, "c")]))
    assert uploads(runner) == names
    for lost, brought in ((names[:1], names[:1]), (names[-1:], names[-1:]), (names, names)):
        for name in lost:
            del master.assets[name]
        before = len(uploads(runner))
        runner.run(submit_dag(Session(ClientConfig()), "g", [in_project(team, f"g{before}")]))
        assert uploads(runner)[before:] == brought


def test_a_folder_that_cannot_travel_is_refused_by_its_job(team):
    (team / "link").symlink_to("/etc/passwd")
    with pytest.raises(
        InvalidJob, match=r"job 'a': project: '.*/link' is a link out of the folder, to '/etc/passwd'"
    ):
        submit(FlowRunner(Bundled()), in_project(team))


@pytest.mark.parametrize(
    ("entry", "rules", "sentence"),
    [
        ("main.py", ".titanignore", "titanignore leaves it out. Take it in again with a line '!main.py'"),
        ("main.py", ".gitignore", "gitignore leaves it out. Take it in again with a line '!main.py'"),
        (".venv/x.py", None, "caches such as .venv and __pycache__ stay behind. Move it"),
    ],
)
def test_what_a_job_runs_must_travel(team, entry, rules, sentence):
    (team / ".venv").mkdir()
    (team / ".venv" / "x.py").write_text("")
    (team / "other.py").write_text("")
    if rules:
        (team / rules).write_text("main.*")
    runner = FlowRunner(Bundled())
    with pytest.raises(InvalidJob, match=re.escape(sentence)):
        submit(runner, TitanJob("a", entry, project=team))
    assert not uploads(runner)
    if rules:
        (team / rules).write_text("main.*\n!main.py")
        submit(runner, TitanJob("a", entry, project=team))
