"""The base encoder: the one that the settings name, untrained, and how the trained blocks of a state are put on it.

    settings --load--> weights, never changed --> served tensors --> + the top blocks of a checkpoint --> what is served

A checkpoint holds the top blocks that were ever trained, which may be more than are trained now, and the digest of the
blocks below them.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import structlog
from torch import Tensor

from learner.config import LearnerConfig
from learner.export import ServedEncoder, export_encoder, export_projection
from learner.fast.fast_head import FastHead
from learner.memory.replay import Labelled
from learner.slow.trainer import load_top, lower_digests, top_state, with_own_top
from learner.state.origin import Origin, OriginDiff, compare
from learner.state.rounded import rounded_encoder
from learner.state.snapshot import Snapshot
from model.errors import WrongConfig
from model.grid import attach_grids
from model.head import PROJ
from model.strata import Strata
from model.tokenizer import TextTokenizer

log = structlog.get_logger("learner")


class RestoredEncoder(NamedTuple):
    """What a snapshot restores to under the settings of now, and what is different from the settings of then."""

    strata: Strata
    fast_head: FastHead
    change: OriginDiff


class BaseEncoder:
    """Owns `strata`, whose config becomes that of the settings. Raises WrongConfig where these do not fit it.

    `cache_dir` is the folder in which the rounded weights are cached from one start to the next.
    """

    def __init__(
        self, config: LearnerConfig, strata: Strata, tokenizer: TextTokenizer, *, cache_dir: Path | None = None
    ) -> None:
        shape = replace(strata.config, head_features=config.num_features, label_capacity=config.label_capacity)
        if config.trainable_layers > shape.n_layers:
            raise WrongConfig(
                f"learner.trainable_layers is {config.trainable_layers}, but the encoder has {shape.n_layers} blocks"
            )
        strata.config = shape
        self.strata = strata
        self._config = config
        self._tokenizer = tokenizer
        self._lower_digests = lower_digests(strata)
        self._num_kept = config.trainable_layers  # top blocks that may have been trained
        first_layer = shape.n_layers - config.trainable_layers
        tensors = rounded_encoder(
            strata,
            tokenizer,
            first_layer=first_layer,
            weights_digest=self._lower_digests[-1],
            cache_dir=cache_dir,
        )
        tensors[PROJ] = export_projection(shape, seed=config.seed)
        self.served = ServedEncoder(shape, tokenizer, tensors)

    def spec_of(self, num_rows: int) -> str:
        """Returns the `model_spec` of a version whose head has so many rows."""
        return replace(self.strata.config, label_capacity=num_rows).spec_hash(self._tokenizer.digest)

    @property
    def origin(self) -> Origin:
        """The origin of a state that is exported now."""
        return self._origin(self._num_kept)

    def restore(self, snapshot: Snapshot, memory: Sequence[Labelled], *, like: ServedEncoder) -> RestoredEncoder:
        """Returns the encoder and the sums of `snapshot`; the sums of `memory` where those belong to other features.

        `like` is served on where its weights are the same. Raises StateRefused.
        """
        change = self._compare(snapshot)
        strata, served = self._with_blocks_of(snapshot, like)
        fast_head = FastHead(served, penalty=self._config.ridge, num_recent=self._config.recent_labels)
        if change.is_rebuilt:
            fast_head.admit_all(snapshot.facts.classes)
            fast_head.relearn(memory)
        else:
            fast_head.restore(snapshot.sums, snapshot.facts.classes)
        if change:
            num_lost = int(snapshot.sums["counts"].sum()) - fast_head.ridge.num_samples
            log.warning("migrated", changed=change.settings, samples_lost=num_lost, blocks_kept=change.is_same_encoder)
        return RestoredEncoder(strata, fast_head, change)

    def top(self, strata: Strata) -> dict[str, Tensor]:
        """Returns the weights of the blocks of `strata` that may have been trained, by name."""
        return top_state(strata, self._first_kept)

    def _compare(self, snapshot: Snapshot) -> OriginDiff:
        old = snapshot.origin
        is_same = self._is_same(old)
        new = self._origin(max(self._num_kept, old.trainable_layers) if is_same else self._num_kept)
        return compare(old, new, is_same_encoder=is_same, num_classes=len(snapshot.facts.classes))

    def _with_blocks_of(self, snapshot: Snapshot, like: ServedEncoder) -> tuple[Strata, ServedEncoder]:
        """Returns the encoder of `snapshot`, as trained and as served. It takes no block of another encoder."""
        is_same = self._is_same(snapshot.origin)
        if is_same:
            self._num_kept = max(self._num_kept, snapshot.origin.trainable_layers)
        strata = with_own_top(self.strata, self._first_kept)
        if is_same:
            load_top(strata, snapshot.top)
        top = export_encoder(strata, first_layer=self._first_kept)
        attach_grids(strata, {name: stored.tensor for name, stored in top.items()})  # an older checkpoint has none
        is_like = all(stored.entry == like.tensors[name].entry for name, stored in top.items())
        return strata, like if is_like else like.with_top(top)

    def _is_same(self, old: Origin) -> bool:
        has_blocks = old.trainable_layers <= self.strata.config.n_layers
        return has_blocks and old.encoder == self._lower_digests[-1 - old.trainable_layers]

    def _origin(self, num_kept: int) -> Origin:
        return Origin(
            encoder=self._lower_digests[-1 - num_kept],
            seed=self._config.seed,
            num_features=self._config.num_features,
            trainable_layers=num_kept,
            label_capacity=self._config.label_capacity,
            max_tokens=self._tokenizer.max_tokens,
            tokenizer=self._tokenizer.digest,
        )

    @property
    def _first_kept(self) -> int:
        return self.strata.config.n_layers - self._num_kept
