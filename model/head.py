"""The head: random features, then one linear layer to the classes.

    z_BD --relu(z @ proj^T)--> features_BR --features @ out^T + bias--> logits_BC

The projection is drawn once and never trained, so the head is linear in fixed features. The learner fits it by ridge
regression from sufficient statistics, which is exact and forgets nothing (RanPAC, arXiv 2307.02251, equations 4 to 7).
`head.out` always has `label_capacity` rows. The rows beyond the known classes are zero and are never read. So a new
class changes values of `head.out`, but not its shape.

Shape suffixes: B texts, D width, R random features, C classes.
"""

import numpy as np
import torch
from torch import Tensor

from model.errors import WrongShape
from model.packed import EncoderConfig
from model.qtensor import QTensor
from model.quantize import quantize_w8c

PROJ = "head.proj"
OUT = "head.out"


def projection(config: EncoderConfig, *, seed: int = 0) -> Tensor:
    """Returns the random projection proj_RD: float32, standard normal. A seed gives the same numbers everywhere.

    numpy guarantees that the stream of RandomState never changes. torch gives no such guarantee for its generators.
    """
    draws = np.random.RandomState(seed).standard_normal((config.head_features, config.d_model))
    return torch.from_numpy(draws).float()


def features(z_BD: Tensor, proj_RD: Tensor) -> Tensor:
    """Returns features_BR float32 of unit vectors z_BD, in full precision."""
    return torch.relu(z_BD @ proj_RD.t())


def logits(z_BD: Tensor, proj_RD: Tensor, out_CR: Tensor, bias_C: Tensor) -> Tensor:
    """Returns logits_BC float32 of unit vectors z_BD, in full precision."""
    return features(z_BD, proj_RD) @ out_CR.t() + bias_C


def proj_weight(config: EncoderConfig, *, seed: int = 0) -> QTensor:
    """Returns the stored form of `head.proj`, INT8."""
    return quantize_w8c(PROJ, projection(config, seed=seed))


def free_energies(logits_BC: Tensor, temperature: float) -> Tensor:
    """Returns the negative free energy of each text, divided by the temperature [B] (arXiv 2010.03759).

    It is high if some class is likely, and low if a text belongs to none of the classes.
    """
    return torch.logsumexp(logits_BC / temperature, dim=1)


def out_weight(config: EncoderConfig, out_CR: Tensor, bias_C: Tensor) -> QTensor:
    """Returns the stored form of `head.out`, INT8, padded with zero rows to the label capacity.

    Raises WrongShape for more classes than the capacity, or another number of features.
    """
    num_labels, num_features = out_CR.shape
    if num_labels > config.label_capacity or num_features != config.head_features or len(bias_C) != num_labels:
        raise WrongShape(
            f"{OUT}: weight {tuple(out_CR.shape)} and bias {tuple(bias_C.shape)}; expected "
            f"[C, {config.head_features}] and [C] with C <= {config.label_capacity}"
        )
    spare = config.label_capacity - num_labels
    pad = torch.nn.functional.pad
    return quantize_w8c(OUT, pad(out_CR, (0, 0, 0, spare)), pad(bias_C, (0, spare)))
