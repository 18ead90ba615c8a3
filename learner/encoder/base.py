"""The base encoder under the trained blocks. It comes from the settings, or from an operator's offer that was adopted.

    settings --load, quantize--> frozen tensors + the top blocks of a checkpoint --> served encoder
    EncoderOffer, blobs --take: check, write to a file next to the checkpoints--> BaseEncoder, `Adopted`
    `Adopted` in a checkpoint --restored: read the file--> BaseEncoder
    Origin of the checkpoint, Origin of the settings --compare--> equal | the sums are rebuilt | StateRefused

**Trained blocks.** Slow rounds train a copy of the top blocks (`with_own_top`). The trained weights (`top_state`,
`load_top`) only fit on the frozen blocks with which they were trained, which a digest identifies (`lower_digests`). A
checkpoint has all top blocks that were ever trained, which may be more than are trained now, and this digest.

**Origin.** The origin of a learner's state is the encoder and the settings with which the state was made. The sums of
the head are sums of features. So another encoder, seed or number of features makes them useless. The texts in the
replay buffer stay valid, and the sums are rebuilt from them, as after a slow round. Samples that the buffer has dropped
are lost, and the log says how many. A head with more rows needs no rebuild. A head with fewer rows is refused if the
known classes do not fit.

**Adopted encoders.** An adopted encoder replaces the encoder of the settings until the operator changes one of the
settings `encoder`, `learner.num_features` or `learner.label_capacity`. Then the settings apply again.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain, groupby
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from torch import Tensor

from learner.config import MAX_FEATURES, MIN_FEATURES, LearnerConfig
from learner.encoder.rounded import read_tensors, rounded_encoder, write_tensors
from learner.encoder.served import ServedEncoder, StoredTensor, export_encoder, export_projection, export_tensor
from learner.errors import OfferRefused, StateRefused
from learner.failpoints import failpoint
from model.encoders import config_from_json, find_family
from model.errors import ModelError, WrongConfig
from model.grid import attach_grids, set_grids
from model.head import PROJ
from model.packed import EncoderConfig, Inputs, WholeEncoder
from model.plan import layer_index, names_at_or_above
from model.qtensor import FP32, NUMBERS, QTensor
from wire.records import EncoderOffer


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The encoder and the settings with which a learner's state was made.

    `encoder` is the digest of all weights below the trained blocks. 0 and "" mean that an older release did not write
    the field.
    """

    encoder: str
    seed: int
    num_features: int
    trainable_layers: int
    label_capacity: int = 0
    max_tokens: int = 0
    tokenizer: str = ""


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    """An encoder that an operator offered, and that replaces the encoder of the settings.

    - `offer`, `name`: the id and the name of the offer.
    - `key`: the digest of its `config` and weights; the weights are in a file that is named by it.
    - `num_features`, `label_capacity`: the shape of the head.
    - `max_loss`: the loss of accuracy that the operator accepted.
    - `instead_of`: the identity (`BaseEncoder.identity`) of the encoder of the settings that it replaces.
    """

    offer: str
    name: str
    key: str
    config: str
    num_features: int
    label_capacity: int
    max_loss: float | None = None
    instead_of: str


