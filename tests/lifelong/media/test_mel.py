"""Sounds become the same log-mel energies on every machine, and what cannot be read is one clear error."""

import hashlib
import math
import os
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lifelong.media import MediaError, mel
from lifelong.media.mel import HOP, NUM_MELS, RATE, WINDOW, compute_mel, log_mel, resampled
from services.versions import ROOT
from tests.lifelong.media.files import extensible, tone, wav, with_data_length

NOISE = np.random.default_rng(0).integers(-20_000, 20_000, 4_000).astype(np.int16)


@pytest.mark.parametrize("name", ["hann", "dft", "mel", "log", "sinc"])
def test_no_entry_of_a_table_is_near_a_rounding_boundary(name: str) -> None:
    exact = getattr(mel, f"exact_{name}")()
    distances = np.abs(exact - np.floor(exact) - 0.5)
    assert distances.min() > 1e-9


def by_whole_numbers(x_N: Any) -> list[list[int]]:
    """The specification: the same steps with Python's integers."""
    hann = [int(each) for each in mel.hann_table()]
    (cos, sin), filters = mel.dft_tables(), mel.mel_table()
    found = []
    for first in range(0, max(len(x_N) - WINDOW, 0) + HOP, HOP):
        frame = [int(each) for each in x_N[first : first + WINDOW]]
        windowed = [(x * w + (1 << 14)) >> 15 for x, w in zip(frame, hann, strict=False)]
        energies = []
        for k in range(129):
            re, im = (sum(x * int(table[n, k]) for n, x in enumerate(windowed)) for table in (cos, sin))
            energies.append(((re + (1 << 13)) >> 14) ** 2 + ((im + (1 << 13)) >> 14) ** 2)
        totals = [sum(e * int(w) for e, w in zip(energies, filters[:, m], strict=True)) for m in range(NUM_MELS)]
        found.append([round(256 * math.log2(max(total, 1))) for total in totals])
    return found


