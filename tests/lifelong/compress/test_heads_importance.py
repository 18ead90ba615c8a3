"""The importance of heads."""

import torch
from torch.nn import functional

from lifelong.compress.heads import LOGIT_SCALE, LabelledTexts, class_means, head_importance, mask_heads
from lifelong.compress.share import share
from model.strata import Strata, encode_many
from tests.lifelong.compress.members import DENSE, TOKEN_IDS, changed, dense_strata

TASK = LabelledTexts(TOKEN_IDS, torch.tensor([0, 1, 2, 0, 1, 2]))
ALL = list(range(DENSE.n_heads))


def gated(strata: Strata, layer: int, head: int, gate: float) -> Strata:
    """Returns the encoder with the output of a head multiplied by `gate`."""
    name = f"layers.{layer}.out.weight"
    gates_H = torch.ones(DENSE.n_heads)
    gates_H[head] = gate
    return changed(strata, **{name: strata.get_parameter(name) * gates_H.repeat_interleave(16)})


@torch.no_grad()
def losses(strata: Strata, means_CD: torch.Tensor) -> torch.Tensor:
    z_BD = encode_many(strata, TOKEN_IDS, batch_size=8)
    return functional.cross_entropy(LOGIT_SCALE * z_BD @ means_CD.t(), TASK.labels_B, reduction="none")


def test_importance_is_the_mean_change_of_the_losses_when_a_gate_moves() -> None:
    strata = dense_strata()
    means_CD = class_means(strata, TASK)
    step = 1e-2
    importance_H = []
    for head in ALL:
        above = losses(gated(strata, 1, head, 1 + step), means_CD)
        below = losses(gated(strata, 1, head, 1 - step), means_CD)
        importance_H.append(float((above - below).abs().mean()) / (2 * step))
    expected_H = functional.normalize(torch.tensor(importance_H), dim=0)
    torch.testing.assert_close(head_importance(strata, [TASK])[1], expected_H, atol=0.02, rtol=0.02)


def test_a_head_without_effect_has_no_importance() -> None:
    kept = {0: ALL, 1: [0, 1, 3], 2: ALL, 3: ALL}
    importance = head_importance(mask_heads(dense_strata(), kept), [TASK])
    assert importance[1][2] == 0
    assert all((importance[1][head] > 0) for head in kept[1])


def test_tasks_have_equal_weight() -> None:
    strata = dense_strata()
    other = LabelledTexts(TOKEN_IDS[:4], torch.tensor([0, 0, 1, 1]))
    one = head_importance(strata, [TASK])
    two = head_importance(strata, [other])
    both = head_importance(strata, [TASK, other])
    for layer in range(DENSE.n_layers):
        torch.testing.assert_close(both[layer], (one[layer] + two[layer]) / 2)


def test_layers_that_share_attention_have_their_own_importance() -> None:
    shared = share(dense_strata(), (0, 0, 2, 2), (0, 1, 2, 3), rank=DENSE.d_model)
    dense = head_importance(dense_strata(), [TASK])
    for layer, importance_H in enumerate(head_importance(shared, [TASK])):
        torch.testing.assert_close(importance_H, dense[layer], atol=1e-4, rtol=1e-3)
