from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.auth.remote import ClientAddress, client_address

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The first text that is drawn builds Hypothesis' tables, however fast the code under test."""

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"), ip_network("192.0.2.7/32"))
CLIENT = "203.0.113.9"


@pytest.mark.parametrize(
    ("peer", "header", "address", "unlisted"),
    [
        pytest.param(CLIENT, [], CLIENT, False, id="nobody between"),
        pytest.param(CLIENT, ["198.51.100.1"], CLIENT, True, id="an unlisted peer is not believed"),
        pytest.param(CLIENT, ["10.0.0.1"], CLIENT, True, id="even when it names a proxy of ours"),
        pytest.param("10.0.0.1", [], "10.0.0.1", False, id="a proxy for itself"),
        pytest.param("10.0.0.1", [CLIENT], CLIENT, False, id="one proxy"),
        pytest.param("10.0.0.1", [f"{CLIENT}, 10.0.0.2"], CLIENT, False, id="two proxies"),
        pytest.param("10.0.0.1", [CLIENT, "10.0.0.3, 10.0.0.2"], CLIENT, False, id="two headers"),
        pytest.param("10.0.0.1", [f"1.1.1.1, {CLIENT}"], CLIENT, True, id="a client that makes up an address"),
        pytest.param("10.0.0.1", ["1.1.1.1", CLIENT], CLIENT, True, id="made up in a header of its own"),
        pytest.param("10.0.0.1", [f"10.9.9.9, {CLIENT}"], CLIENT, True, id="a client that makes up a proxy"),
        pytest.param("10.0.0.1", [f"{CLIENT}, 192.0.2.8"], "192.0.2.8", True, id="a proxy that was not listed"),
        pytest.param("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3", False, id="proxies all the way"),
        pytest.param("10.0.0.1", ["unknown"], "10.0.0.1", False, id="unreadable"),
        pytest.param("10.0.0.1", [f"{CLIENT}, garbage, 10.0.0.2"], "10.0.0.2", False, id="unreadable in between"),
        pytest.param("10.0.0.1", [f"{CLIENT},"], "10.0.0.1", False, id="nothing after the comma"),
        pytest.param("10.0.0.1", [""], "10.0.0.1", False, id="empty"),
        pytest.param("10.0.0.1", [f" \t{CLIENT}\t "], CLIENT, False, id="white space"),
        pytest.param("10.0.0.1", [f"{CLIENT}:4711"], CLIENT, False, id="with a port"),
        pytest.param("10.0.0.1", ["[2001:db8::5]:4711"], "2001:db8::5", False, id="IPv6 with a port"),
        pytest.param("10.0.0.1", ["[2001:db8::5]"], "2001:db8::5", False, id="IPv6 in brackets"),
        pytest.param("10.0.0.1", ["2001:0DB8::0005"], "2001:db8::5", False, id="IPv6 in another spelling"),
        pytest.param("10.0.0.1", [f"::ffff:{CLIENT}"], CLIENT, False, id="IPv4 in IPv6"),
        pytest.param("::ffff:10.0.0.1", [CLIENT], CLIENT, False, id="a proxy, IPv4 in IPv6"),
        pytest.param("2001:db8:1::1", [CLIENT], CLIENT, False, id="a proxy, IPv6"),
        pytest.param("2001:db8:2::1", [CLIENT], "2001:db8:2::1", True, id="outside the network"),
        pytest.param("192.0.2.7", [CLIENT], CLIENT, False, id="a single address"),
        pytest.param("10.0.0.1", ["010.0.0.2"], "10.0.0.1", False, id="octal is no address"),
        pytest.param("10.0.0.1", ["2130706433"], "10.0.0.1", False, id="a plain number is no address"),
        pytest.param(None, [], "", False, id="no peer"),
        pytest.param(None, [CLIENT], "", True, id="no peer is not believed"),
        pytest.param("testclient", [CLIENT], "testclient", True, id="a peer without an address"),
    ],
)
def test_client_address(peer: str | None, header: list[str], address: str, unlisted: bool) -> None:  # noqa: FBT001
    """The nearest address that is no listed proxy, whatever stands left of it."""
    assert ClientAddress(address, unlisted) == client_address(peer, header, PROXIES)


def test_nobody_is_believed_without_a_list() -> None:
    """The header is off until somebody turns it on."""
    assert ClientAddress("127.0.0.1", unlisted_forwarder=True) == client_address("127.0.0.1", [CLIENT], ())


def test_a_chain_without_end_is_cut() -> None:
    """A header of 100,000 proxies costs as much as one of a few dozen."""
    found = client_address("10.0.0.1", [f"{CLIENT}," + ",".join(["10.0.0.2"] * 100_000)], PROXIES)

    assert ClientAddress("10.0.0.2", unlisted_forwarder=False) == found


@CALM
@given(made_up=st.lists(st.text(max_size=20) | st.sampled_from(["10.0.0.1", "1.1.1.1", ",", ""]), max_size=5))
def test_what_a_client_writes_does_not_change_its_address(made_up: list[str]) -> None:
    """The proxy appends what it saw, to the client's header or as its own."""
    appended = [*made_up[:-1], f"{made_up[-1]},{CLIENT}"] if made_up else [CLIENT]

    assert CLIENT == client_address("10.0.0.1", appended, PROXIES).address
    assert CLIENT == client_address("10.0.0.1", [*made_up, CLIENT], PROXIES).address


@CALM
@given(header=st.lists(st.text(max_size=30), max_size=4), peer=st.ip_addresses().map(str))
def test_no_header_raises_and_the_answer_is_an_address(header: list[str], peer: str) -> None:
    """Text of any kind ends in an address."""
    ip_address(client_address(peer, header, PROXIES).address)
    ip_address(client_address(peer, header, (ip_network("0.0.0.0/0"), ip_network("::/0"))).address)
