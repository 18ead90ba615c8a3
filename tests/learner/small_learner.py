"""A learner that is small and fast: a random encoder of two narrow blocks, and few features."""

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors.torch import save_file

from learner.config import LearnerConfig
from learner.encoder.served import ServedEncoder, export_encoder, export_projection, export_tensor
from learner.learner import Learner
from learner.rounds.worker import INLINE
from learner.samples import Labelled
from lifelong.plugins.inputs.feature_tensors import SCALES, FeatureMap, Scale
from model.architectures import BERT, FIELDS
from model.bert import fold_norm_biases
from model.config import StrataConfig
from model.packed import Inputs, WholeEncoder
from model.source import encoder_folder
from model.strata import Strata
from model.tokenizer import TextTokenizer
from rollout.publication_rule import verdict
from tests.learner.streams import label_of, make_text
from tests.model.published_encoder import write_modules
from wire.config import TrustConfig
from wire.keyring import parse, subject_digest
from wire.receipts import Receipts
from wire.records import Command, CommandBody, CommandOutcome

CONFIG = StrataConfig(
    vocab=30522, d_model=64, n_layers=2, n_heads=2, d_ff=128, max_pos=256, head_features=96, label_capacity=8
)

Setting: TypeAlias = float | str | tuple[int, int] | TrustConfig

SMALL = LearnerConfig(
    num_features=96,
    ridge=1e-4,
    label_capacity=8,
    trainable_layers=1,
    rehearse_after_s=0.0,
    slow_every_labels=60,
    slow_labels_per_step=20,
    slow_batch=8,
    trial_labels=0,
    rebuild_batch=20,
    min_holdout=5,
    holdout_share=0.1,
    publish_interval_s=0.0,
    min_parity_cosine=0.9,
    min_parity_agreement=0.5,
)


@cache
def tokenizer() -> TextTokenizer:
    return TextTokenizer.from_encoder("minilm-l6")


def small_strata(seed: int = 7) -> Strata:
    """An encoder with the same weights every time. Its norm biases are folded, as those of a loaded encoder are."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return fold_norm_biases(Strata(CONFIG)).eval()


def small_served(strata: Strata | None = None) -> ServedEncoder:
    tensors = export_encoder(strata or small_strata()) | {"head.proj": export_projection(CONFIG, seed=0)}
    return ServedEncoder(CONFIG, tokenizer(), tensors)


SUBJECT_DIGEST = partial(subject_digest, parse("a key for the tests").subject)


def with_scales(served: ServedEncoder, scales: Mapping[str, Scale]) -> ServedEncoder:
    """Returns the encoder with other scales of numbers."""
    return served.with_states({SCALES: export_tensor(FeatureMap(CONFIG.d_model, scales).to_tensor())})


def scales_in(learner: Learner) -> FeatureMap:
    """Returns the scales of numbers that the learner has."""
    return FeatureMap.of(CONFIG.d_model, learner.fast_head.served.inputs.states.get(SCALES))


def small_learner(
    receipts: Receipts | None = None, executor: Executor = INLINE, folder: Path | None = None, /, **changed: Setting
) -> Learner:
    return build_learner(small_strata(), tokenizer(), receipts, executor, folder, **changed)


def build_learner(
    whole: WholeEncoder,
    inputs: Inputs,
    receipts: Receipts | None = None,
    executor: Executor = INLINE,
    folder: Path | None = None,
    /,
    **changed: Setting,
) -> Learner:
    """Returns a learner under another encoder, with as few features."""
    return Learner(
        small_config(**changed).limited_to(whole.max_trained_layers),
        whole,
        inputs,
        receipts=receipts,
        subject_digest=SUBJECT_DIGEST,
        cache_dir=folder,
        executor=executor,
        rule=verdict,
    )


def small_config(**changed: Setting) -> LearnerConfig:
    return replace(SMALL, **changed)  # type: ignore[arg-type]


def hold(learner: Learner, body: CommandBody, *, is_applied: bool = True) -> Command:
    """Lets the learner hold a command behind all others, by default as one whose effect it knows."""
    command = Command.of(body, len(learner.commands) + 1, source="", time_ms=1)
    learner.commands.add(command)
    learner.commands.last = command
    if is_applied:
        learner.knowledge.applied_seq = command.seq
        learner.commands.note(CommandOutcome(seq=command.seq, time_ms=1, state="applied"))
    return command


def labelled(first: int, last: int) -> list[Labelled]:
    return [Labelled(make_text(number), label_of(number)) for number in range(first, last)]


def save_encoder(folder: Path) -> str:
    """Writes the small encoder to a folder that `load_encoder` reads; returns its name."""
    shape = {theirs: getattr(CONFIG, ours) for ours, theirs in FIELDS.items()}
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"} | shape))
    write_modules(folder)
    shutil.copy(encoder_folder("minilm-l6") / "tokenizer.json", folder)
    tensors: dict[str, torch.Tensor] = {}
    for name, value in small_strata().state_dict().items():
        names = BERT.names(name, last_layer=CONFIG.n_layers - 1)
        for piece, theirs in zip(value.chunk(len(names)), names, strict=True):
            tensors[theirs] = piece.clone()
    save_file(tensors, folder / "model.safetensors")
    return str(folder)
