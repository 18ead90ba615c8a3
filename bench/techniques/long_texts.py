"""Compares what is known of contracts by their first 512 tokens and by 8,192: row E1.

    MiniLM, and MiniLM with repeated positions --as a learner serves them--> vectors of every contract
    four fifths --the learner's head--> a model --a replica's engine--> the type of each contract of the last fifth
    four fifths --closed form--> scores of the kinds of clauses in the last fifth

The type of a contract stands in its first lines; which kinds of clauses it has is written anywhere in it.

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
from bench.techniques.replica_engine import named
from bench.techniques.tasks import clauses, contracts, model_with, served_by
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
    """Contracts under an encoder for texts of one length."""

    served: ServedEncoder
    tokenizer: TextTokenizer
    z_BD: Tensor


def cuad_gain(run: Run) -> Iterator[Row]:
    """Yields the points that the rest of a text is worth: of accuracy by type, and of precision by kind of clause.

    The folds are drawn by the seed. Raises Skip.
    """
    items = contracts(data_folder())
    has_BC = torch.tensor([list(each.values()) for each in clauses(data_folder())], dtype=torch.float32)
    rightly: dict[int, float] = {}
    precision: dict[int, float] = {}
    for num_tokens in (SHORT, LONG):
        run.say(f"encoding {len(items)} contracts of at most {num_tokens} tokens")
        encoded = _encoded(data_folder(), num_tokens)
        run.say("naming them by a replica's engine")
        rightly[num_tokens] = accuracy_of_types(encoded, items, seed=run.seed)
        scores_BC = held_out_scores(encoded.z_BD, has_BC, seed=run.seed)
        precision[num_tokens] = 100 * mean_average_precision(scores_BC, has_BC)
    for bar, found in (("cuad_gain", rightly), ("clause_gain", precision)):
        note = f"{found[SHORT]:.1f} % at {SHORT} tokens, {found[LONG]:.1f} % at {LONG}"
        gain = round(found[LONG] - found[SHORT], 2)
        yield run.row(bar, gain, peers=(Peer(f"{SHORT} tokens", 0.0),), note=note)


@cache
def _encoded(data: Path | None, num_tokens: int) -> Encoded:
    """Encodes all contracts; minutes for long ones, and the same for every seed."""
    strata, _ = load_encoder("minilm-l6", max_tokens=SHORT)
    if num_tokens > SHORT:
        strata = repeat_positions(strata, num_tokens)
    tokenizer_json = (encoder_folder("minilm-l6") / "tokenizer.json").read_bytes()
    tokenizer = TextTokenizer(tokenizer_json, max_tokens=num_tokens)
    served = served_by(strata, tokenizer)
    return Encoded(served, tokenizer, served.z_many([item.text for item in contracts(data)]))


def accuracy_of_types(encoded: Encoded, items: Sequence[StreamItem], *, seed: int) -> float:
    """Returns the percentage of contracts that a replica's engine names rightly, each by a head not shown it."""
    served, tokenizer, z_BD = encoded
    labels = sorted({item.label for item in items})
    num_right = 0
    for is_held_B in folds(len(items), seed=seed):
        shown = [Labelled(item.text, item.label) for item, is_held in zip(items, is_held_B, strict=True) if not is_held]
        held = [item for item, is_held in zip(items, is_held_B, strict=True) if is_held]
        head = FastHead(served, penalty=LearnerConfig().ridge)
        head.admit_all(labels)
        shown_BD = z_BD[~is_held_B]
        head.learn_encoded(shown_BD, served.features(shown_BD), shown)
        names = named(model_with(served, head), tokenizer, [item.text for item in held])
        num_right += sum(name == item.label for name, item in zip(names, held, strict=True))
    return 100 * num_right / len(items)


def folds(num_texts: int, *, seed: int) -> Iterator[Tensor]:
    """Yields which texts are held out, as booleans, for each fold; every text is held out once."""
    order = torch.randperm(num_texts, generator=torch.Generator().manual_seed(seed))
    for fold in range(FOLDS):
        is_held_B = torch.zeros(num_texts, dtype=torch.bool)
        is_held_B[order[fold::FOLDS]] = True
        yield is_held_B


def held_out_scores(z_BD: Tensor, targets_BC: Tensor, *, seed: int) -> Tensor:
    """Returns the scores_BC of ridge regressions, each row by one that was not shown it."""
    inputs_BD = torch.cat([z_BD, torch.ones(len(z_BD), 1)], dim=1)
    scores_BC = torch.empty_like(targets_BC)
    for is_held_B in folds(len(z_BD), seed=seed):
        shown_BD = inputs_BD[~is_held_B]
        gram_DD = shown_BD.T @ shown_BD + PENALTY * torch.eye(shown_BD.shape[1])
        weights_DC = torch.linalg.solve(gram_DD, shown_BD.T @ targets_BC[~is_held_B])
        scores_BC[is_held_B] = inputs_BD[is_held_B] @ weights_DC
    return scores_BC


def mean_average_precision(scores_BC: Tensor, has_BC: Tensor) -> float:
    """Returns the mean over labels of the mean precision at each of its texts, in the order of the scores."""
    values = [_average_precision(*columns) for columns in zip(scores_BC.T, has_BC.T, strict=True)]
    return sum(values) / len(values)


def _average_precision(scores_B: Tensor, has_B: Tensor) -> float:
    ranked_B = has_B[scores_B.argsort(descending=True)].double()
    precision_B = ranked_B.cumsum(0) / torch.arange(1, len(ranked_B) + 1)
    return float((precision_B * ranked_B).sum() / ranked_B.sum())
