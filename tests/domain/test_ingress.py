"""What counts as the Internet: arithmetic on networks."""

from ipaddress import IPv4Network, collapse_addresses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.ingress import admits_port, covers_world, is_broad, network, on_the_internet


@pytest.mark.parametrize(
    "cidrs, world",
    [
        (["0.0.0.0/0"], True),
        (["1.2.3.4/0"], True),
        (["::/0"], True),
        (["2000::/3"], True),
        (["0.0.0.0/1", "128.0.0.0/1"], True),
        (["0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/1"], True),
        (["0.0.0.0/1"], False),
        (["128.0.0.0/1"], False),
        (["::/1"], True),
        (["8000::/1"], False),
        (["0.0.0.0/16"], False),
        (["10.0.0.0/8", "192.168.0.0/16"], False),
        (["0.0.0.0/1", "::/1"], True),
        (["0.0.0.0/1", "8000::/1"], False),
        ([], False),
    ],
)
def test_the_world_is_every_public_address_of_one_family(cidrs: list[str], world: bool) -> None:
    assert covers_world(map(network, cidrs)) is world


def test_leaving_out_only_private_ranges_does_not_hide_the_world() -> None:
    everything_but_ten = list(IPv4Network("0.0.0.0/0").address_exclude(IPv4Network("10.0.0.0/8")))
    assert covers_world(everything_but_ten)


def test_leaving_out_one_public_block_is_not_the_world() -> None:
    assert not covers_world(IPv4Network("0.0.0.0/0").address_exclude(IPv4Network("8.8.8.0/24")))


@given(st.integers(min_value=0, max_value=4))
def test_however_the_world_is_cut_its_pieces_together_are_the_world(bits: int) -> None:
    pieces = list(IPv4Network("0.0.0.0/0").subnets(new_prefix=bits))
    assert covers_world(pieces)
    assert list(collapse_addresses(pieces)) == [IPv4Network("0.0.0.0/0")]
    assert all(is_broad(piece) for piece in pieces)


@pytest.mark.parametrize(
    "protocol, low, high, admits",
    [
        ("tcp", 22, 22, True),
        ("6", 22, 22, True),
        ("tcp", 0, 65535, True),
        ("tcp", 20, 25, True),
        ("tcp", 23, 25, False),
        ("tcp", -1, -1, True),
        ("tcp", None, None, True),
        ("-1", None, None, True),
        ("-1", -1, -1, True),
        ("all", None, None, True),
        ("udp", 22, 22, False),
        ("17", 22, 22, False),
        ("icmp", -1, -1, False),
    ],
)
def test_a_rule_admits_a_port_by_protocol_and_range(
    protocol: str, low: int | None, high: int | None, admits: bool
) -> None:
    assert admits_port(protocol, low, high, 22) is admits


def test_private_ranges_are_not_on_the_internet() -> None:
    assert not on_the_internet(network("10.1.0.0/16"))
    assert not on_the_internet(network("fd00::/8"))
    assert on_the_internet(network("8.8.8.8/32"))
    assert on_the_internet(network("2001:4860::/32"))
    assert on_the_internet(network("0.0.0.0/0"))
