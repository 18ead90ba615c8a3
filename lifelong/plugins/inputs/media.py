"""The inputs `image` and `audio`: a picture or a sound, which the stems of the encoder turn into tokens.

    {"type": "image", "media_type": "image/png", "data": base64}      as it is sent; in Kafka also the file alone
    --cut, in the replica: decoder, front end (`lifelong.media`), stem (`media_tensors`)-->
    {"type": "image", "digest": "...", "stem": "...", "tokens": [...]}    as it is answered, learnt and kept

A replica decodes a part once. Answers and the learner's memory have only the tokens, and no bytes of the picture or the
sound, so the learner needs no decoder, and erasing the subject of a sample erases all that is left of it. The stem is
named because other stems make other tokens.

Bounds are checked when an event is read, by the headers of the file. The file is decoded later, in `cut`, where a
failure makes only its event unreadable, and where a replica that dies notes which events it was reading.
"""

import binascii
import sys
from base64 import b64decode, b64encode
from typing import Any, Final

from lifelong.media import MAX_BYTES, MediaError
from wire.inputs import Enricher, Part
from wire.plugins import import_attribute

MAX_MEDIA_EVENT_BYTES: Final = 6 << 20
"""The largest event with pictures or sounds, in bytes, after base64."""

MAX_TOKENS: Final = 64
"""The most tokens of a part."""

MAX_TOKEN: Final = 1 << 53
"""Tokens are below this number, so that every reader of JSON keeps them exactly."""

WAV_TYPES: Final = ("audio/wav", "audio/wave", "audio/x-wav", "audio/vnd.wave")

_FAMILY: Final = "model.media.family"
"""The module that knows the stems of the encoder in use."""

_MAX_BASE64: Final = 4 * -(-MAX_BYTES // 3)

_DIGITS: Final = frozenset("0123456789abcdef")


class MediaCodec:
    """The codec of pictures (`image`) or of sounds (`audio`). See `wire.inputs.FileCodec`."""

    field = "parts"
    has_tokens = True

    def __init__(self, name: str, noun: str) -> None:
        self.name = name
        self.tensors = f"lifelong.plugins.inputs.media_tensors:{name.upper()}_TENSORS"
        self.examples: tuple[Part, ...] = ({"type": name, "digest": "ae4b", "stem": "07", "tokens": [1, 2]},)
        self.file_types = (f"{name}/",)
        self._noun = noun

    @property
    def max_bytes(self) -> int:
        """The size of the largest event. Only a process whose encoder has stems reads larger events than of texts."""
        # A process that has not imported torch has no encoder.
        family = sys.modules.get(_FAMILY)
        return MAX_MEDIA_EVENT_BYTES if family is not None and family.stems_in_use() else 0

    def problem(self, value: Part) -> str:
        """Returns what is wrong with a part, and the fix, or "". A file is not decoded.

        >>> AUDIO.problem({"type": "audio", "media_type": "audio/mpeg", "data": "SUQz"})
        "the audio cannot be read: the sound has the media type 'audio/mpeg'; audio/wav is read"
        """
        if "data" not in value:
            return self._problem_of_tokens(value)
        try:
            self._check(*file_of(value))
        except MediaError as error:
            return f"the {self.name} cannot be read: {error}"
        return ""

    def part_of(self, file: bytes, content_type: str) -> Part:
        return {"type": self.name, "media_type": content_type.lower(), "data": b64encode(file).decode()}

    def cut(self, value: Part, max_tokens: int) -> Part:
        """Returns the tokens of a part in place of its file. Raises MediaError, or UnreadableInput without stems."""
        if "data" in value:
            value = import_attribute(self.tensors).kept(*file_of(value))
        tokens = value["tokens"]
        return value if len(tokens) <= max_tokens else {**value, "tokens": tokens[:max_tokens]}

    def sent(self, value: Part) -> Part:
        return value

    def render(self, value: Part) -> str:
        return f"{self._noun} {value['digest'][:8]}" if "digest" in value else self._noun

    def enricher(self, replica: Any) -> Enricher | None:
        return None

    def _check(self, data: bytes, media_type: str) -> None:
        """Checks the bounds of a file by its headers. Raises MediaError."""
        if self.name == "image":
            from lifelong.media.pixels import check_picture

            check_picture(data, media_type)
            return
        if media_type not in WAV_TYPES:
            raise MediaError(f"the sound has the media type {media_type[:60]!r}; {WAV_TYPES[0]} is read")
        from lifelong.media.mel import check_sound

        check_sound(data)

    def _problem_of_tokens(self, value: Part) -> str:
        names = [value.get("digest"), value.get("stem")]
        if not all(isinstance(name, str) and 0 < len(name) <= 64 and _DIGITS.issuperset(name) for name in names):
            return f"the {self.name} has no `data`: give a file in base64, and its `media_type`"
        tokens = value.get("tokens")
        if not isinstance(tokens, list) or not 0 < len(tokens) <= MAX_TOKENS:
            return f"the {self.name} has `tokens` that are not a list of 1 to {MAX_TOKENS} numbers"
        if not all(type(token) is int and 0 <= token < MAX_TOKEN for token in tokens):
            return f"the {self.name} has `tokens` that are not whole numbers from 0 to 2^53"
        return ""


def file_of(part: Part) -> tuple[bytes, str]:
    """Returns the file of a part and its media type. Raises MediaError."""
    encoded = part.get("data")
    media_type = part.get("media_type")
    if not isinstance(encoded, str) or not isinstance(media_type, str):
        raise MediaError("it needs `data`, a file in base64, and its `media_type`")
    if len(encoded) > _MAX_BASE64:
        raise MediaError(f"`data` has {len(encoded):,} characters, at most {_MAX_BASE64:,} are read")
    try:
        return b64decode(encoded, validate=True), media_type
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"`data` is not base64: {error}") from error


IMAGE: Final = MediaCodec("image", "picture")
AUDIO: Final = MediaCodec("audio", "sound")
