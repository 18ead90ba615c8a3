"""Digits as pictures (MNIST), as sounds (FSDD), and as sentences.

    MNIST, FSDD, templates --> Digits: training and test parts with their digits, and sounds with their speakers

FSDD is the Free Spoken Digit Dataset (Jackson et al., DOI 10.5281/zenodo.1342401): 50 recordings of each digit and
speaker, of which those with the numbers 0 to 4 are the test (the official split).
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from evals.streams.images import mnist
from learner.errors import DataError

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


__all__ = ["Recording", "mnist", "recordings", "sentences"]
