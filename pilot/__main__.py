"""``make pilot``: the first day at a customer, as a script.

From the wheels of ``make dist``, outside the repository, in a network namespace without internet: install; point
at a folder that is not ours, with its own file permissions; three people ask, one is refused and the owner sees
why; a right is taken away at the source and the next question shows it, in another process too; a file is edited,
one vanishes; the state of every release is upgraded; an auditor verifies a passport with the small
verifier alone. Counts commands, configuration lines and minutes, and fails when they grow (``budget.json``).
Every command and every line of configuration that it uses stands in the README.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DIST = ROOT / "dist"

# A folder that somebody else made: whose files are readable by whom is decided there, not by us.
SHARE = {  # path: (mode, text)
    "rules/visitors.md": (0o644, "# Visitors\n\nVisitors sign in at the gate and wear a yellow badge.\n"),
    "rules/parking.md": (0o644, "# Parking\n\nBicycles are parked in the cellar, cars on deck 3 only.\n"),
    "pay/bonus 2026.md": (0o640, "# Bonus 2026\n\nThe bonus for 2026 is 4.5 percent of the yearly salary.\n"),
    "pay/overtime.txt": (0o640, "Overtime is paid at 125 percent from the third hour on.\n"),
    "menu.html": (0o644, "<html><body><h1>Canteen</h1><p>Lunch is served from 11:45 to 13:30.</p></body></html>"),
}


def mail() -> bytes:
    """An offer by mail, with a table in a zip file attached: what a shared folder holds beside notes."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "sales@ladders.example", "desk@example", "Our offer"
    message["Date"] = "Mon, 02 Nov 2026 09:00:00 +0000"
    message.set_content("Dear all,\n\nplease find our offer for ladders attached.\n")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("prices.csv", "Ladder,Price in euros\nShort ladder,49\nLong ladder,118\n")
    message.add_attachment(packed.getvalue(), maintype="application", subtype="zip", filename="offer.zip")
    return message.as_bytes()


PEOPLE = """\
[[users]]
name = "{me}"
groups = ["owners"]
[[users]]
name = "paula"
groups = ["{group}"]
[[users]]
name = "vic"
"""


def banner(text: str) -> None:
    print(f"\n== {text}", flush=True)


