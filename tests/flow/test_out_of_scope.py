"""Texts of no class are refused: CLINC150's out-of-scope texts, by a frozen MiniLM and the closed-form head.

15,000 training texts --> head        3,000 validation texts --> quantiles, threshold        test texts --> refused?
"""

import gzip
import json

import pytest
import torch

from learner.config import LearnerConfig
from learner.encoder.served import export_head
from learner.fast.fast_head import FastHead
from learner.learner import Learner
from learner.quality.evaluation import fit_certainty
from learner.samples import Labelled
from lifelong.plugins.kinds.class_tensors import TENSORS, ClassTargets
from model.bert import load_encoder
from serving.config import RefusalConfig
from serving.refusal import Refusal
from tests.required import FILES, data_folder

pytestmark = pytest.mark.slow  # 24,000 texts are encoded: a minute and a half


def auroc(in_scope: torch.Tensor, out_of_scope: torch.Tensor) -> float:
    """The probability that a text in scope is the more certain one of a pair."""
    wins = (in_scope[:, None] > out_of_scope).float() + 0.5 * (in_scope[:, None] == out_of_scope)
    return float(wins.mean())


def test_texts_out_of_scope_are_told_from_those_in_scope() -> None:
    data = json.loads(gzip.decompress((data_folder("clinc150") / FILES["clinc150"]).read_bytes()))
    head: FastHead = Learner(LearnerConfig(trainable_layers=0), *load_encoder("minilm-l6")).fast_head
    head.admit_all(sorted({label for _, label in data["train"]}))
    head.relearn([Labelled(text, label) for text, label in data["train"]])
    served = head.served
    classes = head.ridge.classes
    rows = {label: row for row, label in enumerate(classes)}
    weights_CR = head.solve()
    val_VD = served.z_many([text for text, _ in data["val"]])
    rows_V = torch.tensor([rows[label] for _, label in data["val"]])
    outputs_VC = served.features(val_VD) @ weights_CR.T
    temperature = TENSORS.calibrate(outputs_VC, ClassTargets(rows_V)).temperature
    scored = served.head(export_head(served.config, weights_CR, temperature=temperature))
    logits_VC = scored.logits(val_VD, len(classes))
    certainty = fit_certainty(logits_VC, logits_VC.argmax(dim=1) == rows_V, torch.ones(len(rows_V), dtype=torch.bool))

    rule = Refusal(RefusalConfig(known_share=0.05), certainty)
    found = {}
    for split in ("test", "oos_test"):
        logits_NC = scored.logits(served.z_many([text for text, _ in data[split]]), len(classes))
        found[split] = torch.tensor(rule.certainties(logits_NC))
    threshold = rule.threshold
    answered = float((found["test"] >= threshold).float().mean())
    refused = float((found["oos_test"] < threshold).float().mean())
    print(f"AUROC {auroc(found['test'], found['oos_test']):.4f}, answered {answered:.4f}, refused {refused:.4f}")
    assert auroc(found["test"], found["oos_test"]) >= 0.95
    assert answered >= 0.94 and refused >= 0.80
    at_95 = found["test"].quantile(0.05)
    assert float((found["oos_test"] < at_95).float().mean()) >= 0.80
