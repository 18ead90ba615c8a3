"""The successor class: the class to which the old texts of a changed class belong."""

from collections.abc import Mapping

import torch
from torch import Tensor

from learner.fast.fast_head import MIN_LABELS, FastHead, find_successor, has_moved, predict_since
from learner.samples import Labelled
from tests.learner.small_learner import small_served

SINCE_MS = 1_000
LABELS = ("a", "b", "c")
REGIONS = {"A": 0, "B": 1, "C": 2}


def vectors(region: str, num: int) -> Tensor:
    """Unit vectors around the axis of a region, z_ND."""
    z_ND = 0.05 * torch.randn(num, 64, generator=torch.Generator().manual_seed(num))
    z_ND[:, REGIONS[region]] += 1
    return torch.nn.functional.normalize(z_ND, dim=1)


def make_head(labelled: Mapping[str, tuple[str, int]]) -> FastHead:
    """A head that has learnt ten texts of each class, and since the change the given number of texts of a region."""
    head = FastHead(small_served(), penalty=1e-4, num_recent=8)
    head.admit_all(LABELS)
    for label in LABELS:
        learn(head, label, vectors(label.upper(), 10), SINCE_MS - 1)
    for label, (region, num) in labelled.items():
        learn(head, label, vectors(region, num), SINCE_MS)
    return head


def learn(head: FastHead, label: str, z_ND: Tensor, time_ms: int) -> None:
    head.learn_encoded(z_ND, head.served.features(z_ND), [Labelled("", label, time_ms=time_ms)] * len(z_ND))


SWAPPED = make_head({"a": ("B", 5), "b": ("A", 5), "c": ("C", 5)})


def list_names(head: FastHead, region: str, *, since_ms: int = SINCE_MS) -> set[str]:
    return set(predict_since(head, vectors(region, 20), since_ms))


def test_texts_get_the_class_that_is_nearest_now() -> None:
    assert list_names(SWAPPED, "A") == {"b"}
    assert list_names(SWAPPED, "B") == {"a"}
    assert list_names(SWAPPED, "C") == {"c"}


def test_a_class_with_few_labels_since_the_change_predicts_nothing() -> None:
    few = make_head({"a": ("B", 5), "b": ("A", MIN_LABELS - 1)})
    assert list_names(few, "A") == {"a"}
    assert list_names(few, "A", since_ms=SINCE_MS + 1) == {""}
    assert predict_since(few, vectors("A", 0), SINCE_MS) == []


def test_the_successor_has_most_of_the_texts() -> None:
    assert find_successor(["b"] * 6 + ["a"] * 4) == "b"
    assert find_successor(["b"] * 5 + ["a"] * 5) == ""


def test_a_class_has_moved_if_its_labels_resemble_the_texts_of_another() -> None:
    assert has_moved(SWAPPED, "b", vectors("B", 20), vectors("A", 20), SINCE_MS)
    assert has_moved(SWAPPED, "b", vectors("B", 0), vectors("A", 20), SINCE_MS)
    assert not has_moved(SWAPPED, "c", vectors("C", 20), vectors("A", 20), SINCE_MS)
