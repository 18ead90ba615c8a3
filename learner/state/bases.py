"""The encoders that trained blocks may stand on: that of the settings, and each that an operator has put in its place.

    settings --load--> BaseEncoder
    EncoderOffer, blobs --take: checked, kept in a file beside the checkpoints--> BaseEncoder, Adopted in checkpoints
    Adopted of a checkpoint --of--> the file --> BaseEncoder

An encoder that was adopted holds until the operator changes what it took the place of: after a change of the settings
`encoder`, `learner.num_features` or `learner.label_capacity`, these hold again.

Rejected: reading an adopted encoder from the store when the learner starts (the store may be away, or wiped).
"""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from learner.config import MAX_FEATURES, MIN_FEATURES, LearnerConfig
from learner.errors import OfferRefused, StateRefused
from learner.failpoints import failpoint
from learner.state.base_encoder import BaseEncoder
from learner.state.origin import Adopted
from learner.state.tensor_file import read_tensors, write_tensors
from model.config import StrataConfig
from model.encoders import WholeEncoder
from model.errors import ModelError
from model.packed import Inputs
from model.qtensor import QTensor
from model.weights import to_strata
from wire.records import EncoderOffer

SUFFIX: Final = ".encoder"

MAX_FILES: Final = 8
"""The adopted encoders that are kept, the newest of all: a version older than these can no longer be learnt on from."""


class Bases:
    """Belongs to a learner. `folder` is that of its checkpoints; without one, no adopted encoder survives a restart."""

    def __init__(
        self, config: LearnerConfig, strata: WholeEncoder, tokenizer: Inputs, *, folder: Path | None = None
    ) -> None:
        self.of_settings = BaseEncoder(config, strata, tokenizer, cache_dir=folder)
        self._config = config
        self._tokenizer = tokenizer
        self._folder = folder

    def of(self, adopted: Adopted | None, current: BaseEncoder) -> BaseEncoder:
        """Returns the base of a checkpoint; `current` is at hand. Raises StateRefused where its weights are gone."""
        if adopted is None or adopted.instead_of != self.of_settings.identity:
            return self.of_settings
        if current.adopted is not None and current.adopted.key == adopted.key:
            return current
        path = self._path_of(adopted)
        stored = read_tensors(path, bytes.fromhex(adopted.key)) if path else None
        if stored is None:
            raise StateRefused(f"encoder {adopted.name}, which was adopted, is not in {path}: put the file there again")
        return self._made(adopted, stored)

    def take(self, offer: EncoderOffer, tensors: Mapping[str, QTensor], current: BaseEncoder) -> BaseEncoder:
        """Returns the offered encoder as a base, and keeps a copy. `current` has what the offer leaves as it is.

        Raises OfferRefused.
        """
        try:
            shape = StrataConfig.from_json(offer.config)
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
            if path := self._path_of(adopted):
                write_tensors(path, bytes.fromhex(adopted.key), tensors)
                self._remove_old()
        except ModelError as error:
            raise OfferRefused(str(error)) from error
        except OSError as error:
            raise OfferRefused(f"its copy could not be written: {error}", may_retry=True) from error
        failpoint("after-take")
        return base

    def why_not(self, offer: EncoderOffer, current: BaseEncoder) -> str:
        """Returns why the learner cannot go on with this encoder; "" where nothing is known against it."""
        return why_not(offer, current.config, self._tokenizer)

    def _made(self, adopted: Adopted, stored: Mapping[str, QTensor]) -> BaseEncoder:
        config = replace(self._config, num_features=adopted.num_features, label_capacity=adopted.label_capacity)
        strata = to_strata(StrataConfig.from_json(adopted.config), stored)
        return BaseEncoder(config, strata, self._tokenizer, stored=stored, adopted=adopted)

    def _path_of(self, adopted: Adopted) -> Path | None:
        return self._folder / f"{adopted.key[:32]}{SUFFIX}" if self._folder else None

    def _remove_old(self) -> None:
        assert self._folder is not None
        files = sorted(self._folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime)
        for path in files[:-MAX_FILES]:
            path.unlink(missing_ok=True)


def why_not(offer: EncoderOffer, config: LearnerConfig, tokenizer: Inputs) -> str:
    """Returns what is wrong with an offer for a learner of these settings, with the fix; "" for nothing."""
    try:
        shape = StrataConfig.from_json(offer.config)
    except ModelError as error:
        return str(error)
    if offer.tokenizer != tokenizer.digest:
        return (
            "it has another tokenizer than the service, or another prefix: make it of an encoder that has the same, or "
            "set `encoder` to it and restart the service"
        )
    if tokenizer.vocab_size > shape.vocab:
        return f"it knows {shape.vocab} tokens, but the tokenizer has {tokenizer.vocab_size}"
    if tokenizer.max_tokens > shape.max_sequence:
        return (
            f"it has {shape.max_sequence} positions, but the service cuts texts at {tokenizer.max_tokens} tokens: set "
            "serving.max_tokens lower and restart the service, or offer one with more positions"
        )
    if config.deepest_layers > shape.n_layers:
        return f"it has {shape.n_layers} blocks, but {config.deepest_setting}: set that lower and restart the service"
    if offer.label_capacity and offer.label_capacity < config.label_capacity:
        return f"{offer.label_capacity} rows of the head; expected {config.label_capacity} or more, for it has so many"
    if offer.num_features and not MIN_FEATURES <= offer.num_features <= MAX_FEATURES:
        return f"{offer.num_features} features; expected {MIN_FEATURES} to {MAX_FEATURES}"
    return ""


def _key_of(shape: StrataConfig, tensors: Mapping[str, QTensor]) -> str:
    """Returns the digest of the shape and of all weights."""
    digest = sha256(shape.canonical_json().encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} ".encode())
        digest.update(sha256(tensor.to_blob()).digest())
    return digest.hexdigest()