@dataclass
class Day:
    """One day: runs commands as a person would type them, and counts."""

    home: Path
    commands: list[str] = field(default_factory=list)

    @property
    def bin(self) -> Path:
        return self.home / "venv" / "bin"

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k in ("LANG", "TERM", "USER", "LOGNAME")}
        return {**kept, "PATH": f"{self.bin}:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(self.home)}

    def type(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run a drystone command; ``code`` is the exit code it must have. Returns its JSON."""
        self.commands.append("drystone " + " ".join(words))
        print("$ " + self.commands[-1], flush=True)
        done = subprocess.run(
            [self.bin / "drystone", *words, "--json"],
            cwd=self.home, env=self.environment(), capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode != code:
            sys.exit(f"exit code {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}")
        lines = done.stdout.rstrip().splitlines()
        print("\n".join("  " + line for line in lines[:-1][:8]))
        found: dict[str, Any] = json.loads(lines[-1])
        return found


def expect(holds: object, what: str) -> None:
    if not holds:
        sys.exit(f"PILOT FAILED: {what}")
    print(f"  holds: {what}", flush=True)


def install(day: Day) -> None:
    subprocess.run([sys.executable, "-m", "venv", day.home / "venv"], check=True)
    command = ["pip", "install", "--quiet", "--no-index", "--find-links", str(DIST), "drystone[local]"]
    day.commands.append('pip install "drystone[local]"')
    subprocess.run([day.bin / command[0], *command[1:]], check=True, cwd=day.home, env=day.environment())


def share(folder: Path, group: int) -> None:
    for name, (mode, text) in SHARE.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        if mode == 0o640:
            os.chown(path, -1, group)
        path.chmod(mode)
    (folder / "offer.eml").write_bytes(mail())
    (folder / "offer.eml").chmod(0o644)


def some_group() -> tuple[str, int]:
    """A group of this machine that is not root's, for the folder's own permissions."""
    import grp

    mine = set(os.getgroups())
    usable = [g for g in grp.getgrall() if g.gr_gid != 0 and (os.geteuid() == 0 or g.gr_gid in mine)]
    if not usable:
        sys.exit("The pilot needs a group besides root's that this user may give files to.")
    return usable[0].gr_name, usable[0].gr_gid


ASKER = """
import json, sys, drystone
with drystone.open(sys.argv[1]) as kb:
    for line in sys.stdin:
        print(json.dumps(kb.ask(line.strip(), actor="paula").to_dict()), flush=True)
"""


def first_day(home: Path) -> tuple[Day, int]:
    day = Day(home)
    banner("install from the wheels")
    install(day)
    version = subprocess.run([day.bin / "drystone", "--version"], capture_output=True, text=True, check=True).stdout
    expect(version.startswith("drystone "), f"the command is there: {version.strip()}")

    banner("point at a folder that is not ours")
    group, gid = some_group()
    folder = home / "share"
    share(folder, gid)
    day.type("init", "desk")
    desk = home / "desk"
    shutil.rmtree(desk / "documents")
    configuration = f'''format = 1
[project]
name = "desk"
[[sources]]
name = "share"
type = "files"
path = "{folder}"
permissions = "source"
classification = "public"
'''
    (desk / "drystone.toml").write_text(configuration)
    me = day.type("check", "--project", "desk")
    expect(me["ok"], "drystone check says that it can run here")
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    people = PEOPLE.format(me=user, group=group)
    (desk / "users.toml").write_text(people)
    lines = sum(bool(line.strip()) for line in (configuration + people).splitlines())

    report = day.type("ingest", "--project", "desk")
    expect(report["added"] == len(SHARE) + 3, "all documents are in, those inside a mail too")
    expect(not report["refused"] and not report["failed"], "and none was left out")

    banner("three people ask")
    question = "How much is the bonus for 2026?"
    mine = day.type("ask", question, "--project", "desk")
    expect("4.5 percent" in mine["text"] and mine["citations"], "the owner of the files gets a cited answer")
    paula = day.type("ask", question, "--as", "paula", "--project", "desk")
    expect("4.5 percent" in paula["text"], f"paula, of the files' group {group}, gets it too")
    vic = day.type("ask", question, "--as", "vic", "--project", "desk", code=3)
    expect(vic["refused"] and vic["reason"] == "no_evidence" and vic["passport"], "vic is refused, with a passport")
    expect("4.5" not in json.dumps(vic), "and learns nothing from the refusal")
    why = day.type("why", "share:pay/bonus 2026.md", "--as", "vic", "--project", "desk", code=3)
    expect(not why["allowed"] and group in json.dumps(why), "the owner sees why")
    canteen = day.type("ask", "When is lunch served?", "--as", "vic", "--project", "desk")
    expect("11:45" in canteen["text"], "vic reads what everyone may read")
    ladder = day.type("ask", "What is the price of the long ladder in euros?", "--as", "vic", "--project", "desk")
    cited = ladder["citations"][0]
    expect("118" in ladder["text"] and cited["document"] == "share:offer.eml!/offer.zip!/prices.csv", "a table in a zip "
           "file in a mail answers")  # fmt: skip
    expect("A3:B3" in {c["place"].get("cells") for c in ladder["citations"]}, "and is cited by its row")

    banner("a right is taken away at the source")
    with subprocess.Popen(
        [day.bin / "python", "-c", ASKER, desk], cwd=home, env=day.environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdin and other.stdout

        def elsewhere(text: str) -> dict[str, Any]:
            assert other.stdin and other.stdout
            other.stdin.write(text + "\n")
            other.stdin.flush()
            found: dict[str, Any] = json.loads(other.stdout.readline())
            return found

        expect("4.5 percent" in elsewhere(question)["text"], "another process answers paula")
        (folder / "pay/bonus 2026.md").chmod(0o600)
        expect(elsewhere(question)["refused"], "the next question shows it, in the other process")
        gone = day.type("ask", question, "--as", "paula", "--project", "desk", code=3)
        expect(gone["reason"] == "no_evidence", "and from the command line")
        report = day.type("ingest", "--project", "desk")
        expect(report["relabelled"] == 1 and report["embedded"] == 0, "one document is relabelled, nothing is embedded")

        banner("a file is edited, one vanishes")
        (folder / "menu.html").write_text(
            "<html><body><h1>Canteen</h1><p>Lunch is served from 12:15 to 14:00.</p></body></html>"
        )
        (folder / "rules/parking.md").unlink()
        report = day.type("ingest", "--project", "desk")
        expect((report["changed"], report["removed"]) == (1, 1), "one changed, one removed")
        expect("12:15" in elsewhere("When is lunch served?")["text"], "the new text is cited")
        parking = elsewhere("Where are bicycles parked?")
        expect("cellar" not in parking["text"], "what vanished is gone")
        other.stdin.close()

    banner("an auditor verifies a passport with the small verifier alone")
    shown = day.type("passport", "show", mine["passport"], "--project", "desk")
    audit = home / "audit"
    audit.mkdir()
    (audit / "passport.json").write_text(json.dumps(shown))
    for key in (desk / ".drystone/keys").glob("*.pub"):
        shutil.copy(key, audit)
    library = next((home / "venv/lib").glob("python3*/site-packages"))
    shutil.copy(library / "drystone/verify.py", audit)
    subprocess.run([sys.executable, "-m", "venv", audit / "venv"], check=True)
    pip = [audit / "venv/bin/pip", "--isolated", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--no-index", "--find-links", DIST, "cryptography"], check=True)
    key = next(audit.glob("*.pub"))
    command = [audit / "venv/bin/python", audit / "verify.py", "passport.json", "--key", key]
    good = subprocess.run(command, cwd=audit, capture_output=True, text=True)
    expect(good.returncode == 0, "the passport verifies: " + good.stdout.strip().replace("\n", "; "))
    forged = json.dumps(shown).replace(mine["passport"].split(":")[1][:6], "AAAAAA", 1)
    (audit / "passport.json").write_text(forged)
    expect(subprocess.run(command, cwd=audit, capture_output=True).returncode == 1, "a changed one does not")
    found = day.type("ledger", "verify", "--project", "desk")
    expect(found["valid"], "the ledger verifies")
    return day, lines


def earlier_releases(day: Day) -> None:
    """State that every release wrote opens, upgrades, answers and verifies."""
    for kept in sorted((HERE / "fixtures").glob("state-*.tar.gz")):
        with tarfile.open(kept) as archive:
            archive.extractall(day.home, filter="data")
        upgrade(day, kept.name.removeprefix("state-").removesuffix(".tar.gz"))


def upgrade(day: Day, project: str) -> None:
    expected = json.loads((day.home / project / "expected.json").read_text())
    day.type("upgrade", "--plan", "--project", project)
    day.type("upgrade", "--project", project)
    answer = day.type("ask", expected["question"], "--as", expected["actor"], "--project", project)
    expect(expected["text"] in answer["text"], f"state of {project} answers after the upgrade")
    report = day.type("ingest", "--as", "olga", "--project", project)
    expect(not report["embedded"] and not report["removed"], "new parsers read its documents again and embed nothing")
    old = day.type("passport", "verify", expected["passport"], "--as", expected["actor"], "--project", project)
    expect(old["valid"], "a passport of then verifies now")
    expect(day.type("ledger", "verify", "--project", project)["valid"], "and its ledger")


def main() -> None:
    inside = os.environ.get("DRYSTONE_PILOT") == "inside"
    if not inside:  # once more, in an empty network namespace
        for prefix in (["unshare", "-n"], ["unshare", "-rn"]):
            if shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
                environment = {**os.environ, "DRYSTONE_PILOT": "inside"}
                sys.exit(subprocess.run([*prefix, sys.executable, "-m", "pilot"], cwd=ROOT, env=environment).returncode)
        print("NOTE: no network namespaces here (unshare); the pilot runs with the network as it is")
    if not list(DIST.glob("drystone-[0-9]*.whl")):
        sys.exit("There is no wheel in dist/; run `make dist` first.")
    started = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="drystone-pilot-"))
    home.chmod(0o755)
    try:
        day, lines = first_day(home)
        count = len(day.commands)
        minutes = (time.monotonic() - started) / 60
        banner("the state of every release")
        earlier_releases(day)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    verbs = {" ".join(c.split()[:2]) for c in day.commands if c.startswith("drystone ")}
    missing = sorted(v for v in verbs if v not in readme)
    expect(not missing, f"the README has every command that was used {missing or ''}")
    figures = {"commands": count, "configuration_lines": lines, "minutes": round(minutes, 2)}
    budget = json.loads((HERE / "budget.json").read_text())
    print("\n" + json.dumps({"pilot": figures, "budget": budget}))
    grown = {k: v for k, v in figures.items() if v > budget[k]}
    expect(not grown, f"commands, configuration lines and minutes are within the budget {grown or ''}")
    print("PILOT PASSED")


if __name__ == "__main__":
    main()
