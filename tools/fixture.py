"""Keep the state that this release writes, so that the next one can prove that it opens and upgrades it.

python tools/fixture.py      # writes pilot/fixtures/state-release-VERSION.tar.gz
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import drystone

OUT = Path(__file__).resolve().parent.parent / "pilot" / "fixtures"
CONFIG = """\
format = 1
[project]
name = "release"
[[sources]]
name = "docs"
type = "files"
path = "documents"
  [[sources.labels]]
  match = "**"
  readers = ["group:staff"]
  classification = "internal"
"""
PEOPLE = """\
[[users]]
name = "olga"
groups = ["owners", "staff"]
clearance = "internal"
[[users]]
name = "bo"
groups = ["staff"]
clearance = "internal"
"""
FILES = {
    "badges.md": "# Badges\n\nLost badges are replaced at the front desk for 12 euros.\n",
    "heating.md": "# Heating\n\nThe heating runs from 6:30 to 19:00 on working days.\n",
    "keys.md": "# Keys\n\nThe spare key of the archive hangs in the safe of the caretaker.\n",
}


def main() -> None:
    name = f"release-{drystone.__version__}"
    with tempfile.TemporaryDirectory() as temp:
        root = Path(temp) / name
        (root / "documents").mkdir(parents=True)
        (root / "drystone.toml").write_text(CONFIG)
        (root / "users.toml").write_text(PEOPLE)
        for file, text in FILES.items():
            (root / "documents" / file).write_text(text)
        with zipfile.ZipFile(root / "documents" / "tools.zip", "w") as archive:
            archive.writestr("tools.csv", "Tool,Price in euros\nHammer,19\nSaw,24\n")
        question = "Where are lost badges replaced?"
        with drystone.open(root) as kb:
            kb.ingest(actor="olga")
            (root / "documents" / "heating.md").write_text(FILES["heating.md"].replace("6:30", "7:00"))
            kb.ingest(actor="olga")
            kb.relabel("docs:keys.md", {"classification": "confidential"}, actor="olga")
            answer = kb.ask(question, actor="bo")
            if "front desk" not in answer.text:
                sys.exit(f"The state is not worth keeping: {answer.text!r} does not answer {question!r}.")
            kb.house.ledger.checkpoint()
        expected = {"question": question, "actor": "bo", "text": "front desk", "passport": answer.passport}
        (root / "expected.json").write_text(json.dumps(expected))
        OUT.mkdir(exist_ok=True)
        path = OUT / f"state-{name}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(root, name)
    print(f"wrote {path.name} ({path.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
