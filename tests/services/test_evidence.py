"""Joining answers with labels: each case of late, early, twice and never."""

from services.rollout.evidence import Evidence, EvidenceWindow, Tally
from wire.records import CANDIDATE, STABLE, STAND_IN, Answer, Feedback


def answer(event_id: str, label: str = "yes", *, arm: str = STABLE, version: int = 1, revision: int = 1) -> Answer:
    return Answer(
        event_id=event_id,
        text="text",
        label=label,
        score=0.9,
        weights_version=version,
        arm=arm,
        precision="int8",
        rollout_revision=revision,
    )


def said(event_id: str, label: str = "yes") -> Feedback:
    return Feedback(event_id=event_id, label=label)


def seen(window: EvidenceWindow) -> Evidence:
    return window.evidence(stable_share=0.8)


def test_counts_right_and_wrong_answers_per_arm() -> None:
    window = EvidenceWindow(max_unlabelled=10)
    for number, arm in enumerate((STABLE, STABLE, CANDIDATE)):
        window.add_answer(answer(str(number), arm=arm, version=2 if arm == CANDIDATE else 1))
        window.add_label(said(str(number), "no" if number == 0 else "yes"))
    assert seen(window) == Evidence(Tally(2, 1), Tally(1, 1), candidate_version=2, stable_share=0.8)


def test_answers_of_a_stand_in_say_nothing_of_either_arm() -> None:
    """B1: a replica that cannot have the stable version answers with another, which must not be judged as it."""
    window = EvidenceWindow(max_unlabelled=10)
    window.add_answer(answer("a", arm=STAND_IN, version=7))
    window.add_label(said("a"))
    assert seen(window) == Evidence(stable_share=0.8)
    assert window.counts["answer_of_stand_in"] == 1


def test_label_before_its_answer_counts() -> None:
    window = EvidenceWindow(max_unlabelled=10)
    window.add_label(said("a"))
    window.add_answer(answer("a"))
    assert seen(window).stable == Tally(1, 1)


def test_repeated_labels_and_answers_count_once() -> None:
    window = EvidenceWindow(max_unlabelled=10)
    for _ in range(2):
        window.add_answer(answer("a"))
        window.add_answer(answer("a", "no", version=2))
    for _ in range(3):
        window.add_label(said("a"))
    window.add_answer(answer("a"))
    assert seen(window).stable == Tally(1, 1)
    assert window.counts == {"judged": 1, "answer_repeated": 4, "label_repeated": 2}


def test_candidate_is_pooled_and_names_its_newest_labelled_version() -> None:
    window = EvidenceWindow(max_unlabelled=10)
    for version in (5, 7, 6, 8):
        window.add_answer(answer(str(version), arm=CANDIDATE, version=version))
    for version in (5, 7, 6):
        window.add_label(said(str(version)))
    assert seen(window).candidate == Tally(3, 3)
    assert seen(window).candidate_version == 7


def test_restart_forgets_and_ignores_answers_of_older_plans() -> None:
    window = EvidenceWindow(max_unlabelled=10)
    window.add_answer(answer("a", revision=3))
    window.restart(since_revision=4, stable_version=2)
    window.add_label(said("a"))
    window.add_answer(answer("b", revision=3))
    window.add_answer(answer("c", revision=4))
    window.add_label(said("b"))
    window.add_label(said("c"))
    assert seen(window).stable == Tally(1, 1)
    assert window.counts["answer_before_decision"] == 1


def test_restart_at_the_same_place_keeps_what_was_counted() -> None:
    window = EvidenceWindow(max_unlabelled=10, since_revision=4, stable_version=2)
    window.add_answer(answer("a", revision=4))
    window.restart(since_revision=4, stable_version=2)
    window.add_label(said("a"))
    assert seen(window).stable.labels == 1


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    window = EvidenceWindow(max_unlabelled=3)
    for number in range(5):
        window.add_answer(answer(str(number)))
    for number in range(5):
        window.add_label(said(str(number)))
    assert seen(window).stable.labels == 3
    assert window.counts["dropped_oldest"] == 2


def test_an_answer_without_a_label_is_wrong() -> None:
    window = EvidenceWindow(max_unlabelled=3)
    window.add_answer(Answer(**{**{f: getattr(answer("a"), f) for f in Answer.__struct_fields__}, "label": None}))
    window.add_label(said("a"))
    assert seen(window).stable == Tally(1, 0)
