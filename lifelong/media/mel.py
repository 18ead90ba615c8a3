"""Turns a sound into log-mel energies by integer arithmetic.

    WAV --bounds--> int16 samples, one channel --resampled--> 8 kHz --Hann windows of 25 ms, every 10 ms-->
    [frames, 256] --DFT matrices--> energies --40 mel filters--> energies --log2 by table--> int16 [frames, 40]

The tables are rounded to integers from float64. No entry lies within 1e-9 of a rounding boundary (a test checks this),
and the errors of sine and logarithm are far below, so every machine computes the same tables. Products of matrices
hold integers below 2^53 in float64, and are exact.

The filters are triangles on the mel scale of O'Shaughnessy (1987), 2595 log10(1 + f / 700), from 60 Hz to 4 kHz.

Shape suffixes: N samples, F frames, K frequencies of the DFT, M mel filters.
"""

import wave
from functools import lru_cache
from io import BytesIO
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from lifelong.media import MediaError, check_bytes

RATE: Final = 8_000
"""Samples of a second after resampling."""

WINDOW: Final = 200
"""Samples of a frame: 25 ms."""

HOP: Final = 80
"""Samples from the begin of a frame to the begin of the next one: 10 ms."""

NUM_MELS: Final = 40

MAX_SECONDS: Final = 30
"""The longest sound."""

MIN_RATE: Final = 4_000
MAX_RATE: Final = 192_000
MAX_CHANNELS: Final = 2

Samples: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int16]]
"""The samples of one channel, int16 [N]."""

LogMel: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.int16]]
"""Log-mel energies in units of 1/256 of log2, int16 [F, 40]. Silence is 0, and no value is above 13,312."""

Table: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
"""Integers in float64."""

_FFT_SIZE: Final = 256
_LOWEST_HZ: Final = 60.0

_LOG_STEPS: Final = 1_024
"""The entries of the table of logarithms, for the mantissas from 1 to 2."""

_ZEROS: Final = 8
"""The resampling filter reaches this many of its zeros to each side."""

_STEPS: Final = 512
"""The entries of the table of the resampling filter from one zero to the next."""

_FRAMES: Final = 10
"""So many frames are transformed at once: OpenBLAS computes products of this size without threads, for which a busy
machine would wait."""

_BLOCK: Final = 1_024
"""So many samples are resampled at once, which bounds the memory."""


def log_mel(data: bytes) -> LogMel:
    """Returns the log-mel energies of a WAV file, int16 [F, 40]. Raises MediaError.

    The file has integer samples (PCM) of 8 to 32 bits, of which the upper 16 are read. Of two channels, the mean is
    read. The first frame begins at the first sample, and the last one may be padded with zeros.
    """
    wav = check_sound(data)
    return compute_mel(resampled(_one_channel(wav), wav.rate))


