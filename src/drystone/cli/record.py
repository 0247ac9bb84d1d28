"""Commands that read the record: passport, reach, ledger."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from drystone.cli import FAILED, OK
from drystone.cli.output import emit, project
from drystone.errors import NotFound, ProofFailed
from drystone.project import check, predicate, public_key


def _bundle(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """A bundle from a file, or from the project's ledger."""
    if not options.ref.startswith("passport:"):
        return _file(Path(options.ref)), options.ref
    with project(options) as kb:
        view = kb.passport(
            options.ref, actor=options.actor or kb.actor(None).name, annex=getattr(options, "annex", False)
        )
        return view.to_dict(), view.ref


def _file(path: Path) -> dict[str, Any]:
    todo = "Name a passport (passport:...) or a file that `drystone passport show --json` wrote."
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise NotFound(f"There is no passport in {path}: {error.strerror}.", todo=todo) from None
    except (ValueError, RecursionError):
        raise ProofFailed(f"{path} is not JSON, so it is no passport.", todo=todo) from None
    if not isinstance(found, dict):
        raise ProofFailed(f"{path} holds no bundle, so it is no passport.", todo=todo)
    return found


def passport_show(options: argparse.Namespace) -> int:
    bundle, ref = _bundle(options)
    said = predicate(bundle)
    if options.json:
        print(json.dumps(bundle, ensure_ascii=False))
        return OK
    print(ref)
    print(json.dumps(said, indent=2, ensure_ascii=False))
    annex = bundle.get("annex")
    if isinstance(annex, dict) and "opened" in annex:
        print("annex:", json.dumps(json.loads(annex["opened"]), indent=2, ensure_ascii=False))
    return OK


def passport_verify(options: argparse.Namespace) -> int:
    bundle, ref = _bundle(options)
    if options.key:
        try:
            key = Path(options.key).read_bytes()
        except OSError as error:
            raise NotFound(
                f"There is no key in {options.key}: {error.strerror}.", todo="Name one of .drystone/keys/*.pub."
            ) from None
    else:
        with project(options) as kb:
            key = public_key(kb.settings.state)
    said = check(bundle, key, ref)
    emit(options, {"valid": True, "passport": ref, "said": list(said)}, f"{ref}: valid", *("  " + s for s in said))
    return OK


def passport_replay(options: argparse.Namespace) -> int:
    with project(options) as kb:
        found = kb.replay(options.ref, actor=options.actor)
        emit(options, found.to_dict(), *found.lines())
        return OK if found.equal else FAILED


def reach(options: argparse.Namespace) -> int:
    with project(options) as kb:
        nodes = kb.reach(options.ref, actor=options.actor)
        document = {"ref": options.ref, "made": [node.to_dict() for node in nodes]}
        emit(options, document, *(f"{node.kind:<10} {node.ref}" for node in nodes), f"{len(nodes)} things")
        return OK


def ledger_verify(options: argparse.Namespace) -> int:
    with project(options) as kb:
        report = kb.house.ledger.verify([Path(p) for p in options.against])
        emit(options, report.to_dict(), *report.lines())
        return OK if report.valid else FAILED


def ledger_checkpoint(options: argparse.Namespace) -> int:
    with project(options) as kb:
        note = kb.house.ledger.checkpoint()
        emit(options, {"checkpoint": note}, note.rstrip("\n"))
        return OK


def ledger_export(options: argparse.Namespace) -> int:
    with project(options) as kb:
        kb.house.policy.require(kb.actor(options.actor), "audit")
        count = 0
        for event in kb.house.ledger.export(options.after):
            print(json.dumps(event, ensure_ascii=False))
            count += 1
        emit(options, {"events": count, "after": options.after})
        return OK
