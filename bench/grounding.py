"""The embedded chat model on the published grounding set: why ``auto`` quotes. Takes some minutes."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from drystone.answer import Writer
from drystone.answer.grounding import check_model
from drystone.errors import EngineMissing
from drystone.index.minilm import MiniLM
from drystone.models import Models
from drystone.policy import Policy
from drystone.records import Classification
from drystone.settings import ModelConfig, defaults


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    if parser.parse_args().quick:
        print(json.dumps({"skipped": "the set is only meaningful whole, which takes minutes"}))
        return
    with tempfile.TemporaryDirectory() as temp:
        local = ModelConfig("local", "llama_cpp", Classification.restricted, frozenset({"local"}), None, {})
        settings = defaults(Path(temp), models__path=os.environ.get("DRYSTONE_MODELS_PATH", ""))
        settings = replace(settings, models=(local,))
        models = Models(settings=settings, policy=Policy.open(Path(temp), settings=settings))
        index: Any = SimpleNamespace(embedder=MiniLM({"type": "builtin"}, settings=settings))
        writer = Writer(index=index, settings=settings, models=models)
        try:
            found = check_model("local", models=models, writer=writer, state=settings.state)
        except EngineMissing as error:
            print(json.dumps({"skipped": error.happened}))
            return
        finally:
            models.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
