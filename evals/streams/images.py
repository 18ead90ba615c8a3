"""MNIST as two continual benchmarks, after Buzzega et al. 2020 (arXiv:2004.07211, section 5.1).

    split-mnist      5 stages of 2 digits; contenders do not know the stage of an image (class-incremental)
    permuted-mnist   20 stages of all digits, each with its own permutation of the pixels (domain-incremental)

Images are rows of 784 bytes, so the 20 stages take 1.1 GB, and a replay memory takes a quarter of its size in float32.
The data are the four gzipped idx files that LeCun, Cortes and Burges published.

Shape suffixes: N images, P pixels.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evals.streams.benchmark import Benchmark, Part
from evals.streams.stream import Stage
from learner.errors import DataError

SPLIT = "split-mnist"
PERMUTED = "permuted-mnist"
DIGITS = tuple("0123456789")
NUM_PIXELS = 784
NUM_PERMUTED = 20
PERMUTATIONS_SEED = 2004_07211
"""The seed of the permutations: all runs learn the same permutations in the same order."""

HOWTO = (
    "put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
    "t10k-labels-idx1-ubyte.gz in a folder mnist, and let LIFELONG_DATA name the folder around it"
)


def split_mnist(data: Path | None) -> Benchmark[Tensor]:
    """Loads MNIST in stages of two digits: 0 and 1, 2 and 3, and so on. Raises DataError.

    `data` is the folder of data sets.
    """
    train, test = mnist(data)
    pairs = range(len(DIGITS) // 2)
    stages = (Stage(f"{2 * pair} and {2 * pair + 1}", _pair(train, pair), _pair(test, pair)) for pair in pairs)
    return Benchmark(SPLIT, DIGITS, tuple(stages))


def permuted_mnist(data: Path | None, *, num_stages: int = NUM_PERMUTED) -> Benchmark[Tensor]:
    """Loads MNIST in stages of all digits, with another permutation of the pixels in each stage. Raises DataError."""
    train, test = mnist(data)
    rng = torch.Generator().manual_seed(PERMUTATIONS_SEED)
    orders = [torch.randperm(NUM_PIXELS, generator=rng) for _ in range(num_stages)]
    stages = (
        Stage(f"order {number}", _reordered(train, order_P), _reordered(test, order_P))
        for number, order_P in enumerate(orders, start=1)
    )
    return Benchmark(PERMUTED, DIGITS, tuple(stages))


def mnist(data: Path | None) -> tuple[Part[Tensor], Part[Tensor]]:
    """Loads the training images and the test images."""
    if data is None:
        raise DataError(f"mnist: LIFELONG_DATA names no folder of data sets; {HOWTO}")
    return _part(data / "mnist", "train"), _part(data / "mnist", "t10k")


def _part(folder: Path, name: str) -> Part[Tensor]:
    images = read_idx(folder / f"{name}-images-idx3-ubyte.gz")
    labels_N = read_idx(folder / f"{name}-labels-idx1-ubyte.gz")
    if images.shape != (len(labels_N), 28, 28) or labels_N.ndim != 1 or labels_N.max() >= len(DIGITS):
        raise DataError(f"{folder}: {name} is not the published MNIST; {HOWTO}")
    return Part(images.reshape(-1, NUM_PIXELS), labels_N.long())


def read_idx(path: Path) -> Tensor:
    """Reads the uint8 tensor in a gzipped idx file: 0, 0, type, rank, each dimension as four big-endian bytes, values.

    Raises DataError.
    """
    try:
        data = gzip.decompress(path.read_bytes())
        shape = struct.unpack_from(f">{data[3]}I", data, 4)
        is_whole = data[:3] == b"\x00\x00\x08" and len(data) == 4 + 4 * len(shape) + torch.Size(shape).numel()
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; {HOWTO}") from error
    except (OSError, EOFError, zlib.error, IndexError, struct.error) as error:
        raise DataError(f"{path}: no gzipped idx file ({error}); {HOWTO}") from error
    if not is_whole:
        raise DataError(f"{path}: no whole idx file of bytes; {HOWTO}")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy())


def _pair(part: Part[Tensor], pair: int) -> Part[Tensor]:
    is_of_pair_N = part.labels_N // 2 == pair
    return Part(part.inputs[is_of_pair_N], part.labels_N[is_of_pair_N])


def _reordered(part: Part[Tensor], order_P: Tensor) -> Part[Tensor]:
    return Part(part.inputs[:, order_P], part.labels_N)
