from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.service.auth.signing import Pair


@pytest.fixture(scope="session")
def rsa_key() -> Pair:
    """A real RSA key of the least size."""
    return Pair(rsa.generate_private_key(65_537, 2048))


@pytest.fixture(scope="session")
def ec_keys() -> dict[str, Pair]:
    """A real EC key for each algorithm."""
    return {
        "ES256": Pair(ec.generate_private_key(ec.SECP256R1())),
        "ES384": Pair(ec.generate_private_key(ec.SECP384R1())),
        "ES512": Pair(ec.generate_private_key(ec.SECP521R1())),
    }
