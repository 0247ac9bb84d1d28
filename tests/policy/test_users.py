"""users.toml: who is who, and every way to write it wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone.errors import FormatError, SettingsError
from drystone.policy import Policy, system_user
from drystone.policy.users import read
from drystone.records import Actor, Classification
from drystone.settings import defaults

GOOD = b"""
format = 1
[[users]]
name = "bo"
groups = ["staff"]
clearance = "internal"
region = "eu"
purposes = ["general", "support"]
[[users]]
name = "ann"
groups = ["group:engineering"]
[[groups]]
name = "staff"
members = ["group:engineering", "cy"]
[[groups]]
name = "everybody-here"
members = ["group:staff", "user:dee"]
"""


def actor(data: bytes, name: str) -> Actor:
    return read(data).actor(name, region="home", proven="test")


def test_groups_count_from_both_sides_and_through_nesting() -> None:
    assert actor(GOOD, "bo").groups == ("everybody-here", "staff")
    assert actor(GOOD, "ann").groups == ("engineering", "everybody-here", "staff")
    assert actor(GOOD, "cy").groups == ("everybody-here", "staff")
    assert actor(GOOD, "dee").groups == ("everybody-here",)


def test_what_is_absent() -> None:
    ann, bo = actor(GOOD, "ann"), actor(GOOD, "bo")
    assert (ann.clearance, ann.region, ann.purposes) == (Classification.public, "home", None)
    assert (bo.clearance, bo.region, bo.purposes) == (Classification.internal, "eu", {"general", "support"})
    assert actor(GOOD, "cy").known, "a member without a block is known, with public clearance"


def test_a_stranger_has_only_themselves() -> None:
    stranger = actor(GOOD, "mallory")
    assert stranger.principals == {"user:mallory", "everyone"} and not stranger.known
    assert stranger.clearance == Classification.public and not actor(b"", "bo").known


WRONG = {
    "[[users]]\nname = 'bo'\nclearence = 'internal'": "users.bo.clearence",
    "[[groups]]\nname = 'g'\nmember = []": "groups.g.member",
    "[[user]]\nname = 'bo'": "user",
    "[users]\nname = 'bo'": "users",
    "[[users]]\nname = 'bo'\n[[users]]\nname = 'bo'": "users.bo is there twice",
    "[[groups]]\nname = 'g'\n[[groups]]\nname = 'g'": "groups.g is there twice",
    "[[users]]\nname = 'bo'\ngroups = ['a', 'a']": "users.bo.groups names somebody twice",
    "[[groups]]\nname = 'g'\nmembers = ['customer:1']": "groups.g.members",
    "[[groups]]\nname = 'g'\nmembers = ['everyone']": "groups.g.members",
    "[[groups]]\nname = 'g'\nmembers = ['group:']": "groups.g.members",
    "[[users]]\nname = 'bo'\ngroups = 'staff'": "users.bo.groups",
    "[[users]]\nname = 'bo'\ngroups = ['everyone']": "users.bo.groups",
    "[[users]]\nname = 'bo'\nclearance = 'top'": "users.bo.clearance",
    "[[users]]\nname = 'bo'\nregion = ['eu']": "users.bo.region",
    "[[users]]\nname = 'bo'\npurposes = []": "users.bo.purposes",
    "[[users]]\nname = 'bo'\npurposes = 'x'": "users.bo.purposes",
    "[[users]]\nname = 'user:bo'": "users.name",
    "[[users]]\nname = ' bo'": "users.name",
    "[[users]]\nname = 'everyone'": "users.name",
    "[[users]]\ngroups = []": "users.name",
    "not toml": "TOML",
}


@pytest.mark.parametrize("text", WRONG, ids=WRONG.values())
def test_what_is_wrong_is_named(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(text.encode())
    assert "users.toml" in str(caught.value) and WRONG[text] in str(caught.value)


def test_other_bytes() -> None:
    with pytest.raises(SettingsError, match="UTF-8"):
        read(b"\xff")
    with pytest.raises(FormatError):
        read(b"format = 2")


def test_a_circle_is_named() -> None:
    text = "".join(f"[[groups]]\nname = '{a}'\nmembers = ['group:{b}']\n" for a, b in ("ab", "bc", "ca"))
    with pytest.raises(SettingsError, match="circle: . in . in . in ."):
        read(text.encode())
    with pytest.raises(SettingsError, match="circle: a in a"):
        read(b"[[groups]]\nname = 'a'\nmembers = ['group:a']")


@given(st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda e: e[0] < e[1])), st.integers(0, 6))
def test_nesting_is_reachability(edges: set[tuple[int, int]], start: int) -> None:
    """Against a walk: group n holds group m for every edge (m, n)."""
    groups = "".join(
        f"[[groups]]\nname = 'g{n}'\nmembers = {[f'group:g{m}' for m, k in sorted(edges) if k == n]}\n"
        for n in range(7)
    )
    reached, todo = {start}, [start]
    while todo:
        one = todo.pop()
        new = {n for m, n in edges if m == one} - reached
        reached |= new
        todo += new
    found = actor(f"[[users]]\nname = 'bo'\ngroups = ['g{start}']\n{groups}".encode(), "bo").groups
    assert set(found) == {f"g{n}" for n in reached}


def test_a_group_that_nobody_is_in_yet_gives_nobody_anything(tmp_path: Path) -> None:
    """As in the documentation: a group may hold one that another file, or nobody yet, fills."""
    (tmp_path / "users.toml").write_text(
        "[[users]]\nname = 'bo'\ngroups = ['staff']\n[[groups]]\nname = 'staff'\nmembers = ['group:engineering', 'cy']\n"
    )
    policy = Policy.open(tmp_path, settings=defaults(tmp_path))
    assert "group:staff" in policy.actor("bo").principals & policy.actor("cy").principals
    assert "group:engineering" not in policy.actor("bo").principals


def test_where_nobody_is_an_owner_whoever_has_the_folder_is(tmp_path: Path) -> None:
    people = tmp_path / "users.toml"
    people.write_text("[[users]]\nname = 'bo'\ngroups = ['staff']\n")
    policy, me = Policy.open(tmp_path, settings=defaults(tmp_path)), system_user()
    keeper = policy.actor(None, environ={})
    assert keeper.name == me and keeper.known and policy.decide(keeper, "ingest", owner="group:hr-data")
    assert not policy.decide(policy.actor("bo"), "ingest") and not policy.actor("somebody").known
    people.write_text("[[users]]\nname = 'olga'\ngroups = ['owners']\n")
    assert not policy.actor(None, environ={}).known, "olga keeps it"


def test_a_name_alone_does_not_make_the_keeper() -> None:
    directory = read(b"", keeper="ann")
    assert directory.actor("ann", region="eu", proven="asserted by ann").known
    assert not directory.actor("ann", region="eu", proven="asserted by eve").known
    assert not directory.actor("eve", region="eu", proven="asserted by ann").known
