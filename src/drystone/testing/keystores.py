"""What every key store must hold."""

from __future__ import annotations

import os

from drystone.ports import KeyStore


def check_keystore(store: KeyStore) -> None:
    """Keys come back only in their context and unharmed; raises ``AssertionError``."""
    key = os.urandom(32)
    wrapped = store.wrap(key, context=b"a")
    assert key not in wrapped, "a wrapped key does not show the key"
    assert store.wrap(key, context=b"a") != wrapped, "wrapping is randomised"
    assert store.unwrap(wrapped, context=b"a") == key, "what was wrapped comes back"
    for bad, context in ((wrapped, b"b"), (wrapped[:-1] + bytes([wrapped[-1] ^ 1]), b"a"), (b"", b"a")):
        try:
            store.unwrap(bad, context=context)
        except Exception:  # any refusal is right; only success is wrong
            continue
        raise AssertionError("another context or changed bytes are refused")