def compute_mel(x_N: Samples) -> LogMel:
    """Returns the log-mel energies of samples at 8 kHz, int16 [F, 40]. F = 1 + ceil(max(N - 200, 0) / 80)."""
    num_frames = 1 + -(-max(len(x_N) - WINDOW, 0) // HOP)
    padded = np.zeros(WINDOW + HOP * (num_frames - 1), np.int16)
    padded[: len(x_N)] = x_N
    frames_FN = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    blocks = [_compute_log_mel(frames_FN[first : first + _FRAMES]) for first in range(0, num_frames, _FRAMES)]
    return np.concatenate(blocks)


def _compute_log_mel(frames_FN: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> LogMel:
    """Returns the log-mel energies of frames of samples, int16 [F, 200]."""
    cos_NK, sin_NK = dft_tables()
    windowed_FN = _rounded_shift(frames_FN * hann_table(), 15)
    energy_FK = _rounded_shift(windowed_FN @ cos_NK, 14) ** 2 + _rounded_shift(windowed_FN @ sin_NK, 14) ** 2
    # By Parseval's theorem, the sum is at most 256 * 200 * 2^30 / 2 * 2^8 < 2^53.
    return _log2(energy_FK @ mel_table())


def resampled(x_N: Samples, rate: int) -> Samples:
    """Returns samples at 8 kHz: a sinc filter with a Hann window, 8 zeros to each side, its table read at 512 steps.

    Source: J. O. Smith, "Digital Audio Resampling" (2002), without the interpolation between steps.
    """
    if rate == RATE:
        return x_N
    table = sinc_table()
    # Distances are in units of 1 / (rate * RATE) seconds; the filter's zeros are `lower` units apart.
    lower = max(rate, RATE)
    reach = -(-_ZEROS * lower // RATE) + 1
    padded = np.pad(x_N, reach)
    num_out = -(-len(x_N) * RATE // rate)
    found = np.empty(num_out, np.int16)
    for first in range(0, num_out, _BLOCK):
        out = np.arange(first, min(first + _BLOCK, num_out))[:, None]
        centres = out * rate // RATE
        taps = centres + np.arange(1 - reach, reach + 1)
        distances = np.abs(taps * RATE - out * rate)
        weights = table[np.minimum((distances * _STEPS + lower // 2) // lower, _ZEROS * _STEPS)]
        total = weights.sum(axis=1)
        sums = (weights * padded[taps + reach]).sum(axis=1)
        found[first : first + _BLOCK] = np.clip((2 * sums + total) // (2 * total), -(1 << 15), (1 << 15) - 1)
    return found


class Wav(NamedTuple):
    """The content of a WAV file: samples of `width` bytes, in frames of `channels` samples."""

    frames: bytes
    width: int
    channels: int
    rate: int


def check_sound(data: bytes) -> Wav:
    """Returns the content of a WAV file, with its bounds checked. Raises MediaError."""
    check_bytes(data, "the sound")
    try:
        with wave.open(BytesIO(_as_plain(data))) as file:
            channels, width, rate, num_declared = file.getparams()[:4]
            _check_format(channels, width, rate)
            if num_declared > MAX_SECONDS * rate:
                raise MediaError(f"the sound has {num_declared / rate:,.1f} s, at most {MAX_SECONDS} are read")
            frames = file.readframes(num_declared)
    # `wave` raises RuntimeError for a chunk that ends behind the file.
    except (wave.Error, EOFError, RuntimeError) as error:
        detail = str(error) or "it ends within a chunk"
        raise MediaError(f"the sound is not a WAV with integer samples (PCM): {detail}") from error
    num_read = len(frames) // (channels * width)
    if num_read != num_declared:
        raise MediaError(f"the WAV is broken: it declares {num_declared:,} samples and has {num_read:,}")
    if not num_read:
        raise MediaError("the sound has no samples")
    return Wav(frames, width, channels, rate)


def _one_channel(wav: Wav) -> Samples:
    """Returns the samples of a WAV file as int16; of two channels, their mean."""
    samples = _to_int16(wav.frames, wav.width)
    if wav.channels == 1:
        return samples
    sums = samples.reshape(-1, wav.channels).sum(axis=1, dtype=np.int32)
    mean: Samples = (sums // wav.channels).astype(np.int16)
    return mean


def _check_format(channels: int, width: int, rate: int) -> None:
    if channels > MAX_CHANNELS:
        raise MediaError(f"the sound has {channels} channels, at most {MAX_CHANNELS} are read")
    if width not in (1, 2, 3, 4):
        raise MediaError(f"the sound has samples of {8 * width} bits; 8, 16, 24 and 32 are read")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise MediaError(f"the sound has {rate:,} samples a second; {MIN_RATE:,} to {MAX_RATE:,} are read")


def _as_plain(data: bytes) -> bytes:
    """Returns a WAV of the extensible format, if its samples are integers, as one of the plain format.

    `wave` reads the extensible format from Python 3.12 on.
    """
    place = data.find(b"fmt ", 12, 4_096)
    if place < 0 or data[place + 8 : place + 10] != b"\xfe\xff" or data[place + 32 : place + 34] != b"\1\0":
        return data
    return data[: place + 8] + b"\1\0" + data[place + 10 :]


def _to_int16(frames: bytes, width: int) -> Samples:
    """Returns samples of `width` bytes as int16: the upper 16 bits."""
    if width == 1:
        return (np.frombuffer(frames, np.uint8).astype(np.int16) - 128) << 8
    # Little-endian: the last two bytes of each sample.
    upper = np.frombuffer(frames, np.uint8).reshape(-1, width)[:, -2:]
    return np.ascontiguousarray(upper).view("<i2")[:, 0].astype(np.int16)


def _rounded_shift(values: Table, bits: int) -> Table:
    """Returns integers divided by 2^bits, rounded to the nearest, halves up."""
    shifted: Table = np.floor((values + (1 << (bits - 1))) / (1 << bits))
    return shifted


def _log2(energies: Table) -> LogMel:
    """Returns 256 log2 of integers, int16; 0 for 0."""
    mantissas, exponents = np.frexp(np.maximum(energies, 1))
    steps = ((2 * mantissas - 1) * _LOG_STEPS).astype(np.int64)
    found: LogMel = ((exponents - 1) * 256 + log_table()[steps]).astype(np.int16)
    return found


# The tables. Each has an unrounded form, by which a test measures the distances to rounding boundaries.


def exact_hann() -> Table:
    """Returns the periodic Hann window, times 2^15: [200]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)) * (1 << 15)


def exact_dft() -> Table:
    """Returns cosines and sines, times 2^14: [2, 200, 129]."""
    turns_NK = np.outer(np.arange(WINDOW), np.arange(_FFT_SIZE // 2 + 1)) % _FFT_SIZE
    angles_NK = 2 * np.pi * turns_NK / _FFT_SIZE
    return np.stack([np.cos(angles_NK), np.sin(angles_NK)]) * (1 << 14)


def exact_mel() -> Table:
    """Returns the triangular filters, times 2^8: [129, 40]."""
    lowest = 2595 * np.log10(1 + _LOWEST_HZ / 700)
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(lowest, highest, NUM_MELS + 2) / 2595) - 1)
    hz_K = np.arange(_FFT_SIZE // 2 + 1)[:, None] * (RATE / _FFT_SIZE)
    rising = (hz_K - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz_K) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rising, falling), 0) * (1 << 8)


def exact_log() -> Table:
    """Returns 256 log2 of the middles of the steps from 1 to 2: [1024]."""
    return 256 * np.log2(1 + (np.arange(_LOG_STEPS) + 0.5) / _LOG_STEPS)


def exact_sinc() -> Table:
    """Returns one side of the resampling filter, times 2^14: [4097]."""
    zeros = np.arange(_ZEROS * _STEPS + 1) / _STEPS
    window = np.cos(np.pi * zeros / (2 * _ZEROS)) ** 2
    filtered: Table = np.sinc(zeros) * window * (1 << 14)
    return filtered


@lru_cache(maxsize=1)
def hann_table() -> Table:
    return np.rint(exact_hann())


@lru_cache(maxsize=1)
def dft_tables() -> tuple[Table, Table]:
    cos_NK, sin_NK = np.rint(exact_dft())
    return cos_NK, sin_NK


@lru_cache(maxsize=1)
def mel_table() -> Table:
    return np.rint(exact_mel())


@lru_cache(maxsize=1)
def log_table() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.rint(exact_log()).astype(np.int64)


@lru_cache(maxsize=1)
def sinc_table() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.rint(exact_sinc()).astype(np.int64)
