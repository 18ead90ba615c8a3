"""Contents to vectors: the probes of a version, and texts of clients who ask for no label."""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.packed import Inputs, PackedEncoder
from model.ragged import RaggedBatch
from serving.terms import EmbeddedText
from serving.weights.active import ActiveVersions
from wire.features import parts_of


def encode_contents(
    contents: Sequence[str], encoder: PackedEncoder, tokenizer: Inputs, precision: str, max_tokens: int
) -> Tensor:
    """Returns z_BD of the contents of events (`wire.features`), as `serving.weights.health` does of events."""
    parts = [parts_of(content) for content in contents]
    token_ids = tokenizer.encode_many([text for text, _ in parts], max_tokens=max_tokens)
    z_BD = encoder.encode(RaggedBatch.of(token_ids), precision)
    return encoder.features.joined(z_BD, parts)


def embed_many(token_ids: Sequence[list[int]], live: ActiveVersions) -> list[EmbeddedText]:
    """Returns the vector of each text by the first arm's version, in the most accurate of its precisions.

    So the vector of a text does not depend on the load, nor on which arm its entity meets. Raises BadTokens, and
    ValueError where the model returns a value that is not finite.
    """
    arm = live.plan.arms[0]
    version = live.versions[arm.version]
    precision = version.model.encoder.precisions[0]
    z_BD = live.health.encode(version.model.encoder, RaggedBatch.of(token_ids), precision)
    if not torch.isfinite(z_BD).all():
        raise ValueError(f"version {version.number} gives a vector that is not finite")
    return [
        EmbeddedText(
            z=z_D.numpy().astype("<f4", copy=False).tobytes(),
            weights_version=version.number,
            arm=arm.name,
            precision=precision,
            encoding=version.encoding,
            num_tokens=len(tokens),
        )
        for tokens, z_D in zip(token_ids, z_BD, strict=True)
    ]
