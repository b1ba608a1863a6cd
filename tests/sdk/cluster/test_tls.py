"""A master with TLS, mutual TLS and a token, reached by both clients and by the jobs on its workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.blocking_async import BlockingAsyncClient
from tests.support.certificates import Authority, make_authority
from titan_sdk import TLS, ClientConfig, JobStatus, TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster, ServerTLS
from titan_sdk.errors import InvalidArgument, MissingFile, TitanError, TLSFailed

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def cluster(authority: Authority) -> Iterator[LocalCluster]:
    with LocalCluster({"GENERAL": 2}, tls=ServerTLS(authority.server.cert, authority.server.key)) as running:
        yield running


@pytest.fixture(scope="module")
def mutual(authority: Authority) -> Iterator[LocalCluster]:
    tls = ServerTLS(authority.server.cert, authority.server.key, authority.ca)
    with LocalCluster({"GENERAL": 1}, tls=tls, token=TOKEN) as running:
        yield running


@pytest.fixture(params=[TitanClient, BlockingAsyncClient], ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> type[TitanClient]:
    return request.param  # type: ignore[no-any-return]


def config(cluster: LocalCluster, tls: TLS | None, host: str | None = None, **more: object) -> ClientConfig:
    return ClientConfig(host or cluster.host, cluster.port, tls=tls, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("keep_alive", [True, False])
def test_everything_travels_encrypted(
    kind: type[TitanClient], cluster: LocalCluster, authority: Authority, tmp_path: Path, keep_alive: bool
) -> None:
    big = os.urandom(3_000_000)
    (tmp_path / "big.bin").write_bytes(big)
    with kind(config=config(cluster, TLS(authority.ca), keep_alive=keep_alive)) as client:
        client.store_put("k", "grüß dich" * 300_000)
        assert client.store_get("k") == "grüß dich" * 300_000
        ref = client.upload_file(tmp_path / "big.bin")
        assert client.fetch_artifact(ref.name, tmp_path / "back.bin").read_bytes() == big


def test_a_job_with_the_runtime_reaches_its_master(
    kind: type[TitanClient], cluster: LocalCluster, authority: Authority, tmp_path: Path
) -> None:
    script = tmp_path / "job.py"
    # Larger than what travels inside the stub, so that the launcher has to fetch it.
    script.write_text(
        f"import titan_job, os\nprint('out')\ntitan_job.result(sorted(os.environ))\n# {os.urandom(9000).hex()}"
    )
    with kind(config=config(cluster, TLS(authority.ca))) as client:
        handle = client.submit_job(TitanJob(f"tls-{kind.__name__}", str(script)))
        assert handle.wait(300).state is JobStatus.COMPLETED
        assert handle.logs() == "out\n"
        assert "TITAN_SOCKET" in handle.result()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda a: TLS(a.other_ca), "its certificate is not trusted"),
        (lambda a: TLS(), "trusted is only what the operating system trusts. Give the certificate of the CA"),
        (
            lambda a: TLS(a.ca, server_name="other.test"),
            "its certificate is not for 'other.test'; connect by a name",
        ),
    ],
)
def test_a_master_that_cannot_be_verified_is_refused(
    kind: type[TitanClient], cluster: LocalCluster, authority: Authority, make, sentence: str
) -> None:
    with kind(config=config(cluster, make(authority))) as client, pytest.raises(TLSFailed) as caught:
        client.store_get("k")
    assert sentence in str(caught.value)
    assert not caught.value.outcome_unknown


def test_the_name_may_differ_from_the_host(
    kind: type[TitanClient], cluster: LocalCluster, authority: Authority
) -> None:
    for tls in (TLS(authority.ca, server_name="titan.test"), TLS(authority.server.cert)):
        with kind(config=config(cluster, tls)) as client:
            if tls.server_name:
                assert client.server_info().kind == "bundled"
                continue
            # The server's own certificate is trusted only if it is its own CA's.
            with pytest.raises(TLSFailed):
                client.server_info()


def test_one_end_without_tls_is_a_sentence(
    kind: type[TitanClient], cluster: LocalCluster, authority: Authority
) -> None:
    with kind(config=config(cluster, None)) as client, pytest.raises(TitanError) as caught:
        client.store_get("k")
    assert "TLS" in str(caught.value)
    with (
        LocalCluster({"GENERAL": 1}) as plain,
        kind(config=config(plain, TLS(authority.ca))) as client,
        pytest.raises(TLSFailed, match="does not speak TLS"),
    ):
        client.store_get("k")


def test_mutual_tls_and_a_token_together(
    kind: type[TitanClient], mutual: LocalCluster, authority: Authority
) -> None:
    tls = TLS(authority.ca, authority.client.cert, authority.client.key)
    with kind(config=config(mutual, tls, auth_token=TOKEN)) as client:
        client.store_put("k", "v")
        assert client.store_get("k") == "v"


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_without_the_right_certificate_nobody_is_served(
    kind: type[TitanClient], mutual: LocalCluster, authority: Authority, who: str
) -> None:
    stranger = authority.stranger
    tls = TLS(authority.ca) if who == "nobody" else TLS(authority.ca, stranger.cert, stranger.key)
    with kind(config=config(mutual, tls, auth_token=TOKEN)) as client, pytest.raises(TitanError) as caught:
        client.store_put("k", "v")
    # Whether it is an alert, an end or a reset that arrives first is up to the network.
    assert "client certificate" in str(caught.value)
    assert "client_cert" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "kind_of", "sentence"),
    [
        ({"ca_cert": "/no/such.pem"}, MissingFile, "ca_cert '/no/such.pem' is not there"),
        ({"client_cert": "{empty}"}, InvalidArgument, "are not a certificate and its own key in PEM form"),
        ({"ca_cert": "{empty}"}, InvalidArgument, "holds no certificate in PEM form"),
        (
            {"client_cert": "{cert}", "client_key": "{other}"},
            InvalidArgument,
            "are not a certificate and its own key",
        ),
    ],
)
def test_files_that_cannot_be_used_are_named(
    cluster: LocalCluster,
    authority: Authority,
    tmp_path: Path,
    change: dict[str, str],
    kind_of: type,
    sentence: str,
) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    names = {"empty": tmp_path / "empty.pem", "cert": authority.client.cert, "other": authority.server.key}
    tls = TLS(**{key: value.format(**names) for key, value in change.items()})
    with TitanClient(config=config(cluster, tls)) as client, pytest.raises(kind_of) as caught:
        client.store_get("k")
    assert sentence in str(caught.value)


def test_an_encrypted_key_is_refused_without_a_question(authority: Authority, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(Path(authority.server.key).read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(InvalidArgument, match="the key without a passphrase"):
        LocalCluster(tls=ServerTLS(authority.server.cert, str(locked))).start()
