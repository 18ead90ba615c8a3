"""Labels that carry the text of their event: they are learnt without an answer."""

import msgspec

from learner.prequential import Prequential
from tests.learner.intake.joins import RECEIPTS, answer, label, make_join, make_trust, num_outcomes


def test_a_label_with_a_text_needs_no_answer() -> None:
    join = make_join()
    (sample,) = join.match([label("e", "no", event_source="crm", text="my text")])
    assert (sample.text, sample.label, sample.key) == ("my text", "no", ("crm", "e"))
    assert not sample.is_answered
    assert (join.counts["matched"], join.counts["with_text"], num_outcomes(join)) == (1, 1, 1)


def test_what_was_never_answered_is_not_scored() -> None:
    prequential = Prequential()
    prequential.add(make_join().match([label("e", text="my text"), answer("f"), label("f")]))
    assert (prequential.num_scored, prequential.num_correct) == (1, 1)


def test_the_text_of_an_answer_that_waits_counts() -> None:
    (sample,) = make_join().match([answer("e"), label("e", text="another text")])
    assert (sample.text, sample.is_answered) == ("a text", True)


def test_a_label_that_comes_again_is_a_duplicate() -> None:
    """Its answer may come afterwards, and finds its event labelled."""
    join = make_join()
    assert len(join.match([label("e", text="my text"), label("e", text="my text"), answer("e"), label("e")])) == 1
    assert (join.counts["duplicate"], join.counts["answers_repeated"]) == (2, 1)


def test_a_label_is_never_too_late_where_it_carries_its_text() -> None:
    join = make_join(pending=1)
    (sample,) = join.match([answer("old"), answer("new"), label("old", text="a text")])
    assert (sample.event_id, join.counts["late"]) == ("old", 0)


def test_the_text_of_an_erased_event_is_not_taken_again() -> None:
    """Not after a restart either."""
    join = make_join()
    join.match([answer("e", key="customer 7")])
    join.erase(lambda subject: subject == "customer 7")
    for erased in (join, make_join(join.export())):
        assert erased.match([label("e", text="a text")]) == []
        assert erased.counts["late"] == 1


def test_where_receipts_are_required_a_text_must_be_approved() -> None:
    """A receipt proves the answer and not the text that its holder adds."""
    join = make_join(trust=make_trust(require_receipts=True))
    proven = label("e", receipt=answer("e").receipt, text="not what was answered")
    assert join.match([proven]) == []
    assert (join.num_parked, join.export().labels[0].text) == (1, "")
    (sample,) = join.match([RECEIPTS.approved(label("f", text="my text"))])
    assert sample.is_approved
    tampered = msgspec.structs.replace(RECEIPTS.approved(label("g", text="my text")), text="another text")
    assert join.match([tampered]) == []
    assert join.counts["refused_forged"] == 1