SETTINGS = {
    "seed": "seed",
    "num_features": "learner.num_features",
    "trainable_layers": "learner.trainable_layers or a deeper tier",
    "label_capacity": "learner.label_capacity",
    "max_tokens": "serving.max_tokens",
    "tokenizer": "encoder (its tokenizer)",
}
"""The setting behind each field of `Origin`, as an operator writes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OriginDiff:
    """The settings that differ between two origins, each as "old -> new". `is_rebuilt`: the sums must be rebuilt."""

    settings: dict[str, str] = field(default_factory=dict)
    is_same_encoder: bool = True
    is_rebuilt: bool = False

    def __bool__(self) -> bool:
        return bool(self.settings)


def compare_origins(old: Origin, new: Origin, *, is_same_encoder: bool, num_classes: int) -> OriginDiff:
    """Compares `old`, the origin of a state with `num_classes` classes, with `new`, the origin under current settings.

    Blocks that were trained once are kept, even if they are not trained further. So if the encoder is the same,
    `new.trainable_layers` is at least `old.trainable_layers`. Raises StateRefused if the head would have fewer rows
    than there are classes.
    """
    if num_classes > new.label_capacity:
        raise StateRefused(
            f"learner.label_capacity is {new.label_capacity}, but {num_classes} classes are known (it was "
            f"{old.label_capacity or 'more'}): set it to {num_classes} or more, or move the files of learner.state_dir "
            "elsewhere to start with an empty state"
        )
    values = {name: (getattr(old, name), getattr(new, name)) for name in SETTINGS}
    differing = {name for name, (before, after) in values.items() if before and before != after}
    if old.seed != new.seed:
        differing.add("seed")
    if old.trainable_layers != new.trainable_layers:
        differing.add("trainable_layers")
    settings = {SETTINGS[name]: f"{values[name][0]} -> {values[name][1]}" for name in sorted(differing)}
    if not is_same_encoder:
        settings["encoder"] = f"{old.encoder[:12]} -> {new.encoder[:12]}"
    return OriginDiff(
        settings=settings,
        is_same_encoder=is_same_encoder,
        is_rebuilt=not is_same_encoder or bool(differing - {"label_capacity"}),
    )


class BaseEncoder:
    """A frozen encoder in full precision (`strata`) and in quantized form, as replicas serve it (`served`).

    It owns `strata`, and gives its head the shape that `config` demands.

    - `cache_dir`: the folder in which the quantized weights are cached between starts.
    - `adopted`: set if an operator offered the encoder. Then `stored` has its weights, which are already quantized.

    Raises WrongConfig if the encoder has fewer blocks than `config` trains.
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
        # The number of top blocks that may have been trained.
        self._num_kept = config.deepest_layers
        first_layer = shape.n_layers - config.deepest_layers
        if stored is None:
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
        """Identifies the quantized encoder without trained blocks: two base encoders are equal if their keys are."""
        return self.served.key

    @property
    def identity(self) -> str:
        """A digest of the weights before quantization, of the tokenizer and of the head's settings."""
        facts = (self._lower_digests[-1], self.config.num_features, self.config.label_capacity, self._tokenizer.digest)
        return sha256(" ".join(map(str, facts)).encode()).hexdigest()

    def spec_for(self, num_rows: int) -> str:
        """Returns the `model_spec` of a version whose head has `num_rows` rows."""
        return replace(self.strata.config, label_capacity=num_rows).spec_hash(self._tokenizer.digest)

    @property
    def origin(self) -> Origin:
        """The `Origin` for a state that is exported now."""
        return self._origin(self._num_kept)

    def changed_from(self, old: Origin, *, num_classes: int) -> OriginDiff:
        """Compares `old`, the origin of a state with `num_classes` classes, with the current origin.

        Raises StateRefused if the state does not fit.
        """
        is_same = self._is_same(old)
        new = self._origin(max(self._num_kept, old.trainable_layers) if is_same else self._num_kept)
        return compare_origins(old, new, is_same_encoder=is_same, num_classes=num_classes)

    def with_blocks(
        self, old: Origin, top: Mapping[str, Tensor], states: Mapping[str, Mapping[str, Tensor]], *, like: ServedEncoder
    ) -> tuple[WholeEncoder, ServedEncoder]:
        """Returns the encoder with the trained blocks of a stored state: in full precision, and in quantized form.

        - `old`: the origin of the stored state.
        - `top`: the state's weights of the trained blocks. They are ignored if the state belongs to another encoder.
        - `states`: the statistics of the inputs in the state, such as the scales of numbers, as the parts of tensors.
        - `like`: a quantized encoder that is returned instead of an equal new one, since its caches are filled.
        """
        is_same = self._is_same(old)
        if is_same:
            # Blocks that were trained under deeper settings stay.
            self._num_kept = max(self._num_kept, old.trainable_layers)
        strata = with_own_top(self.strata, self._first_kept)
        if is_same:
            load_top(strata, top)
        stored = export_encoder(strata, first_layer=self._first_kept)
        # Checkpoints of older releases do not have the grids to which weights are rounded.
        attach_grids(strata, {name: each.tensor for name, each in stored.items()})
        for name, parts in states.items():
            scheme = FP32 if parts.keys() == {"value"} else NUMBERS
            stored[name] = export_tensor(QTensor(name, scheme, parts))
        served = self.served.tensors | stored
        is_like = like.config == self.served.config and like.tensors.keys() == served.keys()
        is_like = is_like and all(each.entry == like.tensors[name].entry for name, each in served.items())
        return strata, like if is_like else self.served.with_top(stored)

    def top(self, strata: WholeEncoder) -> dict[str, Tensor]:
        """Returns the weights of the blocks of `strata` that may have been trained, by name."""
        return top_state(strata, self._first_kept)

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


