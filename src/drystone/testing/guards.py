"""What every guard must hold."""

from __future__ import annotations

from drystone.ports import Guard


def check_guard(guard: Guard) -> None:
    """Scores in 0..1 for any text, on both sides, the same each time; raises ``AssertionError``."""
    assert guard.name and guard.version, "an identity"
    for where in ("question", "answer"):
        for text in ("", "How long do refunds take?", "\u202eabc\x00", "नमस्ते", "a" * 100_000):
            scores = guard.check(text, where=where)
            assert all(isinstance(k, str) and 0.0 <= v <= 1.0 for k, v in scores.items()), "scores by kind, 0..1"
            assert dict(guard.check(text, where=where)) == dict(scores), "the same text, the same scores"
