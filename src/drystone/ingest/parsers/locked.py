"""Office files under a password, Office Open XML and binary, opened with those that a source was given.

Guarantees: the passwords are tried in order; none given is ``encrypted``, none that fits ``wrong_password``. What
Excel locks against changes only, with a password that everybody knows, is opened without one.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from drystone.errors import ParseFailed

LOCKED = "It is encrypted; say where its password lies: passwords of the source, or quarantine retry --password."
UNFITTING = "It is encrypted, and none of the passwords that are named opens it."
_STANDARD = "VelvetSweatshop"  # Excel's own, for workbooks that are only locked against changes


def opened(data: bytes, passwords: Sequence[str]) -> bytes:
    """The document without its encryption. ``ParseFailed``: ``encrypted``, ``wrong_password``, ``malformed``."""
    import msoffcrypto
    from msoffcrypto.exceptions import DecryptionError, InvalidKeyError

    try:
        file = msoffcrypto.OfficeFile(io.BytesIO(data))
        encrypted = file.is_encrypted()
    except MemoryError:
        raise
    except Exception:  # whatever a damaged header does to the library; so below
        encrypted = False
    if not encrypted:
        raise ParseFailed("It is damaged, or no document of its kind.", kind="malformed")
    try:
        checked = {"verify_password": True} if file.format == "ooxml" else {}  # the others always do
        for password in (*passwords, _STANDARD):
            out = io.BytesIO()
            try:
                file.load_key(password=password, **checked)
                file.decrypt(out)
            except (InvalidKeyError, DecryptionError, AssertionError):
                continue
            if out.getvalue():
                return out.getvalue()
    except MemoryError:
        raise
    except Exception as error:
        raise ParseFailed("It is encrypted, and damaged or in a way that we do not know.", kind="encrypted") from error
    if not passwords:
        raise ParseFailed(LOCKED, kind="encrypted")
    raise ParseFailed(UNFITTING, kind="wrong_password")
