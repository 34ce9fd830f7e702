"""Which sources a set of rules admits, and whether together they are the Internet. Pure arithmetic on networks.

"The world" is every address that the public Internet routes. Ranges set aside for private or special use (IANA special
purpose registries, RFC 6890; IPv6 global unicast is 2000::/3, RFC 4291) are added before the union is taken, so that
`0.0.0.0/1` with `128.0.0.0/1`, or everything but 10.0.0.0/8, counts as the world that it is.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

Network = IPv4Network | IPv6Network

_OFF_THE_INTERNET_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)
_OFF_THE_INTERNET_V6 = tuple(IPv6Network(text) for text in ("::/3", "4000::/2", "8000::/1"))

BROAD_V4 = 7
BROAD_V6 = 11
"""Prefixes this short or shorter may take part in covering the world within the 60 rules of a default quota: nobody
holds more than an IPv4 /8, and a registry holds an IPv6 /12, so an honest source is longer."""


def network(cidr: str) -> Network:
    """The network that `cidr` means; host bits are ignored as EC2 ignores them (`1.2.3.4/0` is the world)."""
    return ip_network(cidr.strip(), strict=False)


def covers_world(networks: Iterable[Network]) -> bool:
    """True when `networks` together admit every public address of IPv4 or of IPv6."""
    given = list(networks)
    v4 = [net for net in given if isinstance(net, IPv4Network)]
    v6 = [net for net in given if isinstance(net, IPv6Network)]
    return (
        bool(v4) and list(collapse_addresses([*v4, *_OFF_THE_INTERNET_V4])) == [IPv4Network("0.0.0.0/0")]
    ) or (bool(v6) and list(collapse_addresses([*v6, *_OFF_THE_INTERNET_V6])) == [IPv6Network("::/0")])


def is_broad(net: Network) -> bool:
    """True when the network alone, or with a few others, may be the world: worth an assessment."""
    return net.prefixlen <= (BROAD_V4 if isinstance(net, IPv4Network) else BROAD_V6)


def on_the_internet(net: Network) -> bool:
    """True unless the whole network is set aside for private or special use."""
    if isinstance(net, IPv4Network):
        return not any(net.subnet_of(reserved) for reserved in _OFF_THE_INTERNET_V4)
    return not any(net.subnet_of(reserved) for reserved in _OFF_THE_INTERNET_V6)


ALSO_OVER_UDP = frozenset({3389})
"""RDP moves to UDP on the same port once a session is up (MS-RDPEUDP), so a rule for UDP opens it as well."""


def admits_port(protocol: str, from_port: int | None, to_port: int | None, port: int) -> bool:
    """True when a rule of this protocol and range lets the service on TCP `port` be reached.

    All traffic does, TCP (also written 6) does, and UDP (17) for services that speak it on the same port.
    """
    if protocol in {"-1", "all"}:
        return True
    if protocol not in {"tcp", "6"} and not (protocol in {"udp", "17"} and port in ALSO_OVER_UDP):
        return False
    if from_port is None or to_port is None or from_port == -1:
        return True
    return from_port <= port <= to_port
