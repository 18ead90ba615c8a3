"""Quantizes the encoder of the settings, and caches the quantized weights in a file next to the checkpoints.

    Strata --calibrate, round (`model.calibration`)--> tensors --> encoder.cache --next start--> the same tensors
    tensors --write_tensors--> key, SHA-256 of the rest, safetensors --read_tensors, the same key--> tensors

Quantizing the frozen blocks takes a third of the learner's start. The result depends only on the weights, the tokenizer
and the code, and the cache key is a digest of these. A file with another key or a corrupt byte is a cache miss.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import structlog
import torch
from safetensors.torch import load, save

import kernels
import model
from learner.encoder.served import StoredTensor, export_tensor
from model.encoders import find_family
from model.packed import Inputs, Tensors, WholeEncoder
from model.qtensor import QTensor
from wire.files import atomic_write

FILE = "encoder.cache"

log = structlog.get_logger("learner")


def rounded_encoder(
    encoder: WholeEncoder, tokenizer: Inputs, *, first_layer: int, weights_digest: str, cache_dir: Path | None = None
) -> dict[str, StoredTensor]:
    """Quantizes all weights of `encoder`, by the method of its family; returns the tensors by name. Raises NonFinite.

    - `first_layer`: the blocks from this one on are quantized as in training, and the blocks below by calibration.
    - `weights_digest`: the digest of all weights of `encoder`, the last of `lower_digests`.
    - `cache_dir`: the folder of the cache; None for no cache.
    """
    path = cache_dir / FILE if cache_dir else None
    key = _key(encoder, weights_digest, tokenizer, first_layer) if path else b""

    def cached_or_made(make: Callable[[], Tensors]) -> Tensors:
        cached = read_tensors(path, key) if path else None
        tensors = make() if cached is None else cached
        if path and cached is None:
            _write_cache(path, key, tensors)
        return tensors

    tensors = find_family(encoder.config).quantize_initial(
        encoder, tokenizer, first_layer=first_layer, kept=cached_or_made
    )
    return {name: export_tensor(tensor) for name, tensor in tensors.items()}


def _key(encoder: WholeEncoder, weights_digest: str, tokenizer: Inputs, first_layer: int) -> bytes:
    """Returns the cache key: a digest of the weights, the tokenizer, the settings and the source code."""
    digest = sha256()
    for fact in (weights_digest, encoder.config, tokenizer.digest, first_layer, torch.__version__):
        digest.update(f"{fact}\n".encode())
    # A new release may quantize differently, so its code is part of the key.
    for room in (model, kernels):
        for source in sorted(Path(room.__path__[0]).rglob("*.py")):
            digest.update(source.read_bytes())
    return digest.digest()


def _write_cache(path: Path, key: bytes, tensors: Tensors) -> None:
    """Writes the cache file. If the disk fails, a warning is logged, and the next start quantizes again."""
    try:
        write_tensors(path, key, tensors)
    except OSError as error:
        log.warning("encoder_not_kept", path=str(path), reason=str(error))


KEY_BYTES = sha256().digest_size
"""The length of a cache key in bytes."""


def write_tensors(path: Path, key: bytes, tensors: Mapping[str, QTensor]) -> None:
    """Writes tensors to a file, synced to disk. `read_tensors` returns them for the same `key`. Raises OSError."""
    parts: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        for part_name, part in tensor.parts.items():
            parts[f"{name}:{tensor.scheme}:{part_name}"] = part.contiguous()
    body = save(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, is_synced=True) as file:
        file.write(key + sha256(body).digest() + body)


def read_tensors(path: Path, key: bytes) -> dict[str, QTensor] | None:
    """Returns the tensors that were written under `key`; None if the file is missing, corrupt, or has another key."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = data[2 * KEY_BYTES :]
    if data[: 2 * KEY_BYTES] != key + sha256(body).digest():
        return None
    schemes: dict[str, str] = {}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for full_name, part in load(body).items():
        name, scheme, part_name = full_name.split(":")
        schemes[name] = scheme
        parts.setdefault(name, {})[part_name] = part
    return {name: QTensor(name, schemes[name], parts[name]) for name in parts}
