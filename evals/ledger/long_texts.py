"""Compares what a head can tell of contracts by their first 512 tokens and by 8,192: row E1.

    MiniLM, and MiniLM with repeated positions --INT8, as replicas encode--> vectors of every contract
    vectors, labels of four fifths --closed form--> scores of the last fifth, for each fifth

Which kinds of clauses a contract has is written anywhere in it; of which type it is, in its first lines.

Rejected: the learner's head (it gives a text one class, and a contract has many clauses).

Shape suffixes: B contracts, D width, C labels.
"""

from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from evals.ledger.contracts import clauses, contracts
from evals.ledger.experiment import Figure, SeedRun
from evals.results.row import Peer
from model.bert import load_encoder
from model.convert.positions import repeat_positions
from model.quantized import INT8, QuantizedEncoder
from model.strata import encode_many
from model.weights import encoder_tensors

SHORT, LONG = 512, 8_192
FOLDS = 5
PENALTY = 1.0


def cuad_gain(run: SeedRun) -> Figure:
    """Returns the points of mean average precision over kinds of clauses that the rest of a text is worth.

    The folds are drawn by the seed. Raises Skip.
    """
    kinds = clauses(run.data)
    types = [item.label for item in contracts(run.data)]
    has_BC = torch.tensor([list(each.values()) for each in kinds], dtype=torch.float32)
    names = sorted(set(types))
    type_BC = torch.nn.functional.one_hot(torch.tensor([names.index(each) for each in types])).float()
    precision: dict[int, float] = {}
    rightly: dict[int, float] = {}
    for num_tokens in (SHORT, LONG):
        run.say(f"encoding {len(types)} contracts of at most {num_tokens} tokens")
        z_BD = _vectors(run.data, num_tokens)
        scores_BC = held_out_scores(z_BD, torch.cat([has_BC, type_BC], dim=1), seed=run.seed)
        of_kinds_BC, of_types_BC = scores_BC.tensor_split([has_BC.shape[1]], dim=1)
        precision[num_tokens] = 100 * mean_average_precision(of_kinds_BC, has_BC)
        rightly[num_tokens] = 100 * float((of_types_BC.argmax(1) == type_BC.argmax(1)).float().mean())
    return Figure(
        bar="cuad_gain",
        value=round(precision[LONG] - precision[SHORT], 2),
        peers=(Peer("512 tokens", 0.0),),
        note=f"mean average precision {precision[SHORT]:.1f} and {precision[LONG]:.1f} %; "
        f"types of contracts {rightly[SHORT]:.1f} and {rightly[LONG]:.1f} % right",
    )


@cache
def _vectors(data: Path | None, num_tokens: int) -> Tensor:
    """Returns z_BD of all contracts; minutes for long ones, and the same for every seed."""
    strata, tokenizer = load_encoder("minilm-l6", max_tokens=SHORT)
    if num_tokens > SHORT:
        strata = repeat_positions(strata, num_tokens)
    encoder = QuantizedEncoder.from_tensors(strata.config, encoder_tensors(strata))
    token_ids = tokenizer.encode_many([item.text for item in contracts(data)], max_tokens=num_tokens)
    return encode_many(partial(encoder.encode, precision=INT8), token_ids, batch_size=1)


def held_out_scores(z_BD: Tensor, targets_BC: Tensor, *, seed: int) -> Tensor:
    """Returns the scores_BC of ridge regressions, each row by one that was not shown it."""
    inputs_BD = torch.cat([z_BD, torch.ones(len(z_BD), 1)], dim=1)
    order = torch.randperm(len(z_BD), generator=torch.Generator().manual_seed(seed))
    scores_BC = torch.empty_like(targets_BC)
    for fold in range(FOLDS):
        is_held = torch.zeros(len(z_BD), dtype=torch.bool)
        is_held[order[fold::FOLDS]] = True
        shown_BD = inputs_BD[~is_held]
        gram_DD = shown_BD.T @ shown_BD + PENALTY * torch.eye(shown_BD.shape[1])
        scores_BC[is_held] = inputs_BD[is_held] @ torch.linalg.solve(gram_DD, shown_BD.T @ targets_BC[~is_held])
    return scores_BC


def mean_average_precision(scores_BC: Tensor, has_BC: Tensor) -> float:
    """Returns the mean over labels of the mean precision at each of its texts, in the order of the scores."""
    values = [_average_precision(*columns) for columns in zip(scores_BC.T, has_BC.T, strict=True)]
    return sum(values) / len(values)


def _average_precision(scores_B: Tensor, has_B: Tensor) -> float:
    ranked_B = has_B[scores_B.argsort(descending=True)].double()
    precision_B = ranked_B.cumsum(0) / torch.arange(1, len(ranked_B) + 1)
    return float((precision_B * ranked_B).sum() / ranked_B.sum())
