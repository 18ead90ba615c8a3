import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from learner.rounds.training import PseudoLabels, most_likely_rows
from tests.learner.small_learner import small_served
from tests.learner.streams import make_text

CENTRES = torch.eye(4, 16)


def near(rows: list[int], *, seed: int = 0) -> Tensor:
    """Unit vectors around the centres of these rows."""
    noise = torch.randn(len(rows), 16, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(CENTRES[rows] + 0.1 * noise, dim=1)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 99))
def test_texts_near_a_mean_are_of_its_class_however_often_each_is_shown(rows: list[int], seed: int) -> None:
    assert most_likely_rows(near(rows, seed=seed), CENTRES).tolist() == rows


def test_pseudo_labels_move_the_means_towards_the_texts() -> None:
    """A text halfway between two classes gets the class whose other texts lie on its side."""
    means_CD = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    halfway = torch.tensor([[0.54, 0.62, 0.57]])
    aside = torch.tensor([[0.8, 0.1, 0.6]])
    z_UD = functional.normalize(torch.cat([halfway, aside.repeat(20, 1)]), dim=1)
    assert most_likely_rows(z_UD[:1], means_CD).tolist() == [1] and most_likely_rows(z_UD, means_CD)[0] == 0


def test_units_give_the_pseudo_labels_of_all_at_once() -> None:
    served = small_served()
    texts = [make_text(number) for number in range(50)]
    means_CD = functional.normalize(served.z_many(texts[:5]), dim=1)
    labels = PseudoLabels(texts, means_CD, unit=20)
    shares = list[float]()
    while not labels.rows:
        labels.step(served)
        shares.append(labels.progress)
    assert shares == [0.4, 0.8, 1.0]
    assert [labels.rows[text] for text in texts] == most_likely_rows(served.z_many(texts), means_CD).tolist()


def test_a_class_without_texts_keeps_its_mean() -> None:
    """All texts are of two classes; balancing must not give any text to the two other classes."""
    rows = [0, 1] * 200
    assert most_likely_rows(near(rows), CENTRES).tolist() == rows


def test_a_class_that_attracts_too_many_texts_loses_the_narrow_ones() -> None:
    means_CD = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    angles_U = torch.cat([torch.full((60,), 0.9), torch.full((20,), 0.503), torch.full((20,), 0.2)]) * torch.pi / 2
    z_UD = torch.stack([angles_U.cos(), angles_U.sin()], dim=1)
    assert most_likely_rows(z_UD, means_CD).bincount().tolist() == [60, 40]
