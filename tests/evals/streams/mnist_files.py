"""Writes a small data set in the format of MNIST: every class has its own bright spot, in noise."""

import gzip
import struct
from pathlib import Path

import torch
from torch import Tensor

NAMES = {"train": 400, "t10k": 100}


def idx(values: Tensor) -> bytes:
    """Returns the bytes of an idx file, gzipped."""
    head = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return gzip.compress(head + values.numpy().tobytes())


def small_mnist(folder: Path) -> Path:
    """Writes the files, and returns the folder of data sets that contains them."""
    (folder / "mnist").mkdir()
    rng = torch.Generator().manual_seed(5)
    for name, num_images in NAMES.items():
        labels_N = (torch.arange(num_images) % 10).to(torch.uint8)
        images = torch.randint(120, (num_images, 28, 28), generator=rng, dtype=torch.uint8)
        for image, label in zip(images, labels_N.tolist(), strict=True):
            row = 4 + 12 * (label // 5)
            column = 2 + 5 * (label % 5)
            image[row : row + 4, column : column + 4] = 255
        (folder / "mnist" / f"{name}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (folder / "mnist" / f"{name}-labels-idx1-ubyte.gz").write_bytes(idx(labels_N))
    return folder
