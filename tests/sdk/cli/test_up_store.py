"""titan up and titan gc with a store on Redis, as processes: killed, replaced elsewhere, refused, cleaned up after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.cli.test_up import Start, start
from tests.sdk.cluster.peer import Peer, script
from tests.support.certificates import make_authority
from tests.support.encrypted_redis import EncryptedRedis
from tests.support.redis_server import RedisServer
from titan_sdk import TitanClient

# Slow: Each test starts and ends a master as a process, with a Redis.
pytestmark = pytest.mark.slow

__all__ = ["start"]  # a fixture

PASSWORD = "never/to:be@seen"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def words(redis: RedisServer) -> list[str]:
    """Options for a store of this test's own."""
    return ["--store", redis.url, "--store-prefix", uuid.uuid4().hex]


def gc(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "titan_sdk", "gc", "--json", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_killed_master_is_replaced_in_another_folder_and_cleaned_up_after(
    start: Start, words: list[str], tmp_path: Path
) -> None:
    first = start("--json", *words, "--store-lease", "0.5", "--data-dir", tmp_path / "first")
    peer = Peer(("127.0.0.1", first.facts["port"]))
    peer.submit(script("done", "print('by the first')"), script("waits", "pass", tag="NOPE"))
    assert peer.until("done") == "COMPLETED"
    first.process.send_signal(signal.SIGKILL)
    assert first.process.wait(120) == -signal.SIGKILL
    second = start("--json", *words, "--data-dir", tmp_path / "second")
    peer = Peer(("127.0.0.1", second.facts["port"]))
    assert (peer.status("done"), peer.status("waits")) == ("COMPLETED", "PENDING")
    running = gc(*words, "--data-dir", tmp_path / "third")
    assert running.returncode == 1
    assert "another master (process" in running.stderr
    assert second.end() == 0

    def collected(*more: object) -> int:
        ran = gc(*words, "--data-dir", tmp_path / "second", *more)
        assert ran.returncode == 0, ran.stderr
        return int(json.loads(ran.stdout)["jobs"])

    assert collected() == 0  # it ended less than 30 days ago
    # The newest of all numbers has to stay; here that is the job that waits.
    assert collected("--keep-days", "0", "--dry-run") == 1
    assert collected("--keep-days", "0") == 1
    assert collected("--keep-days", "0") == 0
    third = start("--json", *words, "--data-dir", tmp_path / "third")
    peer = Peer(("127.0.0.1", third.facts["port"]))
    assert peer.status("waits") == "PENDING"
    assert peer.status("done") == "NULL"
    assert third.end() == 0


def test_prefixes_keep_masters_of_one_redis_apart(
    start: Start, words: list[str], redis: RedisServer, tmp_path: Path
) -> None:
    first = start("--json", *words, "--data-dir", tmp_path / "first")
    assert first.facts["store"] == redis.url
    second = start(*words[:2], "--store-prefix", "another", "--data-dir", tmp_path / "second")
    assert f"; state in {redis.url}; data in " in second.line
    with TitanClient("127.0.0.1", first.facts["port"]) as client:
        client.store_put("k", "of the first")
    with TitanClient("127.0.0.1", int(second.line.split()[4].partition(":")[2])) as client:
        assert client.store_get("k") is None
    ran = gc(*words[:2], "--store-prefix", "mistyped", "--data-dir", tmp_path / "third")
    assert ran.returncode == 2
    assert "no master has kept anything under the prefix 'mistyped'" in ran.stderr
    assert redis.say("EXISTS", "mistyped:format") == b":0\r\n"
    assert (first.end(), second.end()) == (0, 0)


def test_over_tls_as_a_user_whose_password_is_in_a_file(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_authority(tmp_path)
    redis = EncryptedRedis(tmp_path / "redis", authority, "yes")
    try:
        redis.add_user("front", PASSWORD, "team")
        (tmp_path / "password").write_text(PASSWORD + "\n")
        url = redis.url(authority.ca, authority.client, login="front@")
        prefix, folder = ["--store-prefix", "team"], ["--data-dir", tmp_path / "data"]
        up = start("--json", "--store", url, *prefix, *folder, "--store-password-file", tmp_path / "password")
        assert up.facts["store"] == f"rediss://***@127.0.0.1:{redis.port}/0"
        command = Path(f"/proc/{up.process.pid}/cmdline").read_text()
        assert PASSWORD not in up.line + command
        peer = Peer(("127.0.0.1", up.facts["port"]))
        peer.submit(script("over-tls", "print('done')"))
        assert peer.until("over-tls") == "COMPLETED"
        with TitanClient("127.0.0.1", up.facts["port"]) as client:
            client.store_put("k", "v")
            assert client.store_expire("k", 3600)
            client.store_sadd("s", "member")
            assert client.store_keys() == ["k", "s"]
        assert up.end() == 0
        # From now on with the variables.
        monkeypatch.setenv("TITAN_STORE", url)
        monkeypatch.setenv("TITAN_STORE_PASSWORD", PASSWORD)
        assert json.loads(gc(*prefix, *folder, "--keep-days", "0").stdout)["jobs"] == 0
        again = start("--json", *prefix, *folder)
        with TitanClient("127.0.0.1", again.facts["port"]) as client:
            assert client.store_get("k") == "v"
        assert again.end() == 0
        monkeypatch.setenv("TITAN_STORE_PASSWORD", "guessed")
        refused = gc(*prefix, *folder)
        assert refused.returncode == 1
        assert "does not take the password or user name" in refused.stderr
        assert "guessed" not in refused.stderr
    finally:
        redis.server.stop()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["--store", "http://host"],
            2,
            "the store http://host is no URL of a Redis; write redis://host:6379/0",
        ),
        (["--store", "redis:/host"], 2, "the store redis:///host names no host; write"),
        (["--store", "host:6379"], 2, "is no URL of a Redis"),
        (["--store", "redis://h:port/0"], 2, "redis://h:port/0 has a port that is none"),
        (["--store", "redis://h:99999/0"], 2, "redis://h:99999/0 has a port that is none"),
        (["--store", "redis://u:hidden@h/zero"], 2, "has 'zero' where the number of a database stands"),
        (["--store", "redis://h?colour=red"], 2, "it has no option 'colour'"),
        (["--store", "rediss://h?ssl_ca_certs=/no/such.pem"], 2, "ssl_ca_certs=/no/such.pem cannot be read"),
        (["--store", "unix:///no/such.sock"], 1, "unix:///no/such.sock cannot be reached"),
        (["--store", "redis://u:hidden@127.0.0.1:1"], 1, "redis://***@127.0.0.1:1 cannot be reached"),
        (["--store", "redis://h", "--store-prefix", ""], 2, "store prefix '' is empty or has spaces"),
        (["--store", "redis://h", "--store-prefix", "a b"], 2, "store prefix 'a b' is empty or has spaces"),
        (
            ["--store", "redis://h", "--store-password-file", "/no/such"],
            2,
            "--store-password-file /no/such is",
        ),
        (
            ["--store-prefix", "team"],
            2,
            "--store-prefix, --store-password-file and --store-lease need --store",
        ),
        (
            ["--store-password-file", "{file}"],
            2,
            "--store-prefix, --store-password-file and --store-lease need --store",
        ),
    ],
)
@pytest.mark.parametrize("command", ["up", "gc"])
def test_what_cannot_work_is_one_sentence_and_a_code(
    bare, tmp_path: Path, command: str, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "file").write_text("word")
    given = [word.format(file=tmp_path / "file") for word in arguments]
    ran = bare(command, "--port", "0", "--data-dir", tmp_path / "data", *given)
    assert (ran.code, len(ran.err.splitlines())) == (code, 1), ran.err
    assert words in ran.err
    assert "hidden" not in ran.err


def test_a_lease_that_is_too_short_or_alone_is_refused(bare, tmp_path: Path) -> None:
    for arguments, words in (
        (["--store", "redis://h", "--store-lease", "0"], "lease of 0.0 s is shorter than 0.2 s"),
        (["--store-lease", "5"], "--store-lease need --store"),
        (["--accept-lost-commits"], "--accept-lost-commits needs --store"),
    ):
        ran = bare("up", "--port", "0", "--data-dir", tmp_path / "data", *arguments)
        assert ran.code == 2
        assert words in ran.err


def test_the_process_ends_with_the_code_and_the_sentence_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "titan_sdk", "up", "--port", "0", "--data-dir", str(tmp_path / "data")]
    environment = {**os.environ, "TITAN_STORE": "redis://:hidden@127.0.0.1:1/0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("titan: the store redis://***@127.0.0.1:1/0 cannot be reached (")
