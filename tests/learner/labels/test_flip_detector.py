"""Which contradictions are a flip, and which are not."""

import random
from collections.abc import Callable, Iterator

import pytest

from learner.labels.flip_detector import FlipDetector

CLASSES = [f"class {number}" for number in range(15)]
SOURCES = [f"desk {number}" for number in range(4)]

Said = tuple[str, str, str]


def stream(num: int, *, seed: int = 0, error: float = 0.06) -> Iterator[Said]:
    """(source, answered, said): 15 classes from 4 sources, and a model that is wrong now and then."""
    rng = random.Random(seed)
    for _ in range(num):
        true = rng.choice(CLASSES)
        yield rng.choice(SOURCES), rng.choice(CLASSES) if rng.random() < error else true, true


def watching(num: int = 3_000) -> FlipDetector:
    it = FlipDetector()
    for source, answered, said in stream(num):
        assert not it.is_part(source, answered=answered, said=said)
    assert it.num_raised == 0 and it.alarms() == []
    return it


def labels_until_alarm(it: FlipDetector, twist: Callable[[Said], Said], *, num: int = 1_000) -> int:
    """How many labels of a twisted stream it takes until the first is held; 0 where none is."""
    for number, each in enumerate(stream(num, seed=1), start=1):
        source, answered, said = twist(each)
        if it.is_part(source, answered=answered, said=said):
            return number
    return 0


def flipped(each: Said) -> Said:
    source, answered, said = each
    return source, answered, CLASSES[1] if said == CLASSES[0] else said


def test_the_flip_of_one_class_is_noticed_within_500_labels() -> None:
    it = watching()
    assert 0 < labels_until_alarm(it, flipped) <= 500
    assert it.alarms() == ["'class 0' is said to be 'class 1'"] and it.num_raised == 1


def test_sources_that_agree_on_a_flip_are_noticed_as_one_source_is() -> None:
    """F43: a hundred sources, each below any share."""
    it = watching()
    rng = random.Random(7)

    def colluding(each: Said) -> Said:
        _, answered, said = flipped(each)
        return f"name {rng.randrange(100)}", answered, said

    assert 0 < labels_until_alarm(it, colluding) <= 500
    assert it.alarms() == ["'class 0' is said to be 'class 1'"]


def test_only_the_labels_of_the_flip_are_held_and_it_ends_with_its_cause() -> None:
    it = watching()
    labels_until_alarm(it, flipped)
    held = [each for each in map(flipped, stream(500, seed=2)) if it.is_part(each[0], answered=each[1], said=each[2])]
    assert {each[1:] for each in held} == {("class 0", "class 1")} and len(held) > 15
    for source, answered, said in stream(1_000, seed=3):
        it.is_part(source, answered=answered, said=said)
    assert it.alarms() == [] and it.num_raised == 1


def test_a_source_that_says_one_class_of_everything_is_noticed() -> None:
    it = watching()

    def one_source(each: Said) -> Said:
        return (SOURCES[0], each[1], CLASSES[2]) if each[0] == SOURCES[0] else each

    assert 0 < labels_until_alarm(it, one_source) <= 100
    assert it.alarms() == ["source 'desk 0' says 'class 2'"]


def shifted(each: Said) -> Said:
    """Every class is called by the name of the next one."""
    return each[0], each[1], CLASSES[(CLASSES.index(each[2]) + 1) % len(CLASSES)]


def new_class(each: Said) -> Said:
    """A third of what was of one class is of a class that nobody knows yet, and the model never learns it."""
    return each[0], each[1], "new" if each[2] == CLASSES[0] and random.Random(str(each)).random() < 0.3 else each[2]


def scattered(each: Said) -> Said:
    """One label in five is any."""
    rng = random.Random(f"{each}/scattered")
    return each[0], each[1], rng.choice(CLASSES) if rng.random() < 0.2 else each[2]


def confused(each: Said) -> Said:
    """The look of a class changed: the model takes two thirds of it for another one, whose own labels go on."""
    is_mistaken = each[2] == CLASSES[0] and each[1] == CLASSES[0] and random.Random(str(each)).random() < 0.6
    return each[0], CLASSES[1] if is_mistaken else each[1], each[2]


@pytest.mark.parametrize("drift", [shifted, new_class, scattered])
def test_what_is_no_flip_raises_nothing(drift: Callable[[Said], Said]) -> None:
    assert labels_until_alarm(watching(), drift, num=5_000) == 0


def test_a_source_alone_is_not_compared() -> None:
    it = FlipDetector()
    for _, answered, said in stream(3_000):
        it.is_part("desk", answered=answered, said=said)
    for _ in range(200):
        assert not it.is_part("desk", answered=CLASSES[3], said=CLASSES[2]) or it.alarms()[0].startswith("'class 3'")
