"""Who people are: ``users.toml`` with its users and nested groups.

Guarantees: an unknown key, an unknown group, a duplicate or a circle of groups is an error that names
the file and the key; a user's ``groups`` and a group's ``members`` both count; who is not named there
is unknown and has nothing but their own name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from drystone.errors import FormatError, LabelError, SettingsError
from drystone.records import EVERYONE, Actor, Classification, principal

FILE = "users.toml"
FORMAT = 1
BUILT_IN_GROUPS = ("owners", "auditors")
_KEYS = {"users": {"name", "groups", "clearance", "region", "purposes"}, "groups": {"name", "members"}}


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: frozenset[str]  # direct, without "group:"
    clearance: Classification = Classification.public
    region: str | None = None  # None: the project's
    purposes: frozenset[str] | None = None  # None: any


@dataclass(frozen=True, slots=True)
class Directory:
    """Everyone whom ``users.toml`` names. ``above``: for each group, itself and every group that holds it.

    ``keeper``: the system's user to whom the project's folder belongs, where ``users.toml`` makes nobody an owner.
    Acting themselves they are one: they could write themselves in.
    """

    users: Mapping[str, User]
    above: Mapping[str, frozenset[str]]
    keeper: str | None = None

    def actor(self, name: str, *, region: str, proven: str) -> Actor:
        user = self.users.get(name)
        groups = {g for direct in user.groups for g in self.above[direct]} if user else set()
        keeps = name == self.keeper and proven == f"asserted by {name}"
        if keeps:
            groups |= self.above["owners"]
        return Actor(
            name=name,
            principals=frozenset({f"user:{name}", EVERYONE, *(f"group:{g}" for g in groups)}),
            clearance=user.clearance if user else Classification.public,
            region=user.region or region if user else region,
            purposes=user.purposes if user else None,
            proven=proven,
            known=user is not None or keeps,
        )


def read(data: bytes, keeper: str | None = None) -> Directory:
    """Parse the bytes of ``users.toml``. ``keeper``: whose folder it is. Raises ``SettingsError`` naming the key."""
    try:
        raw = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise SettingsError(f"{FILE} is not UTF-8.", todo="Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{FILE} is not valid TOML: {error}.") from None
    if raw.pop("format", FORMAT) != FORMAT:
        raise FormatError(f"{FILE} has a format that this release does not know.", todo="Install a newer release.")
    if unknown := set(raw) - set(_KEYS):
        raise _bad(", ".join(sorted(unknown)), "is not known; there are [[users]] and [[groups]]")
    users = _blocks(raw, "users")
    groups = _blocks(raw, "groups")

    joined: dict[str, set[str]] = {name: set() for name in users}  # user -> groups, from either side
    inside: dict[str, set[str]] = {name: set() for name in (*BUILT_IN_GROUPS, *groups)}  # group -> groups holding it
    for name, block in users.items():
        for group in _names(block, "groups", f"users.{name}"):
            joined[name].add(_group(group, f"users.{name}.groups"))
            inside.setdefault(group.removeprefix("group:"), set())  # naming it here declares it
    for name, block in groups.items():
        where = f"groups.{name}.members"
        for member in _names(block, "members", f"groups.{name}"):
            kind, _, rest = _principal(member, where).partition(":")
            if kind == "group":
                inside.setdefault(rest, set()).add(name)  # a group that nobody is in yet gives nobody anything
            elif kind == "user":
                joined.setdefault(rest, set()).add(name)  # a member without a block: public clearance
            else:
                raise _bad(where, f"has {member!r}", 'Write a user\'s name or "group:NAME".')
    try:
        order = list(TopologicalSorter(inside).static_order())  # outer groups first
    except CycleError as error:
        raise _bad("groups", f"go in a circle: {' in '.join(error.args[1])}", "Take one membership out.") from None
    above: dict[str, frozenset[str]] = {}
    for group in order:
        above[group] = frozenset({group}).union(*(above[outer] for outer in inside[group]))
    everyone = {name: _user(name, users.get(name, {}), joined[name]) for name in joined}
    owned = any("owners" in above[group] for user in everyone.values() for group in user.groups)
    return Directory(everyone, above, None if owned else keeper)


def _blocks(raw: Mapping[str, Any], kind: str) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    blocks = raw.get(kind, [])
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise _bad(kind, "is not a list of tables", f"Write [[{kind}]].")
    for block in blocks:
        name = block.get("name")
        if not isinstance(name, str) or not name or name != name.strip() or ":" in name or not name.isprintable():
            raise _bad(f"{kind}.name", f"is {name!r}", 'Give every block a name without ":".')
        if name == EVERYONE:
            raise _bad(f"{kind}.name", f"is {name!r}, which means all people", "Choose another name.")
        if name in found:
            raise _bad(f"{kind}.{name}", "is there twice", "Merge the two blocks.")
        if unknown := set(block) - _KEYS[kind]:
            known = ", ".join(sorted(_KEYS[kind]))
            raise _bad(f"{kind}.{name}.{min(unknown)}", "is not known", f"We know: {known}.")
        found[name] = block
    return found


def _names(block: Mapping[str, Any], key: str, where: str) -> Iterable[str]:
    names = block.get(key, [])
    if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() == n != "" for n in names):
        raise _bad(f"{where}.{key}", "is not a list of names")
    if len(set(names)) < len(names):
        raise _bad(f"{where}.{key}", "names somebody twice", "Remove one.")
    return names


def _principal(name: str, where: str) -> str:
    try:
        return principal(name)
    except LabelError as error:
        raise _bad(where, f"has {name!r}", error.todo) from None


def _group(name: str, where: str) -> str:
    bare = name.removeprefix("group:")
    if not bare or ":" in bare or bare == EVERYONE:
        raise _bad(where, f"has {name!r}", 'Write a group\'s name, or "group:NAME".')
    return bare


def _user(name: str, block: Mapping[str, Any], groups: Iterable[str]) -> User:
    where = f"users.{name}"
    try:
        clearance = Classification.parse(block.get("clearance", "public"))
    except LabelError as error:
        raise _bad(f"{where}.clearance", f"is {block['clearance']!r}", error.todo) from None
    region = block.get("region")
    if region is not None and (not isinstance(region, str) or not region.strip()):
        raise _bad(f"{where}.region", f"is {region!r}", "Name one region, or leave it out for the project's.")
    purposes = frozenset(_names(block, "purposes", where)) if "purposes" in block else None
    if purposes == frozenset():
        raise _bad(f"{where}.purposes", "is empty", "Name at least one, or leave it out for any.")
    return User(name, frozenset(groups), clearance, region, purposes)


def _bad(key: str, what: str, todo: str = "") -> SettingsError:
    return SettingsError(f"{FILE}: {key} {what}.", todo=todo)
