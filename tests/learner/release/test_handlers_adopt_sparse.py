"""A pruned encoder is adopted by a running learner: its slow rounds change weights, and leave the masks as they are."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kernels.sparse_i8.reference import expand
from lifelong.compress.sparsity import attach_sparse_grids, feed_forward_matrices, most_important
from model.config import StrataConfig
from model.linears import linear_at
from model.qtensor import QTensor, from_blob
from model.quantized import QuantizedEncoder
from model.ragged import RaggedBatch
from model.sparse import BCSR, unpack_mask
from model.strata import Strata
from tests.learner.adopt_rig import published_rig
from tests.learner.offers import make_offer, make_strata
from tests.learner.small_learner import CONFIG
from wire.store import Store

pytestmark = pytest.mark.live


def pruned() -> Strata:
    strata = copy.deepcopy(make_strata(CONFIG))
    masks: dict[str, Tensor] = {}
    for name in feed_forward_matrices(strata):
        layer = linear_at(strata, name)
        masks[name] = most_important(layer.weight.detach(), torch.ones(layer.in_features), 0.6)
    attach_sparse_grids(strata, masks)
    return strata


def read_weights(store: Store, version: int) -> dict[str, QTensor]:
    """Returns the weights of a version as a replica reads them."""
    entries = store.versions.manifest(version).tensors
    return {entry.name: from_blob(entry, store.blobs.get(entry.digest, entry.num_bytes)) for entry in entries}


def test_a_pruned_encoder_is_adopted_and_its_masks_stay(store: Store, tmp_path: Path) -> None:
    rig = published_rig(store, tmp_path)
    outcome = rig.offer(make_offer(store, CONFIG, strata=pruned()))
    assert outcome is not None and (outcome.state, outcome.version) == ("published", 2)
    rig.learn(300, 360)
    rig.train()
    version = rig.publish()
    before, after = (read_weights(store, number) for number in (2, version))
    sparse = {name for name, tensor in before.items() if tensor.scheme == BCSR}
    assert sparse == {f"layers.{layer}.{part}" for layer in (0, 1) for part in ("up", "down")}
    for name in sparse:
        assert torch.equal(before[name].parts["mask"], after[name].parts["mask"])
        assert not after[name].q_NK[~expand(unpack_mask(after[name].parts["mask"]))].any()
    changed = {name for name in sparse if before[name].digest != after[name].digest}
    assert changed == {"layers.1.up", "layers.1.down"}, "the trained block ships its values, and no other one"
    config = StrataConfig.from_json(store.versions.manifest(version).config)
    texts = ["stop the music", "rain"]
    token_ids = rig.learner.fast_head.served.tokens(texts)
    z_BD = QuantizedEncoder.from_tensors(config, after).encode(RaggedBatch.of(token_ids))
    assert torch.equal(z_BD, rig.learner.fast_head.served.z_many(texts))


def test_a_restarted_learner_goes_on_with_the_masks(store: Store, tmp_path: Path) -> None:
    rig = published_rig(store, tmp_path)
    rig.offer(make_offer(store, CONFIG, strata=pruned()))
    rig.learn(300, 360)
    rig.train()
    before = read_weights(store, rig.publish())
    rig.start()
    rig.learn(360, 420)
    rig.train()
    after = read_weights(store, rig.publish())
    for name, tensor in before.items():
        assert after[name].scheme == tensor.scheme
        if tensor.scheme == BCSR:
            assert torch.equal(after[name].parts["mask"], tensor.parts["mask"])
    assert before["layers.1.up"].digest != after["layers.1.up"].digest
