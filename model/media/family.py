"""The family `media`: encoders of pictures, sounds and texts, which `lifelong encoder train` writes.

    a folder: config.json, encoder.safetensors, stems.safetensors --open--> WholeMedia, MediaInputs
    text --hashed words--> token ids;   pixels, log-mel --stems--> token ids

Words are hashed to the rows of the embedding (feature hashing: Weinberger et al., arXiv 0902.2206), so any text can be
read and there is no vocabulary to keep. Two words share a row with a probability of 1 / 2,048.
"""

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final
from zlib import crc32

import safetensors
from safetensors.torch import load, save
from torch import Tensor

from model.errors import BadBlob, BadTokens, EncoderNotFound, WrongConfig, WrongShape
from model.grid import attach_grids
from model.media.encoder import FAMILY, MediaConfig, PackedMedia, WholeMedia, part_tensors, stored_part
from model.media.stem import Array, IntegerStem, Stems
from model.media.tokens import MODALITIES, VOCAB, pack
from model.packed import Inputs, PackedEncoder, TensorCache, Tensors
from model.plan import names_at_or_above
from model.quantized import stored_precisions
from model.source import family_in
from model.weights import encoder_tensors, to_strata

CONFIG: Final = "config.json"
WEIGHTS: Final = "encoder.safetensors"
STEMS: Final = "stems.safetensors"
MADE: Final = "made.json"

READING: Final = "hashed words 1"
"""Names how texts are read; another reading is another name."""

_WORD: Final = re.compile(r"\w+|[^\w\s]")

_in_use: dict[str, Stems] = {}


def stems_in_use() -> Stems | None:
    """Returns the stems of the encoder that this process has opened last; None if it has opened none."""
    return _in_use.get("stems")


class MediaInputs:
    """Reads texts and parts for one encoder. Its digest covers the stems, so versions with other stems are refused."""

    name = "an encoder of pictures, sounds and texts"
    probe_texts = ("seven", "the number is four", "?")
    vocab_size = VOCAB

    def __init__(self, config: MediaConfig, stems: Stems, *, max_tokens: int) -> None:
        if not 1 < max_tokens <= config.max_sequence:
            raise WrongConfig(f"max_tokens is {max_tokens}; expected 2 to {config.max_sequence}")
        self.max_tokens = max_tokens
        self.stems = stems
        self.digest = sha256(f"{READING} {config.words} {stems.digest}".encode()).hexdigest()
        self._words = config.words

    def encode_many(self, texts: Sequence[str], *, max_tokens: int | None = None) -> list[list[int]]:
        """Returns the token ids of each text, at most `max_tokens`."""
        limit = self.max_tokens if max_tokens is None else max_tokens
        if limit < 1:
            raise BadTokens(f"max_tokens is {limit}; expected at least 1")
        return [word_ids(text, self._words)[:limit] for text in texts]

    def reads(self, text: str) -> bool:
        return True

    def part_tokens(self, name: str, values: Sequence[Array]) -> list[list[int]]:
        """Returns the token ids of parts of one modality, "image" or "audio". Raises UnreadableInput.

        `values` are pixels uint8 [28, 28], or log-mel energies int16 [F, 40].
        """
        ids: list[list[int]] = pack(MODALITIES[name], self.stems.codes(name, values)).tolist()
        return ids


def word_ids(text: str, num_words: int) -> list[int]:
    """Returns the rows of a text's words, after the row 0, which begins each text."""
    words = _WORD.findall(text.lower())
    return [0, *(1 + crc32(word.encode("utf-8", "replace")) % (num_words - 1) for word in words)]


class MediaFamily:
    """The family `media`. It claims folders whose config.json names it. `EncoderFamily` documents its methods."""

    name = FAMILY

    def claims(self, setting: str) -> bool:
        return family_in(setting) == FAMILY

    def open(self, encoder: str, *, max_tokens: int | None) -> tuple[WholeMedia, Inputs]:
        inputs, config = _opened(encoder, max_tokens)
        whole = WholeMedia(config)
        state = _tensors(Path(encoder).expanduser() / WEIGHTS)[0]
        try:
            whole.load_state_dict(state)
        except RuntimeError as error:
            raise WrongShape(f"{encoder}: {WEIGHTS} does not fit {CONFIG}: {error}") from error
        return whole.eval(), inputs

    def open_inputs(self, encoder: str, *, max_tokens: int | None) -> Inputs:
        return _opened(encoder, max_tokens)[0]

    def config_from_json(self, text: str) -> MediaConfig:
        return MediaConfig.from_json(text)

    def precisions(self, config: MediaConfig, schemes: Mapping[str, str]) -> tuple[str, ...]:
        return stored_precisions(schemes)

    def pack(self, config: MediaConfig, tensors: Tensors, inputs: Inputs) -> PackedEncoder:
        return PackedMedia.from_tensors(config, tensors)

    def quantize_trained(self, whole: WholeMedia, *, first_layer: int | None, grams: Mapping[str, Tensor]) -> Tensors:
        below = part_tensors(whole) if first_layer is None else {}
        return below | encoder_tensors(whole.trunk, first_layer=first_layer, grams=grams)

    def quantize_initial(self, whole: WholeMedia, inputs: Inputs, *, first_layer: int, kept: TensorCache) -> Tensors:
        """Rounds to the nearest integers: there are no calibration inputs that have all modalities."""
        tensors = kept(lambda: self.quantize_trained(whole, first_layer=None, grams={}))
        attach_grids(whole, {name: tensors[name] for name in names_at_or_above(tensors, first_layer)})
        return tensors

    def restored(self, config: MediaConfig, tensors: Tensors) -> WholeMedia:
        whole = WholeMedia(config, to_strata(config.trunk, tensors))
        for name, modality in MODALITIES.items():
            part = whole.embed.parts[name]
            weight, bias = stored_part(config, tensors, modality)
            segment_D = whole.embed.segments[modality.number].detach()
            part.load_state_dict({"weight": weight, "bias": bias - segment_D})
        return whole.eval()


MEDIA: Final = MediaFamily()


def encoder_files(whole: WholeMedia, stems: Mapping[str, IntegerStem], made: Mapping[str, object]) -> dict[str, bytes]:
    """Returns the files of an encoder's folder by name. `made` says how it was made.

    The config is last: if the files are written in this order, a folder that a family claims is complete.
    """
    tensors: dict[str, Tensor] = {}
    for name, stem in stems.items():
        tensors |= stem.tensors(name)
    weights = {name: value.detach().contiguous() for name, value in whole.state_dict().items()}
    return {
        STEMS: save(tensors),
        WEIGHTS: save(weights),
        MADE: json.dumps(made, indent=2).encode(),
        CONFIG: whole.config.canonical_json().encode(),
    }


def _opened(encoder: str, max_tokens: int | None) -> tuple[MediaInputs, MediaConfig]:
    folder = Path(encoder).expanduser()
    config = MediaConfig.from_json(_read(folder / CONFIG).decode("utf-8", "replace"))
    tensors, digest = _tensors(folder / STEMS)
    stems = Stems({name: IntegerStem.from_tensors(tensors, name) for name in MODALITIES}, digest)
    _in_use["stems"] = stems
    return MediaInputs(config, stems, max_tokens=max_tokens or config.max_sequence), config


def _tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Returns the tensors of a file by name, and the SHA-256 of the file."""
    content = _read(path)
    try:
        return load(content), sha256(content).hexdigest()
    except safetensors.SafetensorError as error:
        raise BadBlob(f"{path} cannot be read: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EncoderNotFound(
            f"{path} cannot be read ({error}); `lifelong encoder train` writes such a folder"
        ) from error
