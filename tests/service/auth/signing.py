"""Keys and hand-made tokens for the tests of verification."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

SECRET = b"a secret of thirty-two bytes or more"
OTHER_SECRET = b"another secret, just as long as that"

HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


@dataclass(frozen=True)
class Pair:
    """A private key and the PEM of its public half."""

    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

    @property
    def public_pem(self) -> str:
        """What a verifier is configured with."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def private_pem(self) -> str:
        """What no verifier may be configured with."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def sign(self, algorithm: str, claims: dict[str, Any]) -> str:
        """Return a token of PyJWT's making."""
        return jwt.encode(claims, self.private, algorithm=algorithm)


def segment(data: bytes) -> str:
    """Return one part of a token."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(
    payload: bytes | dict[str, Any], *, secret: bytes = SECRET, header: bytes | dict[str, Any] | None = None
) -> str:
    """Return a token over any bytes at all, genuinely signed (HS256 unless the header names another HS)."""
    if header is None:
        header = {"alg": "HS256"}
    name = header.get("alg") if isinstance(header, dict) else None
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signing_input = f"{segment(head)}.{segment(body)}"
    hashed = HASHES.get(name, hashlib.sha256) if isinstance(name, str) else hashlib.sha256
    return f"{signing_input}.{segment(hmac.new(secret, signing_input.encode(), hashed).digest())}"
