"""An input that the encoder reads: a picture of few greys, `{"type": "picture", "data": base64}`, one byte a pixel.

A replica decodes it once. The answer has its digest and its tokens in place of the bytes: the learner needs no more.
"""

from base64 import b64decode, b64encode
from binascii import Error
from hashlib import sha256
from typing import Any, Final

from model.inputs import Reader
from wire.inputs import Enricher, Part

MAX_PIXELS: Final = 64
FIRST_TOKEN: Final = 2_000
"""The token of black; greys follow it."""


class PictureCodec:
    name = "picture"
    field = "parts"
    tensors = "tests.doors.picture:TENSORS"
    has_tokens = True
    max_bytes = 0
    file_types = ("application/x-grey",)
    examples: tuple[Part, ...] = (
        {"type": "picture", "data": "AAEC"},
        {"type": "picture", "digest": "ae4b", "tokens": [2_000, 2_001]},
    )

    def problem(self, value: Part) -> str:
        if "tokens" in value:
            return ""
        try:
            num_pixels = len(b64decode(value.get("data", ""), validate=True))
        except (Error, TypeError) as error:
            return f"a picture whose `data` is not base64: {error}"
        return "" if 0 < num_pixels <= MAX_PIXELS else f"a picture of {num_pixels} pixels, 1 to {MAX_PIXELS} are read"

    def part_of(self, file: bytes, content_type: str) -> Part:
        return {"type": "picture", "data": b64encode(file).decode()}

    def cut(self, value: Part, max_tokens: int) -> Part:
        if "tokens" in value:
            return value
        pixels = b64decode(value["data"])
        tokens = [FIRST_TOKEN + grey for grey in pixels[:max_tokens]]
        return {"type": "picture", "digest": sha256(pixels).hexdigest()[:16], "tokens": tokens}

    def sent(self, value: Part) -> Part:
        return value

    def render(self, value: Part) -> str:
        return f"a picture {value.get('digest', '')}"

    def enricher(self, replica: Any) -> Enricher | None:
        return None


class PictureTensors:
    state = ""

    def tokens(self, value: Part, reader: Reader, max_tokens: int) -> list[int]:
        return [*value["tokens"]]

    def open(self, width: int, stored: Any) -> Any:
        return lambda value: None

    def fit(self, values: Any, old: Any, *, num_labels: int, is_complete: bool) -> None:
        return None


PICTURE: Final = PictureCodec()
TENSORS: Final = PictureTensors()
