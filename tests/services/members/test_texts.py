"""Texts for a training: each once, none of a test or a forgotten subject, and not all of one source."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.members.texts import SEEN, Limits, SourcedText, compute_digest, remember_texts, select, trained_on

TEXTS = [
    SourcedText("Where is my card?", "app", "ann"),
    SourcedText("where is  MY card?", "app", "bob"),
    SourcedText(" ", "app"),
    SourcedText("It rains", "web"),
    SourcedText("I was charged twice", "app", "bob"),
]


def test_each_text_counts_once_and_tests_and_the_forgotten_are_left_out() -> None:
    found = select(TEXTS, Limits(), left_out=["it RAINS"], erased={"bob"})
    assert [each.text for each in found.texts] == ["Where is my card?"]
    expected = {"read": 5, "empty": 1, "repeated": 0, "left_out": 1, "forgotten": 2, "over_source": 0, "older": 0}
    assert found.counts == expected | {"used": 1}
    assert select(TEXTS, Limits()).repeated == 1


def test_a_source_that_floods_does_not_own_the_training() -> None:
    flood = [SourcedText(f"offer {number}", "spam") for number in range(100)]
    found = select([*TEXTS, *flood, *TEXTS, SourcedText("late", "web")], Limits(per_source=10))
    by_source = [each.source for each in found.texts]
    assert by_source.count("spam") == 10 and by_source.count("web") == 2
    assert found.over_source == 90


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz"))), st.integers(1, 5), st.integers(1, 3))
def test_the_bounds_hold_and_every_text_is_counted(
    drawn: list[tuple[str, str]], max_texts: int, per_source: int
) -> None:
    texts = [SourcedText(text, source) for text, source in drawn]
    found = select(texts, Limits(max_texts=max_texts, per_source=per_source), left_out=["a"])
    kept = [each.text for each in found.texts]
    assert len(set(kept)) == len(kept) <= max_texts and "a" not in kept
    assert all(sum(each.source == source for each in found.texts) <= per_source for source in "xyz")
    assert sum(found.counts.values()) - found.read == found.read == len(texts)


def test_the_last_texts_are_kept() -> None:
    texts = [SourcedText(str(number), "app") for number in range(9)]
    found = select(texts, Limits(max_texts=4))
    assert [each.text for each in found.texts] == ["5", "6", "7", "8"] and found.older == 5


def test_the_last_texts_of_a_source_are_kept() -> None:
    texts = [SourcedText(str(number), "app" if number % 2 else "web") for number in range(9)]
    found = select(texts, Limits(per_source=2))
    assert [each.text for each in found.texts] == ["5", "6", "7", "8"] and found.over_source == 5


def test_an_encoder_remembers_texts_and_subjects(tmp_path: Path) -> None:
    seen = remember_texts(select(TEXTS, Limits()))
    assert seen == {
        "texts": [compute_digest(text) for text in ("where is my card?", "it rains", "I was charged twice")],
        "subjects": {"ann": 1, "bob": 1},
    }
    for name in ("one", "other"):
        folder = tmp_path / "encoders" / name
        folder.mkdir(parents=True)
        (folder / SEEN).write_text(json.dumps(seen if name == "one" else seen | {"subjects": {"carl": 3}}))
    assert trained_on("ann", tmp_path) == {str(tmp_path / "encoders" / "one"): 1}
    assert trained_on("dora", tmp_path) == {}
