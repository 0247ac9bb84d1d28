"""Frozen records that flow between rooms. They hold data and small pure functions, nothing else."""

from drystone.records.actor import Actor, Decision, Sink
from drystone.records.answer import (
    Answer,
    Checked,
    Citation,
    Draft,
    Evidence,
    Hit,
    Hits,
    Prompt,
    Request,
    Usage,
)
from drystone.records.document import (
    Asset,
    Batch,
    Block,
    Choosing,
    Chunk,
    Document,
    Failure,
    Item,
    Known,
    Parsed,
    Part,
    Quarantined,
    Reading,
    Relabel,
    Report,
    Work,
)
from drystone.records.label import (
    EVERYONE,
    Classification,
    Label,
    Trust,
    Verdict,
    format_time,
    join_all,
    parse_time,
    principal,
)

__all__ = [
    "EVERYONE", "Actor", "Answer", "Asset", "Batch", "Block", "Checked", "Choosing", "Chunk", "Citation",
    "Classification",
    "Decision", "Document", "Draft", "Evidence", "Failure", "Hit", "Hits", "Item", "Known", "Label", "Parsed",
    "Part", "Prompt", "Quarantined", "Reading", "Relabel", "Report", "Request", "Sink", "Trust", "Usage", "Verdict",
    "Work", "format_time", "join_all", "parse_time", "principal",
]  # fmt: skip
