"""Compares classifiers that read the first 512 tokens of contracts with classifiers that read 8,192: row E1.

    MiniLM, and MiniLM with repeated positions --quantized by the learner--> vectors of every contract
    four fifths --the learner's head--> a model --a replica's engine--> the type of each contract of the last fifth
    four fifths --closed form--> scores of the kinds of clauses in the last fifth

The type of a contract stands in its first lines, while its clauses may stand anywhere.

Shape suffixes: B contracts, D width, C labels.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from bench.harness.case import Run
from bench.harness.texts import data_folder
from bench.techniques.replica_engine import answer_labels
from bench.techniques.tasks import clauses, contracts, quantized_model, served_encoder
from evals.results.row import Peer, Row
from evals.streams.stream import StreamItem
from learner.config import LearnerConfig
from learner.encoder.served import ServedEncoder
from learner.fast.fast_head import FastHead
from learner.samples import Labelled
from lifelong.compress.reshape import repeat_positions
from model.bert import load_encoder
from model.source import encoder_folder
from model.tokenizer import TextTokenizer

SHORT, LONG = 512, 8_192
FOLDS = 5
PENALTY = 1.0


class Encoded(NamedTuple):
    """The vectors of all contracts by an encoder for one maximum length."""

    served: ServedEncoder
    tokenizer: TextTokenizer
    z_BD: Tensor


def cuad_gain(run: Run) -> Iterator[Row]:
    """Yields the points gained by reading whole texts: in accuracy of types, and in average precision of clauses.

    The run's seed draws the folds. Raises Skip without data.
    """
    items = contracts(data_folder())
    has_BC = torch.tensor([list(each.values()) for each in clauses(data_folder())], dtype=torch.float32)
    accuracy: dict[int, float] = {}
    precision: dict[int, float] = {}
    for num_tokens in (SHORT, LONG):
        run.say(f"encoding {len(items)} contracts of at most {num_tokens} tokens")
        encoded = _encoded(data_folder(), num_tokens)
        run.say("classifying them by a replica's engine")
        accuracy[num_tokens] = type_accuracy(encoded, items, seed=run.seed)
        scores_BC = held_out_scores(encoded.z_BD, has_BC, seed=run.seed)
        precision[num_tokens] = 100 * mean_average_precision(scores_BC, has_BC)
    for bar, percent in (("cuad_gain", accuracy), ("clause_gain", precision)):
        note = f"{percent[SHORT]:.1f} % at {SHORT} tokens, {percent[LONG]:.1f} % at {LONG}"
        gain = round(percent[LONG] - percent[SHORT], 2)
        yield run.row(bar, gain, peers=(Peer(f"{SHORT} tokens", 0.0),), note=note)


@cache
def _encoded(data: Path | None, num_tokens: int) -> Encoded:
    """Encodes all contracts. It takes minutes for long texts, and does not depend on the seed, so it is cached."""
    strata, _ = load_encoder("minilm-l6", max_tokens=SHORT)
    if num_tokens > SHORT:
        strata = repeat_positions(strata, num_tokens)
    tokenizer_json = (encoder_folder("minilm-l6") / "tokenizer.json").read_bytes()
    tokenizer = TextTokenizer(tokenizer_json, max_tokens=num_tokens)
    served = served_encoder(strata, tokenizer)
    return Encoded(served, tokenizer, served.z_many([item.text for item in contracts(data)]))


def type_accuracy(encoded: Encoded, items: Sequence[StreamItem], *, seed: int) -> float:
    """Returns the accuracy of a replica's engine on the types of held-out contracts, in percent (cross-validation)."""
    served, tokenizer, z_BD = encoded
    labels = sorted({item.label for item in items})
    num_right = 0
    for is_test_B in folds(len(items), seed=seed):
        train = [Labelled(item.text, item.label) for item, is_test in zip(items, is_test_B, strict=True) if not is_test]
        test = [item for item, is_test in zip(items, is_test_B, strict=True) if is_test]
        head = FastHead(served, penalty=LearnerConfig().ridge)
        head.admit_all(labels)
        train_BD = z_BD[~is_test_B]
        head.learn_encoded(train_BD, served.features(train_BD), train)
        predicted = answer_labels(quantized_model(served, head), tokenizer, [item.text for item in test])
        num_right += sum(label == item.label for label, item in zip(predicted, test, strict=True))
    return 100 * num_right / len(items)


def folds(num_texts: int, *, seed: int) -> Iterator[Tensor]:
    """Yields is_test_B, whether each text is held out, for each fold. Every text is held out in one fold."""
    order = torch.randperm(num_texts, generator=torch.Generator().manual_seed(seed))
    for fold in range(FOLDS):
        is_test_B = torch.zeros(num_texts, dtype=torch.bool)
        is_test_B[order[fold::FOLDS]] = True
        yield is_test_B


def held_out_scores(z_BD: Tensor, targets_BC: Tensor, *, seed: int) -> Tensor:
    """Returns scores_BC by ridge regression, each text by the regression that was not trained on it."""
    inputs_BD = torch.cat([z_BD, torch.ones(len(z_BD), 1)], dim=1)
    scores_BC = torch.empty_like(targets_BC)
    for is_test_B in folds(len(z_BD), seed=seed):
        train_BD = inputs_BD[~is_test_B]
        gram_DD = train_BD.T @ train_BD + PENALTY * torch.eye(train_BD.shape[1])
        weights_DC = torch.linalg.solve(gram_DD, train_BD.T @ targets_BC[~is_test_B])
        scores_BC[is_test_B] = inputs_BD[is_test_B] @ weights_DC
    return scores_BC


def mean_average_precision(scores_BC: Tensor, has_BC: Tensor) -> float:
    """Returns the mean over labels of the average precision of the label's texts, ranked by score. In [0, 1]."""
    values = [_average_precision(*columns) for columns in zip(scores_BC.T, has_BC.T, strict=True)]
    return sum(values) / len(values)


def _average_precision(scores_B: Tensor, has_B: Tensor) -> float:
    ranked_B = has_B[scores_B.argsort(descending=True)].double()
    precision_B = ranked_B.cumsum(0) / torch.arange(1, len(ranked_B) + 1)
    return float((precision_B * ranked_B).sum() / ranked_B.sum())
