"""Hosts, ports, addresses and URLs: read in one way, and what is ambiguous or cannot be is refused with the fix."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from titan_sdk.errors import InvalidArgument
from titan_sdk.model.addresses import (
    check_port,
    is_loopback,
    parse_address,
    parse_host,
    parse_url,
    show_address,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("titan:9090", ("titan", 9090)),
        (" 10.0.0.5:1 ", ("10.0.0.5", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("titan_master.:80", ("titan_master.", 80)),
    ],
)
def test_addresses_are_split_at_their_colon(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "titan", ":9090", "[]:9090", "titan:", "titan:²", "titan:-1", "http://t:1", "a b:1", "a..b:1", "[titan]:1",
     "[::1]", "[::1]9090", "[::1:9090", "256.0.0.1:1", "u@h:1", "h:1/x", "-h:1", f"{'a' * 64}:1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"is not host:port, for example titan.example.org:9090"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "advice"), [("::1", "[::1]:9090"), ("::1:9090", "[::1:9090]:9090"), ("a:b:1", "[::1]")]
)
def test_an_ipv6_address_needs_brackets_or_its_end_could_be_the_port(text: str, advice: str) -> None:
    with pytest.raises(InvalidArgument, match="write an IPv6 address in brackets") as caught:
        parse_address(text)
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [("titan", ("titan", 0)), ("::1", ("::1", 0)), ("[::1]", ("::1", 0)), ("10.0.0.5:0", ("10.0.0.5", 0)), ("h:1", ("h", 1))],
)  # fmt: skip
def test_a_port_may_have_a_default(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, port=0) == address


@given(st.text())
def test_any_text_is_an_address_or_an_invalid_argument(text: str) -> None:
    try:
        host, port = parse_address(text)
    except InvalidArgument:
        return
    assert parse_host(host, "host") == host
    assert check_port(port, "port") == port


@pytest.mark.parametrize(
    ("written", "host"), [("[::1]", "::1"), ("::1", "::1"), (" titan ", "titan"), ("10.0.0.5", "10.0.0.5")]
)
def test_a_host_may_be_written_as_in_a_url(written: str, host: str) -> None:
    assert parse_host(written, "host") == host


@pytest.mark.parametrize(
    ("written", "advice"),
    [("h:9090", "give 'h' as the host and 9090 as the port"), ("[::1]:9090", "give '::1' as the host and 9090")]
    + [(w, "give the name or address alone") for w in
       ("", " ", "[h]", "titan://h", "u@h", "h/x", "a..b", "1.2.3", b"h", 7, ["h"], "a" * 64, "a." * 127 + "b")],
)  # fmt: skip
def test_what_is_no_host_is_refused_with_the_fix(written: Any, advice: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^the host .* is not a host name; give ") as caught:
        parse_host(written, "the host")
    assert advice in str(caught.value)


@pytest.mark.parametrize("port", [0, -1, 65536, True, "9090", 90.0, None])
def test_what_is_no_port_is_refused(port: Any) -> None:
    with pytest.raises(InvalidArgument, match="is not a port number from 1 to 65535"):
        check_port(port, "port")


def test_a_port_may_be_left_to_the_system_where_that_is_meant() -> None:
    assert check_port(0, "port", zero=True) == 0
    with pytest.raises(InvalidArgument, match="from 0 to 65535"):
        check_port(-1, "port", zero=True)


@pytest.mark.parametrize("written", ["http://h:5000/", "https://[::1]:5000", "http://h/titan", " http://h "])
def test_a_url_has_no_slash_at_its_end(written: str) -> None:
    assert parse_url(written, "url") == written.strip().rstrip("/")


@pytest.mark.parametrize(
    "written",
    ["", "h:5000", "ftp://h", "http://", "http://h:x", "http://h:0", "http://a b", "http://h/a b", "http://[::1", 7, []],
)  # fmt: skip
def test_what_is_no_url_is_refused(written: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"is not a URL; write it as http://titan.example.org:5000"):
        parse_url(written, "url")


@pytest.mark.parametrize("address", ["titan:9090", "[::1]:65535"])
def test_an_address_is_shown_as_it_is_read(address: str) -> None:
    assert show_address(*parse_address(address)) == address


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.8.0.1", True), ("::1", True), ("10.0.0.5", False), ("titan", False), ("0.0.0.0", False)],
)  # fmt: skip
def test_only_this_machine_is_reached_by_a_loopback_address(host: str, here: bool) -> None:
    assert is_loopback(host) is here
