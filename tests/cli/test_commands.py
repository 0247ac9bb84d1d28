"""Every command says what happened, where it looked and what to do; exit codes and the JSON line are the contract's."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

import drystone
from drystone.cli import main, output, parser
from drystone.testing import HashEmbedder

ME = pwd.getpwuid(os.geteuid()).pw_name
TEXTS = {
    "gate.md": "# Gate\n\nVisitors sign in at the gate and wear a yellow badge.\n",
    "parking.txt": "Bicycles are parked in the cellar below the east wing.\n",
}


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Iterator[Callable[..., Said]]:
    """Type a command in an empty folder. Projects get a light embedder."""

    def light(path: Path, *, env: str | None, progress: Any) -> Any:
        return drystone.open(path, env=env, embedder=HashEmbedder())

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(output, "open_project", light)
    monkeypatch.delenv("DRYSTONE_ACTOR", raising=False)

    def run(*words: str) -> Said:
        capfd.readouterr()
        code = main(words)
        said = capfd.readouterr()
        return Said(code, said.out, said.err)

    yield run


@pytest.fixture
def desk(cli: Callable[..., Said], tmp_path: Path) -> Path:
    """A project of one's own with two documents, ingested."""
    folder = tmp_path / "desk"
    (folder / "documents").mkdir(parents=True)
    for name, text in TEXTS.items():
        (folder / "documents" / name).write_text(text)
    assert cli("init", "desk").code == 0
    assert cli("ingest", "--project", "desk").code == 0
    return folder


# -- the way it is meant -----------------------------------------------------------------------------
def test_init_ingest_ask_and_check_the_passport(cli: Callable[..., Said], desk: Path) -> None:
    again = cli("ingest", "--project", "desk", "--json").json
    assert (again["seen"], again["added"], again["embedded"], again["unavailable"]) == (2, 0, 0, [])
    asked = cli("ask", "Where do visitors sign in?", "--project", "desk", "--json")
    assert asked.code == 0 and "gate" in asked.json["text"] and asked.json["citations"]
    passport = asked.json["passport"]
    assert cli("passport", "verify", passport, "--project", "desk", "--json").json["valid"]
    replayed = cli("passport", "replay", passport, "--project", "desk")
    assert replayed.code == 0, replayed
    Path("p.json").write_text(cli("passport", "show", passport, "--json", "--project", "desk").out)
    key = str(next((desk / ".drystone/keys").glob("*.pub")))
    assert cli("passport", "verify", "p.json", "--key", key).code == 0
    assert "predicate" not in cli("passport", "show", "p.json").err
    reached = cli("reach", "documents:gate.md", "--project", "desk", "--json").json
    assert any(node["kind"] == "version" for node in reached["made"])
    assert cli("ledger", "verify", "--project", "desk").code == 0
    assert cli("ledger", "checkpoint", "--project", "desk", "--json").json["checkpoint"].startswith("drystone/desk/")
    exported = cli("ledger", "export", "--project", "desk", "--json")
    assert exported.json["events"] == len(exported.out.splitlines()) - 1 > 3


