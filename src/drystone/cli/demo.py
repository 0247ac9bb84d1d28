"""``drystone demo`` and ``drystone init``: from nothing to the first cited answer."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from drystone.cli import FAILED, OK
from drystone.cli.knowledge import answer_lines, report_lines
from drystone.cli.output import Bar, emit
from drystone.errors import UsageError
from drystone.policy import system_user
from drystone.project import open as open_project
from drystone.settings import FILE

QUESTIONS = (  # who, what; the third is refused: bo may not read what answers it
    ("bo", "How many days do customers have to return an item?"),
    ("ann", "What is the salary band for a senior engineer?"),
    ("bo", "What is the salary band for a senior engineer?"),
)


def demo(options: argparse.Namespace) -> int:
    folder = Path(options.dir)
    if not (folder / FILE).exists():
        _template("sample", folder)
        print(f"made the sample project in {folder}")
    answers: list[dict[str, Any]] = []
    with open_project(folder, progress=Bar()) as kb:
        started = time.perf_counter()
        report = kb.ingest(actor="olga")
        print(f"ingested in {time.perf_counter() - started:.1f} s")
        for line in report_lines(report):
            print("  " + line)
        for who, question in QUESTIONS:
            answer = kb.ask(question, actor=who)
            print(f"\n{who} asks: {question}")
            for line in answer_lines(answer):
                print("  " + line)
            said = kb.passport(answer).verify()
            print(f"  passport verified: {len(said)} checks hold")
            answers.append({"actor": who, "question": question, "answer": answer.to_dict()})
    ok = [a["answer"]["refused"] for a in answers] == [False, False, True]
    emit(
        options,
        {"project": str(folder), "report": report.to_dict(), "answers": answers},
        "",
        f'Go on with: drystone ask "May I work from another country?" --as bo --project {folder}',
    )
    if not ok:
        print("The demo did not go as it should: the first two answers are given and the third is refused.")
    return OK if ok else FAILED


def init(options: argparse.Namespace) -> int:
    """A new project over a folder. What is there stays as it is; one rule gives it to you alone."""
    folder = Path(options.dir)
    if (folder / FILE).exists():
        raise UsageError(
            f"{folder} is a project already.",
            looked=f"We found {folder / FILE}.",
            todo=f"Go on with drystone ingest --project {folder}, or name another folder.",
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.", todo="Name the folder that holds the documents, or a new one.")
    if options.template:
        _template(options.template, folder)
        emit(options, {"project": str(folder)}, f"made a project from the template {options.template} in {folder}")
        return OK
    folder.mkdir(parents=True, exist_ok=True)
    user = system_user()
    documents = "documents"
    if any(p for p in folder.iterdir() if not p.name.startswith(".")) and not (folder / documents).exists():
        documents = "."  # the folder itself holds the documents
    else:
        (folder / documents).mkdir(exist_ok=True)
    name = re.sub(r"[^a-z0-9-]+", "-", folder.resolve().name.lower()).strip("-") or "project"
    (folder / FILE).write_text(
        _PROJECT.format(name=name, documents=documents, reader=json.dumps(f"user:{user}")), encoding="utf-8"
    )
    people = folder / "users.toml"
    if not people.exists():
        people.write_text(_PEOPLE.format(user=json.dumps(user)), encoding="utf-8")
    emit(
        options,
        {"project": str(folder), "documents": documents, "owner": user},
        f"made a project in {folder}; its documents are in {folder / documents} and only {user} may read them",
        f"next: drystone ingest --project {folder}",
    )
    return OK


def _template(name: str, folder: Path) -> None:
    origin = files("drystone.cli") / "templates" / name
    if not re.fullmatch(r"[a-z0-9_-]+", name) or not origin.is_dir():
        known = sorted(p.name for p in (files("drystone.cli") / "templates").iterdir() if p.is_dir())
        raise UsageError(f"There is no template {name!r}.", looked=f"There are: {', '.join(known)}.")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty, so nothing was written there.", todo="Name a new folder.")
    with as_file(origin) as path:
        shutil.copytree(path, folder, dirs_exist_ok=True)
    people, user = folder / "users.toml", json.dumps(system_user())
    text = people.read_text(encoding="utf-8")
    named = f"name = {user}" in text  # the sample may have somebody of your name
    people.write_text(f"{text}\n{_OWNER if named else _YOU}".replace("{user}", user), encoding="utf-8")


_PROJECT = """\
format = 1

[project]
name = "{name}"
region = "local"                   # where this installation processes

[[sources]]
name = "documents"
type = "files"
path = "{documents}"
owner = "group:owners"
exclude = ["drystone.toml", "drystone.*.toml", "users.toml", "policies/**"]
  [[sources.labels]]               # first match wins; no label = refused
  match = "**"
  readers = [{reader}]        # you alone; name groups of users.toml to share
  classification = "confidential"
"""

_OWNER = """\
[[groups]]
name = "owners"                    # owners may ingest, relabel and audit
members = [{user}]                 # you
"""

_YOU = """\
[[users]]
name = {user}                      # you
groups = ["owners"]                # owners may ingest, relabel and audit
clearance = "restricted"
"""

_PEOPLE = (
    _YOU
    + """
[[groups]]
name = "owners"
members = []
"""
)
