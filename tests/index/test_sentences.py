"""Sentences: ordered spans that lose nothing, and the cases that trip a naive splitter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone.index import sentences


def split(text: str) -> list[str]:
    return [text[a:b] for a, b in sentences(text)]


@given(st.text(st.sampled_from('aB1 .!?\n-"”)。।…\t'), max_size=120) | st.text(max_size=200))
def test_spans_are_ordered_apart_in_range_and_cover_the_text(text: str) -> None:
    at = 0
    for start, end in sentences(text):
        assert at <= start < end <= len(text)
        assert text[at:start].strip() == ""
        assert not text[start].isspace() and not text[end - 1].isspace()
        at = end
    assert text[at:].strip() == ""


@pytest.mark.parametrize(
    "whole",
    [
        "Dr. Smith met Prof. J. R. Hartley at 3.50 p.m. sharp.",
        "See Fig. 3, No. 5 and sec. 4.2 for e.g. the limits.",
        "The U.S. Treasury pays approx. five percent.",
        "3. The third item stays with its number.",
        "Die Rechnung ist am 3. Mai bezahlt worden, die andere am 12. Oktober.",
        "Acme Inc. delivers within 45 days…",
        'He said "why?" and left.',
        "Version 2.1.0 of example.com is out.",
        "The first line\ngoes on here.",
        "यह पूरा वाक्य है।",
    ],
)
def test_one_sentence(whole: str) -> None:
    assert split(whole) == [whole]


@pytest.mark.parametrize(
    "parts",
    [
        ["Is it so?", "Yes!", "It is."],
        ["He paid $3.50.", "She paid nothing."],
        ['"Come in."', '"Thank you," she said.'],
        ["यह पहला है।", "यह दूसरा है।"],
        ["I bought section 4.", "It was no good."],
        ["Es sind 12.", "Maik fehlt."],
    ],
)
def test_several_sentences(parts: list[str]) -> None:
    assert split(" ".join(parts)) == parts


def test_chinese_lists_and_blank_lines() -> None:
    assert split("退货期为四十五天。请保留收据！") == ["退货期为四十五天。", "请保留收据！"]
    assert split("「はい。」と言った。次の文。") == ["「はい。」と言った。", "次の文。"]
    assert split("他说：“可以。”她走了。") == ["他说：“可以。”", "她走了。"]
    assert split("We sell\n- stoves\n- tents\n1. and more") == ["We sell", "- stoves", "- tents", "1. and more"]
    assert split("A title\n\nA sentence") == ["A title", "A sentence"]
