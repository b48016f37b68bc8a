"""The address guard: deliveries, source links, result links and shops reach public addresses only, or those allowed.

It judges the address that a socket is about to connect to, after DNS and on every connection, so neither a name that
resolves to an inner address, nor a redirect, nor a second look-up with another answer gets past it.
"""

import re
import socket
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from handlers.http import AddressRefused, AddrInfo
from handlers.links import parse_url

# `ipaddress.is_global` differs between Python versions and calls some of these global; the table is our own.
# Source: the IANA special-purpose address registries (RFC 6890 and its updates).
_REFUSED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network, unspecified
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; also a cloud's metadata service
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a public number that Azure serves inside each virtual machine's own network
        "169.254.0.0/16",  # link-local; the clouds' metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; also a cloud's metadata service
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)

# All that IANA has given out for global unicast. Outside of it stand loopback, unspecified, link-local, site-local,
# unique local, multicast, discard-only, IPv4-compatible (::/96), IPv4-translated and the local NAT64 prefix
# (64:ff9b:1::/48); only the forms named below are let in all the same.
_UNICAST_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")
# The middle of an ISATAP address (RFC 5214), its bit for "globally unique" masked out.
_ISATAP = 0x0000_5EFE

_LOCALHOST = re.compile(r"(.+\.)?localhost(\.localdomain)?", re.IGNORECASE)
_LOOPBACKS = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


class Guard:
    """Which addresses may be reached: public ones, and the networks in `allow`.

    An IPv4 network in `allow` opens its IPv4-mapped IPv6 form too, and no other form that embeds it.
    """

    def __init__(self, allow: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        self._allow = tuple(allow)

    def allows(self, address: IPv4Address | IPv6Address) -> bool:
        plain: IPv4Address | IPv6Address = address
        if isinstance(address, IPv6Address):
            plain = address.ipv4_mapped or address
            if address.scope_id is not None:
                # A zone names one of our own network interfaces.
                return False
        return any(form in network for network in self._allow for form in (address, plain)) or _public(plain)

    def socket(self, addr_info: AddrInfo) -> socket.socket:
        """A socket that may be connected to this very address. Raises AddressRefused."""
        family, kind, protocol, _, address = addr_info
        try:
            # A link-local address may carry its zone in the text or as the last number.
            allowed = self.allows(ip_address(address[0])) and not any(address[3:])
        except ValueError:
            allowed = False  # a name here would be resolved again, after us
        if not allowed:
            raise AddressRefused
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    def judge_url(self, url: str) -> None:
        """Raises ValueError, with a reason for people, for a URL that can be refused without asking DNS.

        An early answer for those who register a URL; the address is judged again when it is connected to.
        """
        host = (parse_url(url).raw_host or "").rstrip(".")
        address = _literal(host)
        if address is not None and not self.allows(address):
            raise ValueError("the URL's address is private, reserved or local, and its network is not allowed here")
        if _LOCALHOST.fullmatch(host) and not any(self.allows(loopback) for loopback in _LOOPBACKS):
            raise ValueError("the URL leads to this machine itself, and its network is not allowed here")


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host spells out, also as the system's resolver reads it: 0x7f.1, 2130706433, 017700000001."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    if address not in _UNICAST_V6 and address not in _NAT64:
        return False
    if any(address in network for network in _REFUSED_V6):
        return False
    return all(_public(inner) for inner in _embedded(address))


def _embedded(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that a gateway may take out of an IPv6 address."""
    bits = int(address)
    if address in _6TO4:
        yield IPv4Address(bits >> 80 & 0xFFFF_FFFF)
    if address in _NAT64 or bits >> 32 & 0xFCFF_FFFF == _ISATAP:
        yield IPv4Address(bits & 0xFFFF_FFFF)
