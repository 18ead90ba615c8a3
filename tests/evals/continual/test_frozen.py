"""Heads on the pretrained encoder, which is not trained."""

import torch
from torch import Tensor

from evals.continual.frozen import FrozenEncoder, HeadContender, VectorAdapter
from evals.continual.heads import NearestMean
from evals.streams.benchmark import Part
from learner.config import LearnerConfig

TEXTS = ["where is my parcel", "I want my money back", "has my parcel been sent", "please refund me"]
LABELS_N = torch.tensor([5, 9, 5, 9])


def test_a_head_predicts_class_ids_in_any_order_of_the_classes() -> None:
    head = HeadContender(NearestMean(2, 4), lambda x_ND: x_ND)
    head.learn_many(Part(torch.eye(2), torch.tensor([9, 5])))
    assert head.predict_many(torch.eye(2)).tolist() == [9, 5]


def test_texts_are_learnt_and_predicted_by_their_vectors() -> None:
    encoder = FrozenEncoder(LearnerConfig(trainable_layers=0, num_features=64), "minilm-l6")
    width = encoder.served.config.d_model
    contender = VectorAdapter(encoder, HeadContender(NearestMean(width, 4), _unchanged))
    contender.learn_many(Part(TEXTS, LABELS_N))
    assert contender.predict_many(TEXTS).tolist() == LABELS_N.tolist()
    assert contender.usage.forwards == len(TEXTS)


def _unchanged(x_ND: Tensor) -> Tensor:
    return x_ND
