import torch
from torch import Tensor
from torch.nn.functional import normalize

from learner.fast.rows import BETA, PRIOR_LABELS, blend, decoder, row_scales
from model.head import features

R = 512
D = 32
C = 20
RNG = torch.Generator().manual_seed(0)
PROJ = torch.randn(R, D, generator=RNG)
DECODER = decoder(PROJ)


def unit(num: int) -> Tensor:
    return normalize(torch.randn(num, D, generator=RNG), dim=1)


def test_the_decoder_finds_the_unit_vector_in_its_random_features() -> None:
    z_BD = unit(200)
    decoded_BD = features(z_BD, PROJ) @ DECODER
    assert float((normalize(decoded_BD, dim=1) * z_BD).sum(dim=1).mean()) > 0.98


def test_a_class_with_one_label_is_found_by_the_nearest_mean() -> None:
    means_CD = unit(C)
    z_CD = normalize(means_CD + 0.5 * unit(C), dim=1)
    counts_C = torch.ones(C)
    scales_C = row_scales(counts_C)
    rows_CR = blend(torch.zeros(C, R), means_CD, counts_C, scales_C, DECODER)
    logits_CC = features(z_CD, PROJ) @ rows_CR.T
    assert torch.equal(logits_CC.argmax(dim=1), (z_CD @ means_CD.T).argmax(dim=1))
    cosines_CC = BETA * PRIOR_LABELS / (PRIOR_LABELS + 1) * z_CD @ means_CD.T
    assert float((logits_CC - cosines_CC).abs().max()) < 0.2


def test_a_class_with_many_labels_keeps_its_ridge_row() -> None:
    weights_CR = torch.randn(C, R, generator=RNG)
    counts_C = torch.full((C,), 1e9)
    rows_CR = blend(weights_CR, unit(C), counts_C, torch.ones(C), DECODER)
    torch.testing.assert_close(rows_CR, weights_CR)


def test_a_prototypes_share_does_not_depend_on_other_counts() -> None:
    """The prototype is divided by the scale factor, since the whole row is multiplied by it later."""
    means_CD = unit(1)
    served = []
    for other in (3, 100):
        scales_C = row_scales(torch.tensor([3, other]))[:1]
        served.append(scales_C * blend(torch.zeros(1, R), means_CD, torch.tensor([3]), scales_C, DECODER))
    torch.testing.assert_close(*served)


def test_a_class_without_a_sample_has_a_row_of_zeros() -> None:
    counts_C = torch.zeros(2)
    rows_CR = blend(torch.zeros(2, R), torch.zeros(2, D), counts_C, row_scales(counts_C), DECODER)
    assert not rows_CR.any()
