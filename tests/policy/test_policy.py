"""Decisions by the real Cedar, over the real files of a project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from drystone.errors import DrystoneError, NotFound, PolicyError, Refused, SettingsError, UsageError
from drystone.policy import ACTIONS, Policy
from drystone.records import Classification, Label
from drystone.settings import defaults

PEOPLE = """
[[users]]
name = "olga"
groups = ["owners"]
[[users]]
name = "audrey"
groups = ["auditors"]
[[users]]
name = "bo"
groups = ["staff"]
clearance = "internal"
purposes = ["general", "support"]
[[users]]
name = "ann"
groups = ["hr"]
clearance = "confidential"
"""
DAY = 1_800_000_000_000


def opened(folder: Path, **policies: str) -> Policy:
    (folder / "users.toml").write_text(PEOPLE)
    if policies:
        (folder / "policies").mkdir()
        for name, text in policies.items():
            (folder / "policies" / f"{name}.cedar").write_text(text)
    return Policy.open(folder, settings=defaults(folder))


def allowed(policy: Policy, name: str, **more: Any) -> set[str]:
    actor = policy.actor(name)
    return {action for action in ACTIONS if policy.decide(actor, action, **more)}


def test_who_may_do_what_without_a_policy_of_ones_own(tmp_path: Path) -> None:
    policy = opened(tmp_path)
    assert allowed(policy, "olga") == set(ACTIONS)
    assert allowed(policy, "audrey") == {"ask", "search", "audit", "passport_audit", "read_passport"}
    assert allowed(policy, "bo") == {"ask", "search"}
    assert allowed(policy, "bo", owner="group:staff") == {"ask", "search", "ingest", "relabel", "read_passport"}
    assert allowed(policy, "bo", owner="bo") == allowed(policy, "bo", owner="group:staff")
    assert allowed(policy, "bo", owner="group:hr") == {"ask", "search"}
    assert allowed(policy, "bo", purpose="research") == set(), "outside the purposes of a person nothing is asked"
    assert allowed(policy, "ann", purpose="research") == {"ask", "search"}


@pytest.mark.parametrize("owner", ["mallory", "everyone", "group:owners"])
def test_a_stranger_may_do_nothing(tmp_path: Path, owner: str) -> None:
    policy = opened(tmp_path, wide="permit (principal, action, resource);")
    assert allowed(policy, "mallory", owner=owner) == set()
    assert policy.decide(policy.actor("mallory"), "ask").policies == ("builtin:unknown",)


def test_a_decision_names_what_determined_it(tmp_path: Path) -> None:
    rules = """
