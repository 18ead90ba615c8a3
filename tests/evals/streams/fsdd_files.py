"""Writes a small data set in the format of FSDD: each digit is a tone."""

import io
import tarfile
import wave
from pathlib import Path

import numpy as np

SPEAKERS = ("ann", "bob")
NUM_OF_SPEAKER = 7
"""Recordings of each digit and speaker; the first five are the test."""


def tone(digit: int, speaker: str, number: int) -> bytes:
    """Returns a WAV file of a tenth of a second."""
    rng = np.random.default_rng([digit, len(speaker), number])
    seconds = np.arange(800) / 8_000
    samples = np.sin(2 * np.pi * (300 + 250 * digit) * seconds) * 9_000 + rng.normal(0, 300, 800)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8_000)
        out.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def small_fsdd(folder: Path) -> Path:
    """Writes the archive, and returns the folder of data sets that contains it."""
    (folder / "fsdd").mkdir()
    with tarfile.open(folder / "fsdd" / "recordings.tar.gz", "w:gz") as archive:
        for digit in range(10):
            for speaker in SPEAKERS:
                for number in range(NUM_OF_SPEAKER):
                    content = tone(digit, speaker, number)
                    member = tarfile.TarInfo(f"recordings/{digit}_{speaker}_{number}.wav")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return folder