def test_every_part_of_the_command_line_has_help() -> None:
    def walk(one: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                for sub in action.choices.values():
                    yield sub
                    yield from walk(sub)

    for command in walk(parser()):
        assert command.format_help()


def test_search_prints_hits_and_its_json_is_the_contract(cli: Callable[..., Said], desk: Path) -> None:
    found = cli("search", "bicycles cellar", "--project", "desk", "--json").json
    assert set(found) >= {"hits", "exact"} and found["hits"][0]["document"] == "documents:parking.txt"
    assert set(found["hits"][0]) >= {"chunk", "document", "version", "title", "text", "score", "start", "end", "label"}


def test_status_settings_and_upgrade(cli: Callable[..., Said], desk: Path) -> None:
    assert cli("status", "--project", "desk", "--json").json["sources"][0]["documents"] == 2
    rows = {row["name"]: row for row in cli("settings", "--project", "desk", "--json").json["settings"]}
    assert rows["project.name"]["origin"] == "drystone.toml" and rows["ingest.workers"]["origin"] == "default"
    plan = cli("upgrade", "--plan", "--project", "desk", "--json").json
    assert plan["steps"] == [] and plan["done"] is False


def test_the_sample_makes_you_its_owner_even_if_it_knows_your_name(
    cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    from drystone.cli import demo
    from drystone.policy import users

    for name in ("dev", "somebody\\else"):
        monkeypatch.setattr(demo, "system_user", lambda name=name: name)
        assert cli("init", f"as-{name[:3]}", "--template", "sample").code == 0
        people = users.read(Path(f"as-{name[:3]}/users.toml").read_bytes())
        actor = people.actor(name, region="eu", proven="")
        assert "group:owners" in actor.principals


# -- the ways it is not meant ------------------------------------------------------------------------
WRONG: tuple[tuple[str, int, str], ...] = (  # what is typed, exit code, what is said
    ("dance", 2, "invalid choice"),
    ("ask", 2, "QUESTION"),
    ("passport", 2, "show|verify|replay"),
    ("ask hello --loudly", 2, "--loudly"),
    ("status --project nowhere", 2, "nowhere/drystone.toml"),
    ("status --env moon --project desk", 2, "drystone.moon.toml"),
    ("init desk", 2, "already"),
    ("init desk/documents/gate.md", 2, "not a folder"),
    ("init new --template none", 2, "sample"),
    ("demo desk/documents", 2, "not empty"),
    ("ingest nothing --project desk", 2, "documents"),
    ("ingest --interval 0 --project desk", 2, "--interval"),
    ("search hello --limit 0 --project desk", 2, "limit"),
    ("search hello --as-of 99 --project desk", 1, "no commit 99"),
    ("ask hello --assistant nobody --project desk", 2, "assistant"),
    ("ask hello --as user:a:b --project desk", 2, "name"),
    ("ask hello --as stranger --project desk", 3, "users.toml does not name stranger"),
    ("ingest --as stranger --project desk", 3, "may not ingest"),
    ("passport verify passport:junk --project desk", 1, "There is no passport:junk"),
    ("passport replay passport:junk --project desk", 1, "passport"),
    ("passport verify desk/users.toml --project desk", 1, "not JSON"),
    ("passport verify list.json --project desk", 1, "no bundle"),
    ("passport verify object.json --project desk", 1, "missing in the bundle"),
    ("passport verify desk --project desk", 1, "directory"),
    ("passport verify object.json --key nowhere.pub --project desk", 1, "nowhere.pub"),
    ("passport show object.json", 1, "no passport"),
    ("reach nonsense --project desk", 1, "There is no nonsense"),
    ("why nonsense --project desk", 1, "There is no nonsense"),
    ("why documents:gate.md --as stranger --project desk", 3, "readers"),
    ("relabel documents:gate.md --project desk", 2, "nothing to change"),
    ("relabel documents:gate.md --classification odd --project desk", 2, "public, internal"),
    ("relabel documents:gate.md --expires never --project desk", 2, "not a time"),
    ("relabel documents:gate.md --classification public --project desk", 3, "no reason"),
    ("relabel documents:gate.md --trust trusted --as stranger --project desk", 1, "There is no documents:gate.md"),
    ("ledger export --as stranger --project desk", 3, "audit"),
    ("models check nobody --project desk", 2, "model 'nobody'"),
    ("models fetch", 2, "There is no project"),
    ("models fetch --to m", 2, "minilm, smollm2"),
    ("models fetch odd --to m", 2, "minilm, smollm2"),
    ("models fetch --from object.json --to m", 1, "no model in object.json"),
    ("models fetch --from desk --to m", 1, "digests.json"),
    ("upgrade --project fresh", 1, "no state"),
)


def test_what_is_wrong_is_said_and_ends_in_one_line_of_json(cli: Callable[..., Said], desk: Path) -> None:
    Path("list.json").write_text("[1]")
    Path("object.json").write_text('{"a": 1}')
    assert cli("init", "fresh").code == 0
    for typed, code, words in WRONG:
        said = cli(*typed.split(), "--json")
        assert said.code == code, (typed, said)
        found = said.json
        if "error" in found:
            error = found["error"]
            assert set(error) == {"code", "status", "retry", "happened", "looked", "todo"}
            assert error["happened"] and (
                error["looked"] or error["todo"] or re.search("must be|There is no", error["happened"])
            ), typed
            text = " ".join(str(error[k]) for k in ("happened", "looked", "todo"))
            assert error["happened"] in said.err
        else:
            text = json.dumps(found)
        assert words in text, (typed, text)
        assert "Traceback" not in said.err


def test_an_empty_and_an_endless_question(cli: Callable[..., Said], desk: Path) -> None:
    assert cli("ask", " ", "--project", "desk", "--json").json["error"]["code"] == "usage"
    long = cli("ask", "how " * 60_000, "--project", "desk")
    assert long.code == 2 and len(long.err) < 300, "the question is not repeated"


def test_broken_configuration_is_named(cli: Callable[..., Said], desk: Path) -> None:
    file, people = desk / "drystone.toml", desk / "users.toml"
    whole, known = file.read_text(), people.read_text()
    for text, command, words in (
        (whole + "\nbroken = [", "status", "not valid TOML"),
        (whole + "\n[projectt]\na = 1", "status", "[projectt]"),
        (whole.replace('"files"', '"ftp"'), "ingest", "Installed: files, "),
        (whole.replace('path = "documents"', 'pfad = "documents"'), "ingest", "pfad"),
        (whole.replace('"confidential"', '"cosmic"'), "ingest", "public, internal"),
        ('[project]\nname = "x"', "ingest", "[[sources]]"),
    ):
        file.write_text(text)
        said = cli(command, "--project", "desk")
        assert said.code in (1, 2) and words in said.err, (text[-60:], said)
    file.write_text(whole)
    people.write_text('[[users]]\nname = "a"\nclearance = "top"')
    assert cli("ask", "hello", "--project", "desk").code == 2
    people.write_text(known)
    assert cli("ask", "Where do visitors sign in?", "--project", "desk").code == 0


def test_a_variable_that_sets_nothing_is_said(
    cli: Callable[..., Said], desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRYSTONE_INGEST_WOKERS", "3")
    assert "DRYSTONE_INGEST_WOKERS" in cli("status", "--project", "desk").err
    monkeypatch.delenv("DRYSTONE_INGEST_WOKERS")
    monkeypatch.setenv("DRYSTONE_INGEST_WORKERS", "many")
    assert cli("status", "--project", "desk").code == 2


def test_one_source_in_outage_does_not_hold_up_the_others(cli: Callable[..., Said], desk: Path) -> None:
    text = (desk / "drystone.toml").read_text()
    (desk / "drystone.toml").write_text(text + text[text.index("[[sources]]") :].replace("documents", "gone"))
    (desk / "documents" / "new.txt").write_text("The canteen opens at noon.")
    said = cli("ingest", "--project", "desk", "--json")
    assert said.code == 4 and said.json["added"] == 1
    assert [one["source"] for one in said.json["unavailable"]] == ["gone"]
    assert said.json["unavailable"][0]["error"]["code"] == "source_unavailable"
    checked = cli("check", "--project", "desk", "--json").json["checks"]
    assert {c["check"]: c["ok"] for c in checked if c["check"].startswith("source ")} == {
        "source documents": True,
        "source gone": False,
    }


def test_an_extra_that_is_not_installed_is_named(
    cli: Callable[..., Said], desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("drystone.cli.operate.version", absent)
    said = cli("check", "--project", "desk", "--json")
    lacks = {c["check"]: c["detail"] for c in said.json["checks"] if "not installed" in c["detail"]}
    assert said.code == 0 and set(lacks) == {"text in images", "speech", "object stores"}
    assert 'pip install "drystone[documents]"' in lacks["text in images"]


def test_what_cannot_be_read_is_done_in_part(cli: Callable[..., Said], desk: Path) -> None:
    (desk / "documents" / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    said = cli("ingest", "--project", "desk", "--json")
    assert said.code == 4 and said.json["failed"] == 1 and "broken.pdf" in said.out
    ignore = ("quarantine", "ignore", "documents:broken.pdf", "--project", "desk")
    assert cli(*ignore).code == 2 and cli(*ignore, "--reason", "  ").code == 2  # a reason that was forgotten is none
    assert "ignored: sent again" in cli(*ignore, "--reason", "sent again").out
    assert "counted again" in cli(*ignore, "--reason", "").out


def test_the_operating_system_is_quoted(cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "desk/drystone.toml")

    monkeypatch.setattr(Path, "mkdir", full)
    said = cli("init", "new", "--json")
    assert said.code == 1 and "No space left" in said.err and said.json["error"]["code"] == "state_unavailable"


def test_a_fault_of_ours_still_ends_in_json(
    cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    from drystone.cli import operate

    def fault(_: object) -> int:
        raise ZeroDivisionError("the text of a document")

    monkeypatch.setattr(operate, "status", fault)
    with pytest.raises(ZeroDivisionError):
        cli("status", "--json")
    document = capfd.readouterr().out
    assert json.loads(document)["error"]["happened"].startswith("ZeroDivisionError") and "text of" not in document


# -- models ------------------------------------------------------------------------------------------
def wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_a_model_is_kept_only_with_its_pinned_digest(cli: Callable[..., Said]) -> None:
    import hashlib

    def digests(**files: bytes) -> bytes:
        return json.dumps(
            {name.replace("_", "."): hashlib.sha256(data).hexdigest() for name, data in files.items()}
        ).encode()

    forged = {
        "drystone_model_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": b"x",
        "drystone_model_smollm2/digests.json": b"{}",
    }
    wheel(Path("forged.whl"), forged)
    said = cli("models", "fetch", "--from", "forged.whl", "--to", "m", "--json")
    assert said.code == 1 and said.json["error"]["code"] == "digest_mismatch" and not Path("m").exists()

    own = {
        "drystone_model_tiny/model.gguf": b"weights",
        "drystone_model_tiny/digests.json": digests(model_gguf=b"weights"),
        "drystone_model_tiny/../../escaped": b"no",
        "drystone_model_tiny/extra.bin": b"nobody checked this",
    }
    assert cli("models", "fetch", "--from", str(wheel(Path("tiny.whl"), own)), "--to", "m").code == 0
    assert {p.name for p in Path("m/tiny").iterdir()} == {"model.gguf", "digests.json"}
    assert not Path("escaped").exists()
    assert cli("models", "fetch", "--from", "m/tiny", "--to", "n", "--json").json["model"] == "tiny"


# -- watching and starting ---------------------------------------------------------------------------
WATCH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # as in the foreground, wherever the tests run
import drystone
from drystone.cli import main, output
from drystone.testing import HashEmbedder
output.open_project = lambda path, env, progress: drystone.open(path, env=env, embedder=HashEmbedder())
sys.exit(main(["ingest", "--watch", "--interval", "0.05", "--project", sys.argv[1], "--json"]))
"""


def test_watch_brings_changes_in_survives_an_outage_and_ends_well(desk: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WATCH, str(desk)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        assert watch.stdout and watch.stderr

        def report() -> dict[str, Any]:
            assert watch.stdout
            for line in watch.stdout:
                if line.startswith("{"):
                    found: dict[str, Any] = json.loads(line)
                    return found
            raise AssertionError("it ended")

        try:
            assert report()["seen"] == 2
            assert "watching documents" in watch.stderr.readline()
            (desk / "documents" / "lift.txt").write_text("The lift is out of order on Sundays.")
            assert report()["added"] == 1
            (desk / "documents").rename(desk / "away")
            assert "We keep looking" in watch.stderr.readline()
            (desk / "away").rename(desk / "documents")
            (desk / "documents" / "lift.txt").write_text("The lift works again.")
            assert report()["changed"] == 1
            text = (desk / "drystone.toml").read_text()
            (desk / "drystone.toml").write_text(text.replace('"confidential"', '"internal"'))
            assert report()["relabelled"] == 3
        finally:
            watch.send_signal(signal.SIGTERM)
        assert watch.wait(20) == 0
        assert "Traceback" not in (said := watch.stderr.read()) and "Stopped watching" in said
    before = _runs(desk)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as watch:
        assert watch.stdout and watch.stdout.readline()
        time.sleep(0.5)  # ten looks that find nothing
        watch.send_signal(signal.SIGINT)
        assert watch.wait(20) == 0
    assert _runs(desk) - before <= 2, "looks leave no record"


def _runs(folder: Path) -> int:
    with drystone.open(folder, embedder=HashEmbedder()) as kb:
        return sum(event["kind"] == "run" for event in kb.house.ledger.export())


def test_starting_is_quick_and_silent() -> None:
    """`import drystone` and `drystone --help` load none of the engines."""
    code = (
        "import sys, drystone, drystone.cli\n"
        "drystone.cli.parser().format_help()\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & "
        "{'numpy', 'lance', 'pyarrow', 'onnxruntime', 'faiss', 'cedarpy', 'cryptography', 'httpx', 'sqlite3'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n" and not done.stderr
