"""The address guard: nothing that is not public gets through, in whatever clothes it comes."""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.connections import AddrInfo
from handlers.http import AddressRefused
from service.security.egress import Guard

INNER_NETWORKS = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4"),
    "240.0.0.0/4",
)
INNER = st.sampled_from(INNER_NETWORKS).flatmap(lambda network: st.ip_addresses(network=network))
PUBLIC_V4 = ("1.1.1.1", "8.8.8.8", "93.184.215.14", "172.15.255.255", "172.32.0.1", "100.63.255.255", "223.255.255.255")
PUBLIC_V6 = ("2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "2400:cb00:2048:1::c629:d7a2")
HIDINGS: dict[str, Callable[[int], int]] = {
    "IPv4-mapped": lambda v4: 0xFFFF << 32 | v4,
    "IPv4-compatible": lambda v4: v4,
    "IPv4-translated": lambda v4: 0xFFFF << 48 | v4,
    "6to4": lambda v4: 0x2002 << 112 | v4 << 80 | 1,
    "Teredo server": lambda v4: 0x2001_0000 << 96 | v4 << 64 | 1,
    "Teredo client": lambda v4: 0x2001_0000 << 96 | 0x0808_0808 << 64 | (v4 ^ 0xFFFF_FFFF),
    "NAT64": lambda v4: 0x0064_FF9B << 96 | v4,
    "local NAT64": lambda v4: 0x0064_FF9B_0001 << 80 | v4,
    "ISATAP": lambda v4: 0x2606_4700 << 96 | 0x0000_5EFE << 32 | v4,
    "ISATAP, unique": lambda v4: 0x2606_4700 << 96 | 0x0200_5EFE << 32 | v4,
}


@given(INNER)
def test_no_inner_ipv4_address_is_allowed(address: IPv4Address) -> None:
    assert not Guard().allows(address)


@pytest.mark.parametrize("hiding", HIDINGS)
@given(inner=INNER)
def test_no_ipv6_address_that_embeds_an_inner_one_is_allowed(hiding: str, inner: IPv4Address) -> None:
    assert not Guard().allows(IPv6Address(HIDINGS[hiding](int(inner))))


@given(st.ip_addresses(v=6).filter(lambda address: int(address) >> 125 != 1))
def test_outside_global_unicast_only_forms_of_a_public_ipv4_address_are_allowed(address: IPv6Address) -> None:
    assert not Guard().allows(address) or address.ipv4_mapped or address in ip_network("64:ff9b::/96")


@given(st.ip_addresses())
def test_what_is_allowed_is_never_private_by_the_library_s_book(address: IPv4Address | IPv6Address) -> None:
    if Guard().allows(address):
        assert not any((address.is_loopback, address.is_link_local, address.is_multicast, address.is_unspecified))
        assert not address.is_private or (isinstance(address, IPv6Address) and address.ipv4_mapped)


@pytest.mark.parametrize(
    "address",
    [
        *("::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "100::1"),
        *("2001:2::1", "2001:db8::1", "3fff::1", "2001:10::1", "5f00::1"),
        *("169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "255.255.255.255"),
    ],
)
def test_special_addresses_are_refused(address: str) -> None:
    assert not Guard().allows(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC_V4 + PUBLIC_V6)
def test_public_addresses_are_allowed(address: str) -> None:
    assert Guard().allows(ip_address(address))


@pytest.mark.parametrize("form", ["IPv4-mapped", "NAT64", "6to4"])
@pytest.mark.parametrize("address", PUBLIC_V4)
def test_a_public_address_behind_a_translator_is_allowed(form: str, address: str) -> None:
    assert Guard().allows(IPv6Address(HIDINGS[form](int(IPv4Address(address)))))


def test_a_zone_is_refused_even_in_an_allowed_network() -> None:
    guard = Guard([ip_network("fe80::/10")])
    assert guard.allows(ip_address("fe80::1"))
    assert not guard.allows(ip_address("fe80::1%eth0"))


def test_an_allowed_ipv4_network_opens_its_mapped_form_and_no_other() -> None:
    guard = Guard([ip_network("10.1.0.0/16")])
    inner = int(IPv4Address("10.1.2.3"))
    assert guard.allows(IPv4Address("10.1.2.3"))
    assert not guard.allows(IPv4Address("10.2.0.1"))
    opened = {name for name, hide in HIDINGS.items() if guard.allows(IPv6Address(hide(inner)))}
    assert opened == {"IPv4-mapped"}


def test_an_allowed_network_may_be_written_as_ipv6() -> None:
    assert Guard([ip_network("fd00:1::/32")]).allows(ip_address("fd00:1::7"))
    assert Guard([ip_network("::ffff:10.0.0.0/104")]).allows(ip_address("::ffff:10.0.0.7"))


def _info(*address: str | int) -> AddrInfo:
    family = socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address


def test_a_socket_is_made_for_an_allowed_address_and_does_not_block() -> None:
    with Guard().socket(_info("8.8.8.8", 443)) as made:
        assert (made.family, made.type, made.getblocking()) == (socket.AF_INET, socket.SOCK_STREAM, False)


@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1", 80),
        ("::1", 80, 0, 0),
        ("2606:4700:4700::1111", 80, 0, 2),  # a zone by its number
        ("example.com", 80),  # a name would be resolved once more, unseen
        ("127.1", 80),
        ("", 80),
    ],
)
def test_no_socket_is_made_for_anything_else(address: tuple[str | int, ...]) -> None:
    with pytest.raises(AddressRefused):
        Guard().socket(_info(*address))


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?token=1",
        "http://example.com:8080",
        "https://bücher.example/ü",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]:8443/",
        "https://localhost.example.com/",
        "https://under_score.example.com/",
    ],
)
def test_a_public_url_is_accepted(url: str) -> None:
    Guard().judge_url(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "http"),
        ("file:///etc/passwd", "http"),
        ("example.com/hook", "http"),
        ("", "http"),
        ("http://", "host"),
        ("http:///path", "host"),
        ("http://exa%6dple.com/", "host"),
        ("http://[fe80::1%25eth0]/", "host"),
        ("http://user@example.com/", "credentials"),
        ("http://user:secret@example.com/", "credentials"),
        ("http://@example.com/", "credentials"),
        ("http://example.com:0/", "port"),
        ("http://example.com:65536/", "port"),
        ("http://example.com:-1/", "port"),
        ("http://[::1/", "URL"),
        ("http://127.0.0.1\\@example.com/", "URL"),
        ("http://example.com/\r\nX-Evil: 1", "control"),
        ("http://example.com/a b", "blanks"),
        ("http://example.com\x00/", "control"),
    ],
)
def test_a_url_that_may_not_go_out_is_refused_with_its_reason(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        Guard().judge_url(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0x7F.0.0.0x1"),
        *("017700000001", "0177.0.0.1", "0", "0.0.0.0", "10.0.0.1", "192.168.1.1", "169.254.169.254", "3232235777"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[fd00::1]", "[fe80::1]"),
        *("localhost", "LOCALHOST", "localhost.", "shop.localhost", "localhost.localdomain"),
        *("１２７.0.0.1", "127。0。0。1"),  # signs that IDNA turns into plain digits and dots
    ],
)
def test_a_literal_inner_address_is_refused_in_every_spelling(host: str) -> None:
    with pytest.raises(ValueError, match="not allowed here"):
        Guard().judge_url(f"http://{host}:8000/hook")


@given(INNER, st.sampled_from(["{:d}", "0x{:x}", "0{:o}"]))
def test_an_inner_address_written_as_one_number_is_refused(address: IPv4Address, spelling: str) -> None:
    with pytest.raises(ValueError, match="not allowed here"):
        Guard().judge_url(f"http://{spelling.format(int(address))}/")


def test_an_allowed_network_opens_its_urls() -> None:
    guard = Guard([ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8")])
    for host in ("localhost", "127.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]", "10.2.3.4"):
        guard.judge_url(f"http://{host}/")
    with pytest.raises(ValueError, match="not allowed here"):
        guard.judge_url("http://192.168.0.1/")
