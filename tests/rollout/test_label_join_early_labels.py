"""N5: 50,000 labels waited with their texts, 6 GiB in all."""

from rollout.label_join import EARLY_OVERHEAD, EarlyLabels
from wire.records import MAX_TEXT_CHARS, Feedback


def label(number: int, *, size: int = 1) -> Feedback:
    return Feedback(
        event_id=f"e{number}", label="a" * size, text="x" * MAX_TEXT_CHARS, features={"iban": "y"}, proof="z"
    )


def test_what_a_label_says_of_its_event_does_not_wait() -> None:
    labels = EarlyLabels(10)
    assert labels.put(b"e1", label(1)) == 0
    kept = labels.take(b"e1")
    assert kept == Feedback(event_id="e1", label="a") and not labels


def test_labels_are_bounded_in_number_and_in_bytes_and_the_oldest_goes_first() -> None:
    labels = EarlyLabels(3)
    assert [labels.put(b"%d" % number, label(number)) for number in range(5)] == [0, 0, 0, 1, 1]
    assert list(labels) == [b"2", b"3", b"4"]
    narrow = EarlyLabels(1_000, max_bytes=10 * (EARLY_OVERHEAD + 1_000))
    assert sum(narrow.put(b"%d" % number, label(number, size=1_000)) for number in range(100)) == 100 - len(narrow)
    assert 5 <= len(narrow) <= 10
    for alias in list(narrow):
        narrow.take(alias)
    assert narrow.put(b"next", label(1)) == 0
