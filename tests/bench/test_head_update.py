"""Checks the texts and the counted operations of an update of the head."""

import torch

from bench.head_update import CONFIG, TextDraws, operations


def test_texts_of_a_class_are_alike() -> None:
    texts = TextDraws(3)
    phi_BR, rows_B = texts.draw(300)
    assert phi_BR.shape == (300, CONFIG.head_features)
    means_CR = torch.stack([phi_BR[rows_B == row].mean(dim=0) for row in range(3)])
    nearest_B = torch.cdist(phi_BR, means_CR).argmin(dim=1)
    assert (nearest_B == rows_B).float().mean() > 0.99


def test_an_update_costs_more_the_more_classes_there_are() -> None:
    assert operations(10_000) > operations(150)
