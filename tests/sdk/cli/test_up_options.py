"""titan up as a process: TLS and a token, the command as its client, gc, and an end that waits."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path

import pytest

from tests.sdk.cli.test_up import Start, start
from tests.sdk.cluster.peer import Meeting, Peer, script
from tests.support.certificates import Authority, make_authority
from titan_sdk import TLS, ClientConfig, JobStatus, TitanClient, TitanJob

# Slow: Each test starts and ends a master as a process.
pytestmark = pytest.mark.slow

__all__ = ["start"]  # a fixture

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


def test_a_protected_master_serves_the_command(
    start: Start, bare, authority: Authority, token_file: Path, tmp_path: Path
) -> None:
    up = start(
        *("--json", "--tls-cert", authority.server.cert, "--tls-key", authority.server.key),
        *("--client-ca", authority.ca, "--token-file", token_file, "--data-dir", tmp_path / "data"),
    )
    facts = up.facts
    assert (facts["tls"], facts["token"]) == (True, True)
    assert TOKEN not in up.line
    ways = ["--host", "127.0.0.1", "--port", facts["port"], "--ca-cert", authority.ca]
    shown = [
        "--client-cert",
        authority.client.cert,
        "--client-key",
        authority.client.key,
        "--token-file",
        token_file,
    ]
    script = tmp_path / "job.py"
    script.write_text("import titan_job; titan_job.result(42)")
    assert bare(*ways, *shown, "store", "put", "k", "v").code == 0
    ran = bare(*ways, *shown, "store", "get", "k")
    assert (ran.code, ran.out.strip()) == (0, "v")
    assert bare(*ways[:4], "store", "get", "k").code in (3, 7)
    no_token = bare(*ways, *shown[:4], "store", "get", "k")
    assert no_token.code == 4
    assert "wants a token and got none" in no_token.err
    with TitanClient(
        config=ClientConfig(
            "127.0.0.1",
            facts["port"],
            tls=TLS(authority.ca, authority.client.cert, authority.client.key),
            auth_token=TOKEN,
        )
    ) as client:
        assert client.submit_job(TitanJob("job", str(script))).wait(300).state is JobStatus.COMPLETED
    assert up.end() == 0


def test_the_environment_says_the_same(
    start: Start, bare, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TITAN_AUTH_TOKEN", TOKEN)
    up = start("--json", "--tls-cert", authority.server.cert, "--tls-key", authority.server.key)
    monkeypatch.setenv("TITAN_PORT", str(up.facts["port"]))
    monkeypatch.setenv("TITAN_CA_CERT", authority.ca)
    assert bare("--host", "127.0.0.1", "store", "put", "k", "v").code == 0
    monkeypatch.setenv("TITAN_AUTH_TOKEN", "another-token-of-mine")
    assert bare("--host", "127.0.0.1", "store", "put", "k", "v").code == 4
    assert up.end() == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tls-key", "k.pem"], "--tls-key and --client-ca need --tls-cert"),
        (["--tls-cert", "/no/such.pem"], "TLS cert '/no/such.pem' is not there"),
        (["--token-file", "/no/such"], "--token-file /no/such is not there"),
        (["--token", "short"], "the master's token has fewer than 16 characters"),
        (["--durability", "ful"], "durability 'ful' is none; give normal or full"),
        (["--log-level", "loud"], "--log-level 'loud' is none of"),
    ],
)
def test_wrong_settings_are_exit_code_2(bare, tmp_path: Path, arguments: list[str], words: str) -> None:
    ran = bare("up", "--port", "0", "--data-dir", tmp_path / "data", *arguments)
    assert ran.code == 2
    assert words in ran.err


def test_gc_needs_a_masters_folder(start: Start, bare, tmp_path: Path) -> None:
    ran = bare("gc", "--data-dir", tmp_path)
    assert ran.code == 2
    assert "is not a master's folder" in ran.err
    up = start("--json", "--data-dir", tmp_path / "data")
    running = bare("gc", "--data-dir", tmp_path / "data")
    assert running.code == 1
    assert "another master" in running.err
    with contextlib.suppress(ValueError):
        up.end()
    ran = bare("gc", "--data-dir", tmp_path / "data", "--json")
    assert ran.code == 0
    assert ran.json["jobs"] == 0


def test_sigterm_lets_a_running_job_end(start: Start, tmp_path: Path) -> None:
    meeting = Meeting()
    first = start("--json", "--drain", "30", "--data-dir", tmp_path / "data")
    peer = Peer(("127.0.0.1", first.facts["port"]))
    assert peer.submit(script("DAG-runs", meeting.code("up") + "print('to the end')")).ok
    meeting.arrival()
    first.process.send_signal(signal.SIGTERM)
    pause = threading.Event()
    while peer.submit(script("DAG-late", "pass", tag="NOPE", delay=10**8)).ok:
        assert peer.cancel("DAG-late") == "CANCELLED"  # the signal has not been seen yet
        pause.wait(0.01)
    meeting.close()
    assert first.process.wait(timeout=120) == 0
    second = start("--json", "--data-dir", tmp_path / "data")
    peer = Peer(("127.0.0.1", second.facts["port"]))
    assert (peer.status("DAG-runs"), peer.log("DAG-runs")) == ("COMPLETED", "to the end\n")
    assert second.end() == 0
