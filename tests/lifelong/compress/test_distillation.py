"""The steps of a distillation."""

import dataclasses

import pytest
import torch

from lifelong.compress.distillation import Distiller, DistillOptions
from lifelong.compress.share import share
from model.calibration import to_int4
from model.errors import WrongConfig
from model.strata import Strata
from tests.lifelong.compress.members import DENSE, TOKEN_IDS, dense_strata, largest_difference

OPTIONS = DistillOptions(steps=12, batch=4, rate=3e-3)
TIES = (0, 0, 2, 2)


def student() -> Strata:
    return share(dense_strata(), TIES, TIES, rank=4)


def distillation(student: Strata, teacher: Strata, options: DistillOptions = OPTIONS) -> Distiller:
    return Distiller(student, teacher, TOKEN_IDS, options)


@pytest.mark.parametrize("rounded", [False, True])
def test_the_student_comes_nearer_to_the_teacher(rounded: bool) -> None:
    distiller = distillation(student(), dense_strata(), dataclasses.replace(OPTIONS, rounded=rounded))
    losses = [distiller.step() for _ in range(OPTIONS.steps)]
    assert distiller.is_done
    assert losses[-1].layers < losses[0].layers / 1.5
    assert largest_difference(distiller.student, dense_strata()) < largest_difference(student(), dense_strata())


def test_int4_comes_nearer_if_it_is_trained_through_rounding() -> None:
    """Scales are learnt faster than weights, and without the rounding they are not learnt."""
    int4 = to_int4(dense_strata()).requires_grad_(True)
    before = {name: value.clone() for name, value in int4.state_dict().items()}
    distiller = distillation(int4, dense_strata(), dataclasses.replace(OPTIONS, steps=20, rate=1e-3, rounded=True))
    losses = [distiller.step() for _ in range(20)]
    assert losses[-1].layers < losses[0].layers
    assert all(torch.equal(value, before[name]) for name, value in int4.state_dict().items() if "word" in name)
    assert not torch.equal(int4.get_parameter("layers.0.up.grid.shift_N"), before["layers.0.up.grid.shift_N"])
    plain = distillation(to_int4(dense_strata()).requires_grad_(True), dense_strata())
    plain.step()
    assert not plain.student.get_parameter("layers.0.up.grid.shift_N").any()


def test_the_loss_of_the_teacher_itself_is_zero() -> None:
    losses = distillation(dense_strata().requires_grad_(True), dense_strata()).step()
    assert losses.layers == 0
    assert losses.cosine == pytest.approx(0, abs=1e-6)


def test_a_restored_distillation_takes_the_same_steps_bit_for_bit() -> None:
    whole = distillation(student(), dense_strata())
    other = distillation(student(), dense_strata())
    while not whole.is_done:
        if whole.num_done == 5:
            other.restore(whole.tensors(), 5)
        whole.step()
    while not other.is_done:
        other.step()
    for name, value in whole.student.state_dict().items():
        assert torch.equal(value, other.student.state_dict()[name]), name


def test_every_text_is_used_once_in_an_epoch() -> None:
    distiller = distillation(student(), dense_strata())
    seen = distiller.step_texts(0) + distiller.step_texts(1)
    assert sorted(seen) == sorted(TOKEN_IDS)
    assert distiller.step_texts(2) != distiller.step_texts(0)


def test_layers_are_not_compared_if_their_numbers_differ() -> None:
    short = dense_strata(dataclasses.replace(DENSE, n_layers=2)).requires_grad_(True)
    losses = distillation(short, dense_strata()).step()
    assert losses.layers == 0
    assert losses.cosine > 0


def test_a_student_of_another_width_is_refused() -> None:
    narrow = dense_strata(dataclasses.replace(DENSE, d_model=128))
    with pytest.raises(WrongConfig, match="equal widths"):
        distillation(narrow, dense_strata())


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    broken = dense_strata()
    broken.get_parameter("layers.3.norm2.weight").fill_(float("nan"))
    distiller = distillation(student(), broken)
    distiller.step()
    assert largest_difference(distiller.student, student()) == 0
