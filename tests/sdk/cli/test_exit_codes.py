"""Each exit code of ``titan --help``, provoked by a real peer (job failures: test_jobs.py, test_dag.py)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.scripted_peer import ScriptedPeer
from titan_sdk import errors
from titan_sdk.cli.exit_codes import HELP, ExitCode, code_for
from titan_sdk.wire.frames import encode_frame
from titan_sdk.wire.opcodes import Opcode


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nothing listens and nothing will: bound, never listening."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


Answer = Callable[[socket.socket], None]


def master(answer: Answer) -> ScriptedPeer:
    """A real master as far as HELLO goes, which gives this answer to everything else."""

    def act(connection: socket.socket, peer: ScriptedPeer) -> None:
        opcode, _ = peer.read_request(connection)
        said(b"UNKNOWN_OPCODE: 64")(connection) if opcode == Opcode.HELLO else answer(connection)

    return ScriptedPeer(*[act] * 12)


def said(text: bytes, keep: int | None = None) -> Answer:
    return lambda connection: connection.sendall(encode_frame(Opcode.ACK, text)[:keep])


def nothing(connection: socket.socket) -> None:
    """Say nothing until the client goes."""
    connection.recv(1)


def ask(bare, answer: Answer, *command: object):
    with master(answer) as peer:
        return bare(*command, "--host", "127.0.0.1", "--port", peer.port)


def test_every_code_is_documented() -> None:
    documented = [int(part.split()[0]) for part in HELP.removeprefix("Exit codes: ").split(" · ")]
    assert documented == sorted(ExitCode)


def test_3_nobody_listens(bare, closed_port: int) -> None:
    ran = bare("status", "--host", "127.0.0.1", "--port", closed_port)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith(f"titan: cannot connect to 127.0.0.1:{closed_port} (Connection refused)")
    assert "`titan up` starts one" in ran.err


def test_4_the_master_refuses(bare) -> None:
    ran = ask(bare, said(b"ERROR: Invalid Format"), "store", "put", "k", "v")
    assert ran.code == 4
    assert ran.err == "titan: 'k': the master refused: Invalid Format\n"


def test_5_not_found(titan) -> None:
    assert titan("cancel", "never-submitted").code == 5


def test_6_no_answer_in_time(bare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TITAN_TIMEOUT", "0.2")
    ran = ask(bare, nothing, "store", "put", "k", "v")
    assert ran.code == 6
    assert "no complete reply from 127.0.0.1" in ran.err
    assert "within 0.2 s" in ran.err


def test_7_the_connection_breaks(bare) -> None:
    ran = ask(bare, said(b"OK", keep=5), "store", "put", "k", "v")
    assert ran.code == 7
    assert "closed the connection before its reply" in ran.err


@pytest.mark.parametrize("command", [["status"], ["store", "get", "k"], ["logs", "job"]])
def test_3_where_it_breaks_over_a_question(bare, command: list[str]) -> None:
    ran = ask(bare, said(b"OK", keep=5), *command)
    assert ran.code == 3
    assert "may have taken effect" not in ran.err


def test_70_something_else_answers(bare) -> None:
    ran = ask(bare, lambda peer: peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "store", "get", "k")
    assert ran.code == 70
    assert "an HTTP server" in ran.err


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "TITAN_PORT",
            "http",
            "titan: environment variable TITAN_PORT='http' is not a number\n",
        ),
        (
            "TITAN_HOST",
            "http://titan",
            "titan: TITAN_HOST 'http://titan' is not a host name; ",
        ),
    ],
)
def test_2_a_wrong_environment(
    bare, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, value)
    ran = bare("status")
    assert ran.code == 2
    assert ran.err.startswith(sentence)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["status", "--nonsense"], ["store", "get"], ["--port", "x"]]
)
def test_2_wrong_usage(bare, arguments: list[str]) -> None:
    ran = bare(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err


def test_2_a_file_that_cannot_be_read(bare, tmp_path: Path) -> None:
    ran = bare("dag", "submit", tmp_path)
    assert ran.code == 2
    assert ran.err == f"titan: {tmp_path}: the pipeline file cannot be read (Is a directory)\n"


def test_options_before_the_command_count_and_those_behind_it_win(bare, closed_port: int) -> None:
    with master(said(b"v")) as peer:
        ran = bare("--host", "127.0.0.1", "--port", closed_port, "store", "get", "k", "--port", peer.port)
    assert (ran.code, ran.out) == (0, "v\n")


def test_every_error_of_the_sdk_has_a_code() -> None:
    codes = {}
    for name in set(errors.__all__) - {"map_os_errors"}:
        cls = getattr(errors, name)
        codes[name] = code_for(OSError.__new__(cls) if issubclass(cls, OSError) else cls.__new__(cls))
    assert {name: code for name, code in codes.items() if code not in set(ExitCode) - {ExitCode.OK}} == {}
