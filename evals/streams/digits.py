"""Digits as pictures (MNIST), as sounds (FSDD), and as sentences.

    MNIST, FSDD, templates --digits_data--> MediaData, on which an encoder is trained
                           --stages--> a stream of pictures and sounds, whose labels are the words of the digits

FSDD is the Free Spoken Digit Dataset (Jackson et al., DOI 10.5281/zenodo.1342401): 50 recordings of each digit and
speaker, of which those with the numbers 0 to 4 are the test (the official split).
"""

import re
import tarfile
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from evals.streams.benchmark import Part
from evals.streams.images import mnist
from evals.streams.stream import Stage, StreamItem, TextStage
from learner.errors import DataError
from lifelong.media.mel import log_mel
from model.media.stem import MediaData, prepare
from model.media.tokens import AUDIO, IMAGE
from wire.inputs import encode_content

HOWTO: Final = (
    "git clone https://github.com/Jakobovski/free-spoken-digit-dataset, put its recordings in fsdd/recordings.tar.gz "
    "(tar czf recordings.tar.gz recordings), and let LIFELONG_DATA name the folder around fsdd"
)

WORDS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

TEMPLATES: Final = (
    "{}",
    "the digit {}",
    "the number {}",
    "this is a {}",
    "it says {}",
    "a {} was written",
    "somebody said {}",
    "please enter {}",
    "I can read {} here",
    "my answer is {}",
    "press {} now",
    "the last digit is {}",
)

NUM_PICTURES: Final = (1_800, 500)
"""Pictures of the stream `digits`, for training and test: as many as there are sounds to train on, and 500."""

NUM_TEST: Final = 5
"""Recordings of each digit and speaker that are the test."""

_NAME: Final = re.compile(r"(\d)_(\w+)_(\d+)\.wav")


@dataclass(frozen=True, slots=True)
class Recording:
    """A spoken digit: a WAV file."""

    digit: int
    speaker: str
    number: int
    wav: bytes

    @property
    def is_test(self) -> bool:
        return self.number < NUM_TEST


@cache
def recordings(data: Path | None) -> tuple[Recording, ...]:
    """Returns the recordings of FSDD, sorted by digit, speaker and number. `data` is the folder of data sets.

    Raises DataError, which says where to get the data.
    """
    if data is None:
        raise DataError(f"fsdd: LIFELONG_DATA names no folder of data sets; {HOWTO}")
    path = data / "fsdd" / "recordings.tar.gz"
    try:
        found = sorted(_read(path), key=lambda each: (each.digit, each.speaker, each.number))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; {HOWTO}") from error
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{path}: {error}; {HOWTO}") from error
    if {each.digit for each in found} != set(range(10)):
        raise DataError(f"{path} has {len(found)} recordings, and not of all digits; {HOWTO}")
    return tuple(found)


def _read(path: Path) -> Iterator[Recording]:
    with tarfile.open(path) as archive:
        for member in archive:
            match = _NAME.fullmatch(Path(member.name).name)
            file = archive.extractfile(member) if match else None
            if match and file:
                yield Recording(int(match[1]), match[2], int(match[3]), file.read())


def sentences() -> list[tuple[str, int]]:
    """Returns all sentences with their digit."""
    return [(template.format(word), digit) for digit, word in enumerate(WORDS) for template in TEMPLATES]


def prepared_sounds(found: Sequence[Recording]) -> Tensor:
    """Returns the inputs of the stem of sounds, uint8 [N, 32, 40]."""
    return torch.from_numpy(np.stack([prepare(AUDIO, log_mel(each.wav)) for each in found]))


def prepared_pictures(part: Part[Tensor]) -> Tensor:
    """Returns the inputs of the stem of pictures, uint8 [N, 28, 28]."""
    return torch.from_numpy(np.stack([prepare(IMAGE, each) for each in part.inputs.view(-1, 28, 28).numpy()]))


def digits_data(data: Path | None, *, left_out: str = "") -> MediaData:
    """Returns the training data of an encoder of digits, without the speaker `left_out`. Raises DataError."""
    pictures, _ = mnist(data)
    sounds = [each for each in recordings(data) if not each.is_test and each.speaker != left_out]
    texts = sentences()
    labels = {
        IMAGE.name: pictures.labels_N,
        AUDIO.name: torch.tensor([each.digit for each in sounds]),
        "text": torch.tensor([digit for _, digit in texts]),
    }
    parts = {IMAGE.name: prepared_pictures(pictures), AUDIO.name: prepared_sounds(sounds)}
    return MediaData(parts, [text for text, _ in texts], labels)


def stages(data: Path | None) -> tuple[TextStage, ...]:
    """Returns pictures and sounds of two digits a stage. Items are contents of events (`wire.inputs`).

    Raises DataError.
    """
    with_pictures = split_stages(data, *NUM_PICTURES)
    found: list[TextStage] = []
    for stage in with_pictures:
        sounds = [each for each in recordings(data) if WORDS[each.digit] in stage.name.split(" and ")]
        found.append(Stage(stage.name, stage.train + _sounds(sounds, False), stage.test + _sounds(sounds, True)))
    return tuple(found)


def split_stages(data: Path | None, num_train: int, num_test: int) -> tuple[TextStage, ...]:
    """Returns the first pictures of MNIST, two digits a stage (Split MNIST). Raises DataError."""
    train, test = (_pictures(part, num) for part, num in zip(mnist(data), (num_train, num_test), strict=True))
    found: list[TextStage] = []
    for first in range(0, len(WORDS), 2):
        pair = WORDS[first : first + 2]
        items = (tuple(item for item in split if item.label in pair) for split in (train, test))
        found.append(Stage(" and ".join(pair), *items))
    return tuple(found)


def speaker_stages(data: Path | None) -> tuple[TextStage, ...]:
    """Returns FSDD, one speaker a stage, with the official split. Raises DataError."""
    found: list[TextStage] = []
    for speaker in sorted({each.speaker for each in recordings(data)}):
        own = [each for each in recordings(data) if each.speaker == speaker]
        found.append(Stage(speaker, _sounds(own, False), _sounds(own, True)))
    return tuple(found)


def picture_content(pixels: Tensor) -> str:
    """Returns the content of an event with a picture, uint8 [784]."""
    return _content("image", "image/raw;width=28;height=28", pixels.numpy().tobytes())


def sound_content(each: Recording) -> str:
    """Returns the content of an event with a recording."""
    return _content("audio", "audio/wav", each.wav)


def _content(name: str, media_type: str, data: bytes) -> str:
    return encode_content("", {}, [{"type": name, "media_type": media_type, "data": b64encode(data).decode()}])


def _pictures(part: Part[Tensor], num: int) -> list[StreamItem]:
    return [
        StreamItem(picture_content(pixels), WORDS[digit], "picture")
        for pixels, digit in zip(part.inputs[:num], part.labels_N[:num].tolist(), strict=True)
    ]


def _sounds(found: Sequence[Recording], is_test: bool) -> tuple[StreamItem, ...]:
    return tuple(
        StreamItem(sound_content(each), WORDS[each.digit], "sound") for each in found if each.is_test == is_test
    )
