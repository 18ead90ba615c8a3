"""Our own CPU kernels in C: compiled on this machine, and chosen at run time by the processor's instruction sets.

    source/*.c --build--> one shared object --binding--> Kernels tables (amx, vnni, avx2, plain), fastest first

`build` compiles the sources, `binding` declares the records and functions of the object, and this file loads it once
per process. `kernels/<operation>/native.py` is the Python function of an operation: it checks the arguments and calls
the object. If no object can be built, every operation uses torch's operations (`library`), and one warning names the
reason and the fix.

The sources include each other in one line, from the interface to the instruction set: kernels.c -> pieces.h ->
encoder.h -> spans.h -> attention.h -> heads.h -> linear.h -> sparse.h, tiles.h -> epilogue.h -> dot.h, rows.h ->
lanes.h, weight.h. Beside it stand kernels.c -> convolution.h -> winograd.h -> lanes.h, and threads.h.

Rejected:

- C++ with torch's headers: it needs an object for every version of torch, and a minute to build it;
- intrinsics for the float parts: the compiler generates code of the same speed from GCC's vector types, and can split
  these vectors in half for AVX2.
"""

import functools
import warnings
from typing import Any

from torch import Tensor

from kernels.dispatch import VARIABLE
from kernels.native.binding import Library
from kernels.native.build import BuildFailed, digest, find_or_build

ISAS = ("amx", "vnni", "avx2", "plain")
"""The instruction sets (ISA), fastest first: AMX tiles, AVX512-VNNI, AVX2, plain C."""


class NativeKernelsMissing(UserWarning):
    """The native kernels are missing, and torch's slower operations are used instead."""


@functools.cache
def library() -> Library | None:
    """Returns the shared object of the native kernels; None, after a warning, if its build fails.

    The object is built if it does not exist yet.
    """
    try:
        return Library(find_or_build())
    except (BuildFailed, OSError) as error:
        reason = str(error).splitlines()[0]
        warnings.warn(
            f"no native kernels: {reason}; torch's operations are used instead, which are slower. "
            f"Install a C compiler (apt-get install gcc), or set {VARIABLE}=library to silence this warning",
            NativeKernelsMissing,
            stacklevel=2,
        )
        return None


def why_unavailable(isa: str | None = None) -> list[str]:
    """Returns the reasons why the native kernels, or the kernels of one instruction set, cannot run on this machine."""
    loaded = library()
    if loaded is None:
        return ["the native kernels could not be built"]
    if isa is not None and isa not in loaded.kernels:
        return [f"this processor cannot run {isa}"]
    return []


def kernels(isa: str | None = None) -> Any:
    """Returns the table of one instruction set, by default of the fastest. `why_unavailable(isa)` must be empty."""
    loaded = library()
    assert loaded is not None, "asked for kernels that are not there"
    return loaded.kernels[isa] if isa else next(iter(loaded.kernels.values()))


def fastest_isa() -> str:
    """Returns the name of the fastest instruction set, one of ISAS. `why_unavailable()` must be empty."""
    loaded = library()
    assert loaded is not None, "asked for kernels that are not there"
    return next(iter(loaded.kernels))


@functools.cache
def identity() -> str:
    """Returns a digest of sources and flags, which decide how floats are rounded.

    Equal digests give equal bits. All instruction sets compute the same bits.
    """
    return digest()


def address(tensor: Tensor) -> int:
    """Returns the address of a dense tensor on the CPU. The caller must keep the tensor alive."""
    assert tensor.is_contiguous() and tensor.is_cpu, "native kernels take dense tensors on the CPU"
    return tensor.data_ptr()


def raise_for_status(status: int) -> None:
    """Raises MemoryError if a kernel returned NO_MEMORY (-1). 0 is success."""
    if status:
        raise MemoryError("no memory for the native kernels' scratch")
