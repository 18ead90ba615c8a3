"""The head: random features, then one linear layer to the classes.

    z_BD --relu(z @ proj^T)--> features_BR --features @ out^T + bias--> logits_BC

The projection is drawn once and never trained, so what is learned is linear in fixed features: a ridge regression with
sufficient statistics, exact, without forgetting (RanPAC, arXiv 2307.02251, equations 4 to 7). Its rows are allocated to
`label_capacity`; rows beyond the known labels are zero and never read, so a new class is a new version of `head.out`,
not of the model.

Shape suffixes: B texts, D width, R random features, C classes.
"""

import numpy as np
import torch
from torch import Tensor

from model.config import StrataConfig
from model.errors import WrongShape
from model.qtensor import QTensor
from model.quantize import quantize_w8c

PROJ = "head.proj"
OUT = "head.out"


def projection(config: StrataConfig, *, seed: int = 0) -> Tensor:
    """proj_RD float32, standard normal: the same numbers for the same seed on every machine and in every release.

    numpy's RandomState is frozen for that purpose; torch's generators are not.
    """
    draws = np.random.RandomState(seed).standard_normal((config.head_features, config.d_model))
    return torch.from_numpy(draws).float()


def features(z_BD: Tensor, proj_RD: Tensor) -> Tensor:
    """features_BR in full precision."""
    return torch.relu(z_BD @ proj_RD.t())


def logits(z_BD: Tensor, proj_RD: Tensor, out_CR: Tensor, bias_C: Tensor) -> Tensor:
    """logits_BC in full precision."""
    return features(z_BD, proj_RD) @ out_CR.t() + bias_C


def proj_weight(config: StrataConfig, *, seed: int = 0) -> QTensor:
    """`head.proj` as it is stored."""
    return quantize_w8c(PROJ, projection(config, seed=seed))


def out_weight(config: StrataConfig, out_CR: Tensor, bias_C: Tensor) -> QTensor:
    """`head.out` as it is stored: filled up with zero rows to the label capacity. Raises WrongShape."""
    num_labels, num_features = out_CR.shape
    if num_labels > config.label_capacity or num_features != config.head_features or len(bias_C) != num_labels:
        raise WrongShape(
            f"{OUT}: weight {tuple(out_CR.shape)} and bias {tuple(bias_C.shape)}; expected "
            f"[C, {config.head_features}] and [C] with C <= {config.label_capacity}"
        )
    spare = config.label_capacity - num_labels
    pad = torch.nn.functional.pad
    return quantize_w8c(OUT, pad(out_CR, (0, 0, 0, spare)), pad(bias_C, (0, spare)))
