"""A base encoder: one that is untrained here, and how the trained blocks of a state are put on it.

    settings --load, round--> weights, never changed --> served tensors --> + the top blocks of a checkpoint --> served
    stored weights that were adopted ---------------------^

Which one a state stands on is told by `learner.state.bases`.

Rejected: all blocks in every checkpoint (those that are never trained are four fifths of it).

A checkpoint holds the top blocks that were ever trained, which may be more than are trained now, and the digest of the
blocks below them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import structlog
from torch import Tensor

from learner.config import LearnerConfig
from learner.encoder.top import load_top, lower_digests, top_state, with_own_top
from learner.export import ServedEncoder, StoredTensor, export_encoder, export_projection, export_tensor
from learner.fast.fast_head import FastHead
from learner.fast.ridge import num_samples_in
from learner.labels.sample import Labelled
from learner.state.origin import Adopted, Origin, OriginDiff, compare
from learner.state.parts import fast_head_of
from learner.state.rounded import rounded_encoder
from learner.state.snapshot import Snapshot
from model.encoders import WholeEncoder
from model.errors import WrongConfig
from model.features import SCALES
from model.grid import attach_grids
from model.head import PROJ
from model.module_encoder import WholeModule
from model.packed import Inputs
from model.plan import names_from
from model.qtensor import NUMBERS, QTensor

log = structlog.get_logger("learner")


class RestoredEncoder(NamedTuple):
    """What a snapshot restores to under the settings of now, and what is different from the settings of then."""

    strata: WholeEncoder
    fast_head: FastHead
    change: OriginDiff


class BaseEncoder:
    """Owns `strata`, whose config gets the head of `config`. Raises WrongConfig where these do not fit it.

    `cache_dir` is the folder in which the rounded weights are cached from one start to the next. An encoder that was
    `adopted` is rounded already, to the weights `stored`.
    """

    def __init__(
        self,
        config: LearnerConfig,
        strata: WholeEncoder,
        tokenizer: Inputs,
        *,
        cache_dir: Path | None = None,
        stored: Mapping[str, QTensor] | None = None,
        adopted: Adopted | None = None,
    ) -> None:
        strata.resize_head(head_features=config.num_features, label_capacity=config.label_capacity)
        shape = strata.config
        if config.deepest_layers > shape.n_layers:
            raise WrongConfig(f"{config.deepest_setting}, but the encoder has {shape.n_layers} blocks")
        self.strata = strata
        self.config = config
        self.adopted = adopted
        self._tokenizer = tokenizer
        self._lower_digests = lower_digests(strata)
        self._num_kept = config.deepest_layers  # top blocks that may have been trained
        first_layer = shape.n_layers - config.deepest_layers
        if isinstance(strata, WholeModule):
            tensors = export_encoder(strata)
        elif stored is None:
            digest = self._lower_digests[-1]
            tensors = rounded_encoder(
                strata, tokenizer, first_layer=first_layer, weights_digest=digest, cache_dir=cache_dir
            )
        else:
            tensors = _as_stored(strata, stored, first_layer)
        tensors[PROJ] = export_projection(shape, seed=config.seed)
        self.served = ServedEncoder(shape, tokenizer, tensors)

    @property
    def key(self) -> str:
        """The key of the encoder as it is served where nothing was trained; it is equal for equal bases alone."""
        return self.served.key

    @property
    def identity(self) -> str:
        """The digest of the settings that it is of, and of its weights before they are rounded."""
        facts = (self._lower_digests[-1], self.config.num_features, self.config.label_capacity, self._tokenizer.digest)
        return sha256(" ".join(map(str, facts)).encode()).hexdigest()

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
        fast_head = fast_head_of(self.config, served)
        if change.is_rebuilt:
            fast_head.admit_all(snapshot.facts.classes)
            fast_head.relearn(memory)
        else:
            fast_head.restore(snapshot.sums, snapshot.facts.classes)
        if change:
            num_lost = num_samples_in(snapshot.sums) - fast_head.ridge.num_samples
            log.warning("migrated", changed=change.settings, samples_lost=num_lost, blocks_kept=change.is_same_encoder)
        return RestoredEncoder(strata, fast_head, change)

    def top(self, strata: WholeEncoder) -> dict[str, Tensor]:
        """Returns the weights of the blocks of `strata` that may have been trained, by name."""
        return top_state(strata, self._first_kept)

    def _compare(self, snapshot: Snapshot) -> OriginDiff:
        old = snapshot.origin
        is_same = self._is_same(old)
        new = self._origin(max(self._num_kept, old.trainable_layers) if is_same else self._num_kept)
        return compare(old, new, is_same_encoder=is_same, num_classes=len(snapshot.facts.classes))

    def _with_blocks_of(self, snapshot: Snapshot, like: ServedEncoder) -> tuple[WholeEncoder, ServedEncoder]:
        """Returns the encoder of `snapshot`, as trained and as served. It takes no block of another encoder."""
        is_same = self._is_same(snapshot.origin)
        if is_same:
            self._num_kept = max(self._num_kept, snapshot.origin.trainable_layers)
        strata = with_own_top(self.strata, self._first_kept)
        if is_same:
            load_top(strata, snapshot.top)
        top = export_encoder(strata, first_layer=self._first_kept)
        attach_grids(strata, {name: stored.tensor for name, stored in top.items()})  # an older checkpoint has none
        if snapshot.scales:
            top[SCALES] = export_tensor(QTensor(SCALES, NUMBERS, snapshot.scales))
        served = self.served.tensors | top
        is_like = like.config == self.served.config and like.tensors.keys() == served.keys()
        is_like = is_like and all(stored.entry == like.tensors[name].entry for name, stored in served.items())
        return strata, like if is_like else self.served.with_top(top)

    def _is_same(self, old: Origin) -> bool:
        has_blocks = old.trainable_layers <= self.strata.config.n_layers
        return has_blocks and old.encoder == self._lower_digests[-1 - old.trainable_layers]

    def _origin(self, num_kept: int) -> Origin:
        return Origin(
            encoder=self._lower_digests[-1 - num_kept],
            seed=self.config.seed,
            num_features=self.config.num_features,
            trainable_layers=num_kept,
            label_capacity=self.config.label_capacity,
            max_tokens=self._tokenizer.max_tokens,
            tokenizer=self._tokenizer.digest,
        )

    @property
    def _first_kept(self) -> int:
        return self.strata.config.n_layers - self._num_kept


def _as_stored(strata: WholeEncoder, stored: Mapping[str, QTensor], first_layer: int) -> dict[str, StoredTensor]:
    """Returns stored weights as tensors of a version; the blocks of `strata` from `first_layer` on get their grids."""
    attach_grids(strata, {name: stored[name] for name in names_from(stored, first_layer)})
    return {name: export_tensor(tensor) for name, tensor in stored.items()}
