"""A Redis that is reached over TLS, and one with users of its own, with certificates that the test has made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.sdk.cluster.store.opening import opened
from tests.support.certificates import Authority, make_authority
from tests.support.encrypted_redis import EncryptedRedis
from titan_sdk.cluster.store.changes import Put
from titan_sdk.cluster.store.redis.location import Location
from titan_sdk.cluster.store.redis.store import open_redis
from titan_sdk.errors import InvalidArgument, TitanError


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[EncryptedRedis]:
    made = EncryptedRedis(tmp_path_factory.mktemp("encrypted"), authority, "no")
    yield made
    made.server.stop()


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[EncryptedRedis]:
    made = EncryptedRedis(tmp_path_factory.mktemp("mutual"), authority, "yes")
    yield made
    made.server.stop()


async def test_state_is_kept_over_tls(encrypted: EncryptedRedis, authority: Authority) -> None:
    location = Location(encrypted.url(authority.ca, host="localhost"), "over-tls")
    async with opened(location) as store:
        await store.journal.write(Put("k", "grüß dich" * 100_000))
    async with opened(location) as store:
        assert await store.get("k") == "grüß dich" * 100_000
    assert encrypted.server.say("EXISTS", "over-tls:value:k") == b":1\r\n"


async def test_both_ends_can_show_a_certificate(mutual: EncryptedRedis, authority: Authority) -> None:
    async with opened(Location(mutual.url(authority.ca, authority.client))) as store:
        await store.journal.write(Put("k", "v"))
        assert await store.get("k") == "v"


@pytest.mark.parametrize("who", ["nobody", "stranger"])
async def test_without_the_right_certificate_a_server_that_wants_one_is_not_used(
    mutual: EncryptedRedis, authority: Authority, who: str
) -> None:
    url = mutual.url(authority.ca, authority.stranger if who == "stranger" else None)
    with pytest.raises(TitanError, match=r"wants a certificate of its clients .*ssl_certfile="):
        await open_redis(Location(url))


async def test_a_server_of_another_authority_is_not_trusted(
    encrypted: EncryptedRedis, authority: Authority
) -> None:
    for ca in (authority.other_ca, None):
        with pytest.raises(TitanError, match=r"certificate is not trusted .*ssl_ca_certs=.*PEM") as refused:
            await open_redis(Location(encrypted.url(ca)))
        assert "\n" not in str(refused.value)


async def test_a_certificate_for_another_name_is_refused(
    encrypted: EncryptedRedis, authority: Authority
) -> None:
    # A name of the same address that the certificate does not bear.
    with pytest.raises(TitanError, match=r"certificate is not for '127.1'; write a name that it contains"):
        await open_redis(Location(encrypted.url(authority.ca, host="127.1")))


async def test_tls_on_one_end_only_is_a_sentence(encrypted: EncryptedRedis, authority: Authority) -> None:
    plain = encrypted.url(None).rstrip("?").replace("rediss://", "redis://")
    with pytest.raises(TitanError, match=r"one that speaks TLS .* write rediss://"):
        await open_redis(Location(plain))
    with pytest.raises(InvalidArgument, match=r"has options of TLS, .* write rediss://"):
        await open_redis(Location(f"{plain}?ssl_ca_certs={authority.ca}"))
    # A server without TLS waits for the rest of what it takes for a command.
    with pytest.raises(TitanError, match=r"does not answer .*, or does it not speak TLS\?"):
        await open_redis(Location(encrypted.server.url.replace("redis://", "rediss://")))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("ssl_ca_certs=/no/such.pem", "ssl_ca_certs=/no/such.pem cannot be read: No such file"),
        ("ssl_ca_certs={empty}", "holds no certificate in PEM form"),
        ("ssl_certfile={empty}", "is not a certificate and its own key in PEM form"),
        ("ssl_ca_file=/etc/ca.pem", "it has no option 'ssl_ca_file'"),
        ("ssl_cert_reqs=sometimes", "sometimes"),
        ("socket_timeout=soon", "socket_timeout"),
    ],
)
async def test_options_that_cannot_work_are_named(
    encrypted: EncryptedRedis, tmp_path: Path, option: str, words: str
) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    url = encrypted.url(None) + option.format(empty=tmp_path / "empty.pem")
    with pytest.raises(InvalidArgument) as refused:
        await open_redis(Location(url))
    assert words in str(refused.value)


async def test_a_user_with_rights_below_the_prefix_is_enough(
    encrypted: EncryptedRedis, authority: Authority
) -> None:
    """What docs/store.md says of its rights is what it has here."""
    encrypted.add_user("front", "a:secret/word", "titan")
    login = f"front:{quote('a:secret/word', safe='')}@"
    async with opened(Location(encrypted.url(authority.ca, login=login))) as store:
        await store.journal.write(Put("k", "v"))
        assert await store.get("k") == "v"
        assert store.client.location.shown.startswith("rediss://***@")
    for name in ("front@", "front:in-the-url@"):
        by_itself = Location(encrypted.url(authority.ca, login=name), password="a:secret/word")
        async with opened(by_itself) as store:
            assert await store.get("k") == "v"
    with pytest.raises(TitanError, match=r"a user without the rights for that .* prefix 'elsewhere'"):
        await open_redis(Location(encrypted.url(authority.ca, login=login), "elsewhere"))
    wrong = Location(encrypted.url(authority.ca, login="front@"), password="guessed")
    with pytest.raises(TitanError, match="does not take the password or user name") as refused:
        await open_redis(wrong)
    assert "guessed" not in str(refused.value)