@id("no-research-for-contractors")
forbid (principal in Group::"staff", action == Action::"search", resource) when { context.purpose == "support" };
permit (principal == User::"bo", action == Action::"audit", resource);
"""
    policy = opened(tmp_path, house=rules)
    bo = policy.actor("bo")
    refused = policy.decide(bo, "search", purpose="support")
    assert not refused and refused.policies == ("no-research-for-contractors",)
    assert policy.decide(bo, "audit").policies == ("house.cedar#2",)
    assert policy.decide(bo, "ask").policies == ("builtin:use",)
    none = policy.decide(bo, "administer")
    assert none.policies == () and none.reason == "no policy permits it"
    assert refused.policy_set == policy.digest and policy.digest.startswith("sha256:")
    assert opened(_made(tmp_path / "other")).digest != policy.digest


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_forbid_wins_over_owners(tmp_path: Path) -> None:
    policy = opened(tmp_path, a='forbid (principal, action == Action::"declassify", resource);')
    assert allowed(policy, "olga") == set(ACTIONS) - {"declassify"}


def test_a_policy_that_cannot_be_evaluated_denies(tmp_path: Path) -> None:
    rules = "permit (principal, action, resource) when { 9223372036854775807 + principal.clearance > 0 };"
    policy = opened(tmp_path, overflow=rules)
    decision = policy.decide(policy.actor("bo"), "ask")
    assert not decision and decision.reason == "a policy could not be evaluated"
    assert policy.decide(policy.actor("olga"), "ask"), "public is 0: no overflow, so no error"


OF_DOCUMENTS = [
    'permit (principal, action, resource == Document::"handbook:pay.md");',
    'permit (principal, action, resource in Folder::"hr");',
    'permit (principal, action, resource) when { resource.path like "hr/*" };',
    'forbid (principal, action == Action::"ask", resource) when { context.document == "x" };',
    'permit (principal, action, resource) when { resource has title && resource.title == "x" };',
    "permit (principal, action, resource is Chunk);",
    'forbid (principal, action, resource) when { resource has path && resource.path like "hr/*" };',
    "forbid (principal, action, resource) when { context has document };",
]
BROKEN = [
    "permit (principal", "permit (principal, action, resource) when { principal.salary > 3 };", "",
    "// nothing", 'permit (principal, action == Action::"fly", resource);',
    'permit (principal == ?principal, action, resource);',
    '@id("x") permit (principal, action, resource); @id("x") forbid (principal, action, resource);',
    '@id("builtin:use") permit (principal, action, resource);',
    'permit (principal, action, resource) when { principal.name > 3 };',
    'forbid (principal, action, resource == Project::"shop");',
    "forbid (principal, action, resource) unless { principal has badge };",
]  # fmt: skip


@pytest.mark.parametrize("text", OF_DOCUMENTS)
def test_a_policy_about_documents_is_sent_to_labels(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyError, match="labels") as caught:
        opened(tmp_path, mine=text)
    assert "mine.cedar" in str(caught.value)


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_policy_is_refused_and_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyError, match=r"mine\.cedar"):
        opened(tmp_path, mine=text)


@pytest.mark.parametrize("data", [b"permit (principal, action, resource); \xff"])
def test_policies_are_text(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "mine.cedar").write_bytes(data)
    with pytest.raises(PolicyError, match="UTF-8"):
        opened(tmp_path)


def test_ids_of_two_files_may_not_meet(tmp_path: Path) -> None:
    one = '@id("x") permit (principal, action == Action::"audit", resource);'
    with pytest.raises(PolicyError, match="taken"):
        opened(tmp_path, a=one, b=one)


# -- who asks ------------------------------------------------------------------------------------------
def test_how_the_actor_is_chosen(tmp_path: Path) -> None:
    policy = opened(tmp_path)
    environ = {"DRYSTONE_ACTOR": "ann", "LOGNAME": "olga", "USER": "olga"}
    assert policy.actor("bo", environ=environ).name == policy.actor("user:bo", environ=environ).name == "bo"
    assert policy.actor(None, environ=environ).name == "ann"
    system = policy.actor(None, environ={"LOGNAME": "olga", "USER": "olga", "DRYSTONE_ACTOR": ""})
    assert system.proven == f"asserted by {system.name}", "the system's user is who runs, not what LOGNAME says"
    assert policy.actor("bo", environ=environ).proven == system.proven
    for wrong in ("", " ", "group:owners", "everyone:", "a\nb", " bo"):
        with pytest.raises(UsageError):
            policy.actor(wrong)


def test_everyone_is_nobodys_name(tmp_path: Path) -> None:
    policy = opened(tmp_path)
    assert not policy.actor("everyone").known
    with pytest.raises(UsageError, match="no action"):
        policy.decide(policy.actor("bo"), "fly")


def test_require_raises_without_naming_policies(tmp_path: Path) -> None:
    policy = opened(tmp_path, secret='@id("merger") forbid (principal, action == Action::"search", resource);')
    with pytest.raises(Refused) as caught:
        policy.require(policy.actor("bo"), "search")
    assert caught.value.reason == "policy" and "merger" not in str(caught.value)
    assert policy.require(policy.actor("bo"), "ask")


# -- change --------------------------------------------------------------------------------------------
def test_a_change_counts_at_once(tmp_path: Path) -> None:
    policy = opened(tmp_path)
    bo, digest = policy.actor("bo"), policy.digest
    assert not policy.refresh()
    (tmp_path / "users.toml").write_text(PEOPLE.replace('["staff"]', '["hr"]'))
    assert policy.refresh() and policy.renew(bo).groups == ("hr",) and policy.digest == digest
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "a.cedar").write_text('forbid (principal, action == Action::"ask", resource);')
    assert policy.refresh() and not policy.decide(bo, "ask") and policy.digest != digest
    (tmp_path / "policies" / "a.cedar").unlink()
    assert policy.refresh() and policy.decide(bo, "ask") and policy.digest == digest
    (tmp_path / "users.toml").unlink()
    assert not policy.actor("bo").known, "without users.toml nobody is known"


def test_an_edit_of_equal_size_and_time_is_seen(tmp_path: Path) -> None:
    policy = opened(tmp_path)
    path = tmp_path / "users.toml"
    before = path.stat()
    path.write_text(PEOPLE.replace('["staff"]', '["stuff"]'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert policy.refresh() and policy.actor("bo").groups == ("stuff",)


@pytest.mark.parametrize(
    ("file", "text", "error"),
    [
        ("users.toml", "[[users", SettingsError),
        ("users.toml", PEOPLE + "[[users]]\nname = 'bo'\n", SettingsError),
        ("policies/a.cedar", "permit (", PolicyError),
        ("policies/a.cedar", "", PolicyError),
    ],
)
def test_a_broken_edit_opens_nothing_until_it_is_mended(
    tmp_path: Path, file: str, text: str, error: type[DrystoneError]
) -> None:
    policy = opened(tmp_path, a='forbid (principal, action == Action::"search", resource);')
    bo, good = policy.actor("bo"), (tmp_path / file).read_text()
    (tmp_path / file).write_text(text)
    for use in (
        policy.refresh, policy.refresh, lambda: policy.actor("bo"), lambda: policy.renew(bo),
        lambda: policy.decide(bo, "ask"), lambda: policy.require(bo, "ask"), lambda: policy.digest,
    ):  # fmt: skip
        with pytest.raises(error):
            use()
    (tmp_path / file).write_text(good)
    assert policy.refresh() and policy.decide(bo, "ask") and not policy.decide(bo, "search")


def test_settled_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = opened(tmp_path)
    monkeypatch.setattr("drystone.policy.time.time_ns", lambda: 2**62)
    assert not policy.refresh()  # read once more, and from now on trusted
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("read again"))
    assert not policy.refresh()


def test_an_unreadable_folder_opens_nothing(tmp_path: Path) -> None:
    policy = opened(tmp_path, a='forbid (principal, action == Action::"ask", resource);')
    (tmp_path / "policies").rename(tmp_path / "kept")
    (tmp_path / "policies").write_text("a file where the folder should be")
    with pytest.raises(PolicyError):
        policy.refresh()
    with pytest.raises(PolicyError):
        policy.decide(policy._state.directory.actor("bo", region="local", proven="test"), "ask")


# -- why -----------------------------------------------------------------------------------------------
PAY = Label.parse({
    "readers": [["group:hr"], ["group:owners", "ann"]], "classification": "confidential", "regions": ["local"],
    "purposes": ["general"], "expires": DAY + 1,
})  # fmt: skip


def explain(policy: Policy, asker: str, about: str, label: Label | None, **more: Any) -> dict[str, Any]:
    return policy.why(policy.actor(asker), policy.actor(about), label, document="hr:pay.md", origin="rule 1", at=DAY,
                      **more)  # fmt: skip


def test_why_says_each_clause(tmp_path: Path) -> None:
    policy = opened(tmp_path)
    said = explain(policy, "ann", "ann", PAY)
    assert said["allowed"] and all(part["holds"] for part in said["parts"]) and len(said["parts"]) == 6
    assert said["parts"][0] == {"part": "readers", "needs": ["group:hr"], "has": ["group:hr"], "holds": True}
    said = explain(policy, "audrey", "bo", PAY)
    assert not said["allowed"] and said["decided_by"] == "classification"
    assert [part["holds"] for part in said["parts"]] == [False, False, False, True, True, True]
    assert {a["action"]: a["result"] for a in said["actions"]}["ask"] == "allow"
    said = explain(policy, "audrey", "bo", PAY, purpose="research")
    assert [part["part"] for part in said["parts"] if not part["holds"]][-1] == "purposes"


def test_why_of_somebody_hypothetical(tmp_path: Path) -> None:
    policy = opened(tmp_path)
    public = Label.parse({"readers": ["everyone"], "classification": "public"})
    said = explain(policy, "olga", "mallory", public)
    assert not said["allowed"] and not said["known"] and said["decided_by"] == "action"
    assert all(action["policies"] == ["builtin:unknown"] for action in said["actions"])


@pytest.mark.parametrize(("asker", "about"), [("bo", "bo"), ("bo", "ann"), ("ann", "bo"), ("mallory", "mallory")])
def test_who_may_not_know_hears_what_one_hears_of_nothing(tmp_path: Path, asker: str, about: str) -> None:
    policy = opened(tmp_path)
    with pytest.raises(NotFound) as forbidden:
        explain(policy, asker, about, PAY)
    with pytest.raises(NotFound) as absent:
        explain(policy, asker, about, None)
    assert forbidden.value.to_dict() == absent.value.to_dict()


def test_an_endpoint_serves_its_purposes(tmp_path: Path) -> None:
    policy = opened(tmp_path)
    ends = ("cluster", Classification.public, frozenset({"eu"}), frozenset({"care"}))
    public = Label.parse({"readers": ["group:hr"], "classification": "public"})
    assert public.flows_to(policy.processor(*ends, "care"), DAY)
    assert public.flows_to(policy.processor(*ends, "ads"), DAY).part == "purposes"
