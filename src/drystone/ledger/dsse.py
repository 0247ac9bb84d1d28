"""Signed statements: the envelope of in-toto (DSSE, secure-systems-lab/dsse, protocol.md) with Ed25519."""

from __future__ import annotations

PAYLOAD = "application/vnd.in-toto+json"


def pae(kind: str, body: bytes) -> bytes:
    """The pre-authentication encoding: what is signed, so that bytes of one type cannot pose as another."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)


def signed_by(public: bytes, statement: bytes, signature: bytes) -> bool:
    """Whether the key (32 bytes) signed the statement's bytes."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, pae(PAYLOAD, statement))
    except InvalidSignature:
        return False
    return True
