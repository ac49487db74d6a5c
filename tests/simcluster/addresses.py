"""Loopback addresses of one cluster: every pod and every Service has one of its own."""

from __future__ import annotations

import os
import socket
from itertools import count
from pathlib import Path

__all__ = ("Addresses", "listening_port")

_CLAIM_PORT = 20_254
_FIRST_POD, _LAST_POD = 1, 199
_FIRST_SERVICE, _LAST_SERVICE = 200, 249
_FIRST_NET, _NETS = 16, 200
_counter = count(os.getpid())
_MOVED_PORTS = 20_000
_FIRST_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def listening_port(port: int) -> int:
    """Return where a port of a Service listens: a low one is moved up for a user who may not open it."""
    first = int(_FIRST_PORT.read_text()) if _FIRST_PORT.exists() else 1024
    return port if port >= first or os.geteuid() == 0 else port + _MOVED_PORTS


class Addresses:
    """A part of 127.0.0.0/8 that no other cluster on this machine uses.

    A socket that nobody connects to holds the claim. Linux routes all of 127/8 to loopback; elsewhere the addresses
    would have to be added to the interface first.
    """

    def __init__(self) -> None:
        self._claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._net = self._claimed()
        self._pods: set[str] = set()
        self._next_pod = _FIRST_POD
        self._next_service = _FIRST_SERVICE

    def _claimed(self) -> str:
        for number in _counter:
            net = f"127.{_FIRST_NET + number // 250 % _NETS}.{number % 250}"
            try:
                self._claim.bind((f"{net}.254", _CLAIM_PORT))
            except OSError:
                continue
            return net
        raise AssertionError

    def close(self) -> None:
        """Give the claim up."""
        self._claim.close()

    def take_pod(self) -> str:
        """Return an address that no pod has, the one longest out of use."""
        for _ in range(_LAST_POD):
            address = f"{self._net}.{self._next_pod}"
            self._next_pod = self._next_pod + 1 if self._next_pod < _LAST_POD else _FIRST_POD
            if address not in self._pods:
                self._pods.add(address)
                return address
        raise RuntimeError("no address is left for a pod")

    def give_back(self, address: str) -> None:
        """Let another pod have it."""
        self._pods.discard(address)

    def take_service(self) -> str:
        """Return an address for a Service."""
        if self._next_service > _LAST_SERVICE:
            raise RuntimeError("no address is left for a service")
        self._next_service += 1
        return f"{self._net}.{self._next_service - 1}"