@pytest.mark.parametrize(
    "x_N", [NOISE[:330], NOISE[:7], np.full(200, -(1 << 15), np.int16), tone(440, 0.04), NOISE[:240] // 4096]
)
def test_the_energies_are_those_of_whole_numbers(x_N: Any) -> None:
    found = compute_mel(x_N)
    expected = np.array(by_whole_numbers(x_N))
    assert found.dtype == np.int16 and found.shape == expected.shape
    # The table of logarithms has steps of 1/1024.
    assert np.abs(found - expected).max() <= 1


def digest() -> str:
    made = log_mel(wav(NOISE)).astype("<i2").tobytes() + log_mel(wav(NOISE, 44_100)).astype("<i2").tobytes()
    return hashlib.sha256(made).hexdigest()[:16]


@pytest.mark.parametrize("processor", ["Prescott", "Haswell", ""])
def test_the_bytes_are_the_same_with_the_kernels_of_every_processor(processor: str) -> None:
    call = [sys.executable, "-c", f"from {__name__} import digest; print(digest())"]
    # OpenBLAS takes the kernels of this processor, and numpy no instructions beyond its baseline.
    names = {"OPENBLAS_CORETYPE": processor, "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"} if processor else {}
    found = subprocess.run(call, env=os.environ | names, capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout.strip() == "4d525f2c2b925ff1"


def test_a_tone_is_loudest_in_the_filter_of_its_frequency() -> None:
    for number in (3, 12, 25, 38):
        hz = float(mel.exact_mel()[:, number].argmax()) * RATE / 256
        frame = log_mel(wav(tone(hz, 0.2)))[5]
        assert abs(int(frame.argmax()) - number) <= 1


@pytest.mark.parametrize(("num_samples", "num_frames"), [(1, 1), (200, 1), (201, 2), (280, 2), (281, 3), (4_000, 49)])
def test_frames_begin_every_10_ms_and_cover_all_samples(num_samples: int, num_frames: int) -> None:
    assert log_mel(wav(NOISE[:num_samples])).shape == (num_frames, NUM_MELS)


def test_silence_is_zero_and_clipped_sound_is_a_sound() -> None:
    assert not log_mel(wav(np.zeros(4_000))).any()
    clipped = np.where(tone(500, 0.5) > 0, 32_767, -32_768)
    found = log_mel(wav(clipped))
    assert found.min() >= 0 and 12_000 < found.max() <= 13_312


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_the_upper_16_bits_of_samples_are_read(width: int) -> None:
    samples = NOISE >> 8 << 8
    assert np.array_equal(log_mel(wav(samples, width=width)), log_mel(wav(samples)))


def test_two_channels_are_their_mean() -> None:
    left, right = NOISE[:2_000], NOISE[2_000:]
    both = np.stack([left, right], axis=1)
    mean = (left.astype(int) + right) // 2
    assert np.array_equal(log_mel(wav(both, channels=2)), log_mel(wav(mean)))


def test_the_extensible_format_of_integers_is_read_and_that_of_floats_is_not() -> None:
    data = extensible(wav(NOISE, width=3))
    assert np.array_equal(log_mel(data), log_mel(wav(NOISE, width=3)))
    with pytest.raises(MediaError, match="not a WAV with integer samples"):
        log_mel(data.replace(b"\1\0\0\0\0\0\x10\0", b"\3\0\0\0\0\0\x10\0"))


@pytest.mark.parametrize("rate", [4_000, 11_025, 16_000, 22_050, 44_100, 48_000, 192_000])
def test_a_tone_keeps_its_frequency_at_every_rate(rate: int) -> None:
    hz = 1_000 if rate > RATE else 500
    found = resampled(tone(hz, 0.5, rate), rate)
    expected = tone(hz, 0.5)
    assert len(found) == len(expected)
    inner = slice(20, -20)
    assert np.abs(found[inner].astype(int) - expected[inner]).max() <= 20


def test_what_8_khz_cannot_hold_is_filtered_out() -> None:
    assert np.abs(resampled(tone(6_000, 0.5, 16_000), 16_000)[20:-20]).max() <= 20


@given(arrays(np.int16, st.integers(1, 300)), st.integers(4_000, 192_000))
def test_sounds_of_every_rate_have_their_duration(x_N: Any, rate: int) -> None:
    assert len(resampled(x_N, rate)) == math.ceil(len(x_N) * RATE / rate)


DATA = wav(NOISE)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (with_data_length(DATA, 1 << 20), "30 are read"),
        (with_data_length(DATA, 8_002), "it declares 4,001 samples and has 4,000"),
        (DATA[:-10], "it declares 4,000 samples and has 3,995"),
        (with_data_length(DATA, (1 << 32) - 1), "s, at most 30 are read"),
        (wav([]), "the sound has no samples"),
        (with_data_length(DATA, 0), "the sound has no samples"),
        (wav(NOISE[:3_999], channels=3), "has 3 channels, at most 2 are read"),
        (wav(NOISE, 3_999), "has 3,999 samples a second; 4,000 to 192,000 are read"),
        (wav(np.zeros(31 * 8_000)), "has 31.0 s, at most 30 are read"),
        (DATA[:30], "not a WAV with integer samples"),
        (DATA[:20] + struct.pack("<H", 3) + DATA[22:], "unknown format: 3"),
        (DATA[:22] + struct.pack("<H", 0) + DATA[24:], "bad # of channels"),
        (b"RIFF", "not a WAV with integer samples"),
        (b"", "the sound has no bytes"),
        (bytes((4 << 20) + 1), "has 4,194,305 bytes, at most 4,194,304 are read"),
    ],
)
def test_what_is_no_sound_is_one_error_that_says_why(data: bytes, said: str) -> None:
    with pytest.raises(MediaError, match=said):
        log_mel(data)


@given(st.binary(max_size=120), st.integers(0, 60), st.integers(0, 60))
def test_a_damaged_wav_is_a_sound_or_one_error(noise: bytes, place: int, num_lost: int) -> None:
    for data in (noise, DATA[:44] + noise, DATA[:place] + noise + DATA[place + num_lost :]):
        try:
            assert log_mel(data).shape[1] == NUM_MELS
        except MediaError as error:
            assert str(error)


SIZES = st.integers(0, 100) | st.sampled_from([0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])


@given(
    st.tuples(st.sampled_from([1, 2, 3, 0xFFFE]), st.integers(0, 3), st.integers(0, 1 << 20), st.integers(0, 70)),
    SIZES,
    SIZES,
    st.binary(max_size=200),
)
def test_a_wav_of_any_header_is_a_sound_or_one_error(
    kind: tuple[int, ...], riff_bytes: int, data_bytes: int, samples: bytes
) -> None:
    tag, channels, rate, bits = kind
    fmt = struct.pack("<HHIIHH", tag, channels, rate, 0, 0, bits)
    chunks = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", data_bytes) + samples
    for size in (riff_bytes, len(chunks)):
        try:
            assert log_mel(b"RIFF" + struct.pack("<I", size) + chunks).shape[1] == NUM_MELS
        except MediaError as error:
            assert str(error)