def _as_stored(encoder: WholeEncoder, stored: Mapping[str, QTensor], first_layer: int) -> dict[str, StoredTensor]:
    """Exports quantized weights as tensors of a version; sets the rounding grids of the trained blocks of `encoder`."""
    attach_grids(encoder, {name: stored[name] for name in names_at_or_above(stored, first_layer)})
    return {name: export_tensor(tensor) for name, tensor in stored.items()}


ENCODER_SUFFIX: Final = ".encoder"

MAX_FILES: Final = 8
"""How many adopted encoders are kept in files, the newest. The learner cannot continue from versions of older ones."""


class BaseEncoders:
    """The base encoders of a learner: the encoder of the settings (`of_settings`), and adopted encoders in files.

    `folder` is the folder of the checkpoints. Without a folder, no adopted encoder survives a restart.
    """

    def __init__(
        self, config: LearnerConfig, strata: WholeEncoder, tokenizer: Inputs, *, folder: Path | None = None
    ) -> None:
        self.of_settings = BaseEncoder(config, strata, tokenizer, cache_dir=folder)
        self._config = config
        self._tokenizer = tokenizer
        self._folder = folder

    def restored(self, adopted: Adopted | None, current: BaseEncoder) -> BaseEncoder:
        """Returns the base encoder of a checkpoint: `current` if it is the same, otherwise read from its file.

        `adopted` is the checkpoint's adopted encoder; None means the encoder of the settings. Raises StateRefused if
        the file with the weights is missing.
        """
        if adopted is None or adopted.instead_of != self.of_settings.identity:
            return self.of_settings
        if current.adopted is not None and current.adopted.key == adopted.key:
            return current
        path = self._folder_path(adopted)
        stored = read_tensors(path, bytes.fromhex(adopted.key)) if path else None
        if stored is None:
            raise StateRefused(f"the weights of adopted encoder {adopted.name} are missing: restore the file {path}")
        return self._made(adopted, stored)

    def take(self, offer: EncoderOffer, tensors: Mapping[str, QTensor], current: BaseEncoder) -> BaseEncoder:
        """Returns an offered encoder as a base encoder, and writes its weights to a file.

        If the offer does not set the number of features or of rows of the head, the number of `current` is kept.
        Raises OfferRefused if the encoder cannot be used or its file cannot be written.
        """
        try:
            shape = config_from_json(offer.config)
            adopted = Adopted(
                offer=offer.id,
                name=offer.name,
                key=_key_of(shape, tensors),
                config=shape.canonical_json(),
                num_features=offer.num_features or current.config.num_features,
                label_capacity=offer.label_capacity or current.config.label_capacity,
                max_loss=offer.max_loss,
                instead_of=self.of_settings.identity,
            )
            base = self._made(adopted, tensors)
            if path := self._folder_path(adopted):
                write_tensors(path, bytes.fromhex(adopted.key), tensors)
                self._remove_old()
        except ModelError as error:
            raise OfferRefused(str(error)) from error
        except OSError as error:
            raise OfferRefused(f"its copy could not be written: {error}", may_retry=True) from error
        failpoint("after-take")
        return base

    def offer_problem(self, offer: EncoderOffer, current: BaseEncoder) -> str:
        """Returns why this learner cannot use an offered encoder, and the fix; "" if there is no known reason."""
        return offer_problem(offer, current.config, self._tokenizer)

    def _made(self, adopted: Adopted, stored: Mapping[str, QTensor]) -> BaseEncoder:
        config = replace(self._config, num_features=adopted.num_features, label_capacity=adopted.label_capacity)
        shape = config_from_json(adopted.config)
        strata = find_family(shape).restored(shape, stored)
        return BaseEncoder(config, strata, self._tokenizer, stored=stored, adopted=adopted)

    def _folder_path(self, adopted: Adopted) -> Path | None:
        return self._folder / f"{adopted.key[:32]}{ENCODER_SUFFIX}" if self._folder else None

    def _remove_old(self) -> None:
        assert self._folder is not None
        files = sorted(self._folder.glob(f"*{ENCODER_SUFFIX}"), key=lambda path: path.stat().st_mtime)
        for path in files[:-MAX_FILES]:
            path.unlink(missing_ok=True)


