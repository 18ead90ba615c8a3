"""The tensor half of pictures and sounds: files become tokens by the front ends and the stems of the encoder.

    PNG, raw --pixels--> uint8 [28, 28] ---.
    WAV -----log_mel--> int16 [F, 40] -----+--stem of the encoder in use--> token ids, at most 1 + places

A stem computes with integers, so all replicas make the same tokens of a file.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final

import torch

from lifelong.media.mel import log_mel
from lifelong.media.pixels import pixels
from lifelong.plugins.inputs.media import file_of
from model.errors import UnreadableInput
from model.inputs import Reader
from model.media.family import stems_in_use
from model.media.stem import Array, Stems
from model.media.tokens import MODALITIES, pack, token_modalities, token_places
from model.qtensor import QTensor
from wire.inputs import Part

DIGEST_CHARS: Final = 32
STEM_CHARS: Final = 16


class MediaTensors:
    """The tensors of pictures (`image`) or of sounds (`audio`): see `model.inputs.InputTensors`.

    `front_end` makes the input of the stem from a file and its media type.
    """

    state = ""

    def __init__(self, name: str, front_end: Callable[[bytes, str], Array]) -> None:
        self._name = name
        self._modality = MODALITIES[name]
        self._front_end = front_end

    def kept(self, data: bytes, media_type: str) -> Part:
        """Returns the part that is kept of a file: its digest, the name of the stem, and the tokens.

        Raises MediaError for a file that cannot be read, and UnreadableInput if this process has no stem for it.
        """
        stems = stems_in_use()
        if stems is None:
            raise UnreadableInput(f"the encoder has no stem for {self._name!r}: `lifelong encoder train` makes one")
        codes_1PC = stems.codes(self._name, [self._front_end(data, media_type)])
        return {
            "type": self._name,
            "digest": sha256(data).hexdigest()[:DIGEST_CHARS],
            "stem": _stem_name(stems),
            "tokens": pack(self._modality, codes_1PC)[0].tolist(),
        }

    def tokens(self, value: Part, reader: Reader, max_tokens: int) -> list[int]:
        """Returns the tokens of a part. Raises UnreadableInput for tokens of other stems than the encoder's.

        Tokens that a stem cannot have made are refused here, because in a batch they would fail all of its events.
        """
        if "data" in value:
            # A label may carry the content of its event, as it was sent.
            value = self.kept(*file_of(value))
        stems = getattr(reader, "stems", None)
        if stems is None or value["stem"] != _stem_name(stems):
            raise UnreadableInput(f"its tokens are of the stem {value['stem']}, which the encoder does not have")
        tokens: list[int] = value["tokens"]
        ids_T = torch.tensor(tokens)
        is_own = bool((token_modalities(ids_T) == self._modality.number).all())
        if (
            not is_own
            or token_places(ids_T).tolist() != [*range(len(tokens))]
            or len(tokens) > 1 + self._modality.places
        ):
            raise UnreadableInput(f"its tokens are not those of the stem for {self._name!r}")
        return tokens[:max_tokens]

    def open(self, width: int, stored: QTensor | None) -> Callable[[Part], None]:
        return lambda value: None

    def fit(self, values: Sequence[Part], old: QTensor | None, **_: Any) -> None:
        return None


def _stem_name(stems: Stems) -> str:
    return stems.digest[:STEM_CHARS]


IMAGE_TENSORS: Final = MediaTensors("image", pixels)
AUDIO_TENSORS: Final = MediaTensors("audio", lambda data, media_type: log_mel(data))
