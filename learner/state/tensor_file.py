"""Stored weights in a file of their own: under a key, and whole or absent.

    tensors --write_tensors--> key, SHA-256 of the rest, safetensors --read_tensors, the same key--> tensors

Rejected: the weights of an encoder in every checkpoint (they are 23 MB, and change when an operator wants them to).
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import load, save

from model.qtensor import QTensor
from wire.files import atomic_write

KEY_BYTES = sha256().digest_size
"""The length of a key."""


def write_tensors(path: Path, key: bytes, tensors: Mapping[str, QTensor]) -> None:
    """Writes the file, synced. Raises OSError."""
    parts: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        for part_name, part in tensor.parts.items():
            parts[f"{name}:{tensor.scheme}:{part_name}"] = part.contiguous()
    body = save(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, is_synced=True) as file:
        file.write(key + sha256(body).digest() + body)


def read_tensors(path: Path, key: bytes) -> dict[str, QTensor] | None:
    """Returns what was written under `key`; None where there is no such file, or a byte is not what was written."""
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