def offer_problem(offer: EncoderOffer, config: LearnerConfig, tokenizer: Inputs) -> str:
    """Returns why a learner with these settings cannot use an offered encoder, and the fix; "" if it can."""
    try:
        shape = config_from_json(offer.config)
    except ModelError as error:
        return str(error)
    if offer.tokenizer != tokenizer.digest:
        return (
            "it has another tokenizer or another prefix than the service: make it from an encoder with the same ones, "
            "or set `encoder` to it and restart the service"
        )
    if tokenizer.vocab_size > shape.vocab:
        return f"it knows {shape.vocab} tokens, but the tokenizer has {tokenizer.vocab_size}"
    if tokenizer.max_tokens > shape.max_sequence:
        return (
            f"it has {shape.max_sequence} positions, but the service cuts texts at {tokenizer.max_tokens} tokens: set "
            "serving.max_tokens lower and restart the service, or offer an encoder with more positions"
        )
    if config.deepest_layers > shape.n_layers:
        return f"it has {shape.n_layers} blocks, but {config.deepest_setting}: set that lower and restart the service"
    if offer.label_capacity and offer.label_capacity < config.label_capacity:
        return f"{offer.label_capacity} rows of the head; expected {config.label_capacity} or more, as it has now"
    if offer.num_features and not MIN_FEATURES <= offer.num_features <= MAX_FEATURES:
        return f"{offer.num_features} features; expected {MIN_FEATURES} to {MAX_FEATURES}"
    return ""


def _key_of(shape: EncoderConfig, tensors: Mapping[str, QTensor]) -> str:
    """Returns a digest of an encoder's shape and of all its weights."""
    digest = sha256(shape.canonical_json().encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} ".encode())
        digest.update(sha256(tensor.to_blob()).digest())
    return digest.hexdigest()


AnyEncoder = TypeVar("AnyEncoder", bound=WholeEncoder)


def with_own_top(encoder: AnyEncoder, first_layer: int) -> AnyEncoder:
    """Returns an encoder with its own copy of the blocks from `first_layer` on. It shares all lower weights."""
    lower = (encoder.embed, *list(encoder.layers)[:first_layer])
    # The copied blocks may use matrices of the shared ones.
    shared = chain.from_iterable(part.modules() for part in lower)
    copied: AnyEncoder = copy.deepcopy(encoder, {id(module): module for module in shared})
    copied.eval()
    return copied


def top_state(encoder: WholeEncoder, first_layer: int) -> dict[str, Tensor]:
    """Returns the weights of the blocks from `first_layer` on, by name."""
    state = encoder.state_dict()
    return {name: state[name] for name in names_at_or_above(state, first_layer)}


def load_top(encoder: WholeEncoder, state: Mapping[str, Tensor]) -> None:
    """Loads weights that `top_state` returned, and sets the grids to which they are rounded."""
    set_grids(encoder, state)
    encoder.load_state_dict(dict(state), strict=False)


def lower_digests(encoder: WholeEncoder) -> list[str]:
    """Returns for each block the digest of all weights below it, and at the end the digest of all weights.

    So if the first `first_layer` blocks are frozen, `lower_digests(...)[first_layer]` identifies the frozen weights.
    The digests also cover the settings of the encoder that change its outputs, such as the pooling.

    >>> from model.config import StrataConfig
    >>> from model.strata import Strata
    >>> len(lower_digests(Strata(StrataConfig(vocab=9, d_model=4, n_layers=2, n_heads=1, d_ff=4))))
    3
    """
    digest = sha256(encoder.config.frozen_facts.encode())
    digests = list[str]()
    state = sorted(encoder.state_dict().items(), key=lambda item: layer_index(item[0]))
    for layer, weights in groupby(state, key=lambda item: layer_index(item[0])):
        # Layer -1 is the embedding.
        if layer >= 0:
            digests.append(digest.hexdigest())
        for name, value in weights:
            digest.update(name.encode())
            digest.update(value.contiguous().numpy())
    return [*digests, digest.hexdigest()]
