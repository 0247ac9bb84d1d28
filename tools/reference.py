"""Write docs/reference.md from the code: commands, settings, errors, ports, ledger events.

python tools/reference.py            # write
python tools/reference.py --check    # exit 1 if the page is not what the code says
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path

from drystone import errors, ports, settings
from drystone.cli import parser

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
PACKAGE = PAGE.parent.parent / "src" / "drystone"
EVENT = re.compile(r"log\.append\(\s*\w+,\s*\"([a-z_.]+)\"|_EVENT\w* = \"([a-z_.]+)\"")


def first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def commands() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def walk(one: argparse.ArgumentParser, prefix: str) -> None:
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                helps = {c.dest: c.help or "" for c in action._choices_actions}
                for name, sub in action.choices.items():
                    if any(isinstance(a, argparse._SubParsersAction) for a in sub._actions):
                        walk(sub, f"{prefix} {name}")
                    else:
                        usage = " ".join(sub.format_usage().removeprefix("usage: ").split())
                        usage = usage.replace("[-h] [--project DIR] [--env NAME] [--json] ", "")
                        found.append((usage.replace("|", "\\|"), helps.get(name, "")))

    walk(parser(), "drystone")
    return found


def error_tree() -> list[tuple[str, str, int, str, str]]:
    found = []
    for name, thing in vars(errors).items():
        if inspect.isclass(thing) and issubclass(thing, errors.DrystoneError):
            own = thing.__doc__ if "__doc__" in vars(thing) else ""
            found.append(
                (thing.code, name, thing.status, "yes" if thing.retry else "no", " ".join((own or "").split()))
            )
    return found


def page() -> str:
    lines = [
        "# Reference",
        "",
        "Made by `tools/reference.py` from the code; a test keeps it true.",
        "",
        "## Commands",
        "",
    ]
    lines += [
        "Every command takes `--project DIR`, `--env NAME` and `--json`. Exit codes: 0 done, 1 failed, 2 usage, "
        "3 refused, 4 done in part.",
        "",
        "| command | does |",
        "|---|---|",
    ]
    lines += [f"| `{usage}` | {help} |" for usage, help in commands()]
    lines += ["", "## Settings", "", "In `drystone.toml`, or as environment variables: `ingest.workers` is "
              "`DRYSTONE_INGEST_WORKERS`.", "", "| setting | type | default | meaning |", "|---|---|---|---|"]  # fmt: skip
    lines += [f"| `{s.name}` | {s.kind.__name__} | `{s.default!r}` | {s.help} |" for s in settings.TABLE]
    lines += ["", "## Errors", "", "| code | class | HTTP status | retry | meaning |", "|---|---|---|---|---|"]
    lines += [f"| `{c}` | `{n}` | {s} | {r} | {d} |" for c, n, s, r, d in error_tree()]
    lines += ["", "## Ports", "", "| port | keeps |", "|---|---|"]
    for name, thing in vars(ports).items():
        if inspect.isclass(thing) and thing.__module__ == "drystone.ports" and getattr(thing, "_is_protocol", False):
            lines.append(f"| `{name}` | {first_line(thing)} |")
    lines += ["", "## Ledger events", ""]
    events = {a or b for path in PACKAGE.rglob("*.py") for a, b in EVENT.findall(path.read_text(encoding="utf-8"))}
    lines += [f"- `{event}`" for event in sorted(events)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv:
        sys.exit(
            0 if PAGE.read_text(encoding="utf-8") == text else "docs/reference.md is stale: run tools/reference.py"
        )
    PAGE.write_text(text, encoding="utf-8")
