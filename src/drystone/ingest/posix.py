"""File permissions as readers: what the mode and the ACL of a file and of the folders above it say.

The mapping: the owner is ``user:NAME`` if the owner may read, the group ``group:NAME`` if the group may, everyone is
``everyone`` if others may; an ACL's named users and groups are added, under its mask. Each folder from the source's
own down to the file adds a clause of who may pass it. An id without a name is ``user:#1004`` / ``group:#1004``.

Guarantees: never wider than the system. POSIX asks the most specific class first, so somebody can be denied by name
or group although others may read; a list of readers cannot say "everyone but". There the wider entries are left out:
others count only if the group and every entry of the ACL may read too, and groups only if no user is denied by name.
The superuser's power to read everything is not a permission.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import struct
from functools import lru_cache

ACL = "system.posix_acl_access"
READ, PASS = 4, 1
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


def acl(path: str) -> bytes:
    """The raw ACL, or ``b""`` where there is none (or the file system knows none)."""
    if not hasattr(os, "getxattr"):
        return b""
    try:
        return os.getxattr(path, ACL, follow_symlinks=True)
    except OSError as error:
        return b"" if error.errno in (errno.ENODATA, errno.ENOTSUP) else b"?"  # it may have one: admits nobody


@lru_cache(maxsize=65536)
def principals(mode: int, uid: int, gid: int, raw: bytes, right: int) -> frozenset[str]:
    """Whom one file or folder admits; empty: nobody. ``right`` is ``READ`` or ``PASS``."""
    users, groups = [(uid, mode >> 6)], [(gid, mode >> 3)]
    others, mask = mode, 7
    named: list[tuple[int, int]] = []
    if raw:
        if len(raw) < 4 or (len(raw) - 4) % 8 or struct.unpack_from("<I", raw)[0] != 2:
            return frozenset()  # not the format that we know: admits nobody
        for tag, bits, number in struct.iter_unpack("<HHI", raw[4:]):
            if tag == _USER_OBJ:
                users = [(uid, bits)]
            elif tag == _USER:
                named.append((number, bits))
            elif tag == _GROUP_OBJ:
                groups[0] = (gid, bits)
            elif tag == _GROUP:
                groups.append((number, bits))
            elif tag == _MASK:
                mask = bits
            elif tag == _OTHER:
                others = bits
    named = [(number, bits & mask) for number, bits in named]
    groups = [(number, bits & mask) for number, bits in groups]
    denied_user = any(not bits & right for number, bits in named if number != uid)
    denied_group = any(not bits & right for _, bits in groups)
    found = {user(number) for number, bits in users + named if bits & right}
    if not denied_user:
        found |= {group(number) for number, bits in groups if bits & right}
        if others & right and not denied_group:
            found.add("everyone")
    return frozenset(found)


@lru_cache(maxsize=4096)
def user(uid: int) -> str:
    try:
        return f"user:{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user:#{uid}"


@lru_cache(maxsize=4096)
def group(gid: int) -> str:
    try:
        return f"group:{grp.getgrgid(gid).gr_name}"
    except KeyError:
        return f"group:#{gid}"


def forget_names() -> None:
    """Names may have changed since the last listing."""
    for cached in (principals, user, group):
        cached.cache_clear()
