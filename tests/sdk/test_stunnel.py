"""A real Titan speaks no TLS; with stunnel in front of it (Debian: stunnel4) the SDK reaches it encrypted."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Master
from tests.support.blocking_async import BlockingAsyncClient
from tests.support.certificates import Authority, make_authority
from titan_sdk import TLS, ClientConfig, JobStatus, TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.errors import TitanError

STUNNEL = shutil.which("stunnel4") or shutil.which("stunnel")

pytestmark = pytest.mark.skipif(STUNNEL is None, reason="stunnel is not installed (apt-get install stunnel4)")

CONF = """\
foreground = yes
pid =
[titan]
accept = 127.0.0.1:{accept}
connect = 127.0.0.1:{connect}
cert = {cert}
key = {key}
CAfile = {ca}
verifyChain = yes
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def titan(request: pytest.FixtureRequest) -> Iterator[Master | LocalCluster]:
    """A master as the real one is: one request per connection, no HELLO, no TLS. With --titan-address, that one."""
    address: str | None = request.config.getoption("--titan-address")
    if address is not None:
        host, _, port = address.rpartition(":")
        yield Master(host, int(port))
        return
    with LocalCluster({"GENERAL": 1}, strict_titan=True) as running:
        yield running


@pytest.fixture(scope="module")
def tunnel(
    titan: Master | LocalCluster, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of a stunnel that asks for client certificates."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    conf = tmp_path_factory.mktemp("stunnel") / "stunnel.conf"
    server = authority.server
    conf.write_text(
        CONF.format(accept=port, connect=titan.port, cert=server.cert, key=server.key, ca=authority.ca)
    )
    process = subprocess.Popen([str(STUNNEL), str(conf)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "Configuration successful" in line:
            break
    drain = threading.Thread(target=process.stderr.read, daemon=True)
    drain.start()
    yield port
    process.terminate()
    process.wait(60)
    drain.join(60)
    process.stderr.close()


@pytest.mark.parametrize("kind", [TitanClient, BlockingAsyncClient], ids=["sync", "async"])
def test_the_sdk_reaches_a_titan_behind_a_tunnel(
    kind: type[TitanClient], titan: Master | LocalCluster, tunnel: int, authority: Authority, tmp_path: Path
) -> None:
    tls = TLS(authority.ca, authority.client.cert, authority.client.key)
    # Workers are inside: they reach the master without the tunnel.
    config = ClientConfig("127.0.0.1", tunnel, tls=tls, worker_address=(titan.host, titan.port))
    job = tmp_path / "job.py"
    job.write_text("import titan_job; print('hello'); titan_job.result({'answer': 42})")
    with kind(config=config) as client:
        assert client.server_info().kind == "titan"
        client.store_put("k", "grüß dich")
        assert client.store_get("k") == "grüß dich"
        handle = client.submit_job(TitanJob(f"tunnel-{kind.__name__}", str(job)))
        assert handle.wait(300).state is JobStatus.COMPLETED
        assert handle.result() == {"answer": 42}
        assert handle.logs() == "hello\n"


def test_the_tunnel_takes_only_known_clients(tunnel: int, authority: Authority) -> None:
    for tls in (TLS(authority.ca), TLS(authority.ca, authority.stranger.cert, authority.stranger.key)):
        with (
            TitanClient(config=ClientConfig("127.0.0.1", tunnel, tls=tls)) as client,
            pytest.raises(TitanError) as caught,
        ):
            client.server_info()
        assert "client cert" in str(caught.value).replace("_", " ")
