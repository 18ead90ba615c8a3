"""Our own CPU kernels: C, compiled here, chosen at run time by what the processor has.

    source/*.c --build--> one shared object --binding--> Kernels tables (amx, vnni, avx2, plain), best first

`kernels/<operation>/native.py` puts an operation on top: it checks its arguments, then calls. Where no object can be
had, every operation goes on with torch's (`library`), and one warning says why and what would help.

Rejected: C++ with torch's headers (an object for every version of torch, and a minute to build it), and intrinsics for
the float parts (the compiler does as well on vectors that it can also cut in half for AVX2).
"""

import functools
import warnings
from typing import Any

from torch import Tensor

from kernels.dispatch import VARIABLE
from kernels.native.binding import Library
from kernels.native.build import BuildFailed, find_or_build

WAYS = ("amx", "vnni", "avx2", "plain")
"""Every way to compute, best first: AMX tiles, AVX512-VNNI, AVX2, plain C."""


class NativeKernelsMissing(UserWarning):
    """Torch's slower operations answer instead of ours."""


@functools.cache
def library() -> Library | None:
    """The shared object, built at the first call if it was not before; None, after a warning, where it cannot be."""
    try:
        return Library(find_or_build())
    except (BuildFailed, OSError) as error:
        reason = str(error).splitlines()[0]
        warnings.warn(
            f"no native kernels: {reason}; answers come from torch's, which take longer. "
            f"A C compiler (apt-get install gcc) mends it; {VARIABLE}=library silences this",
            NativeKernelsMissing,
            stacklevel=2,
        )
        return None


def why_not(way: str | None = None) -> list[str]:
    """What speaks against the native kernels here, or against one way to compute."""
    loaded = library()
    if loaded is None:
        return ["the native kernels could not be built"]
    if way is not None and way not in loaded.kernels:
        return [f"this processor cannot run {way}"]
    return []


def kernels(way: str | None = None) -> Any:
    """The table of one way to compute, the best by default. `why_not(way)` must have been empty."""
    loaded = library()
    assert loaded is not None, "asked for kernels that are not there"
    return loaded.kernels[way] if way else next(iter(loaded.kernels.values()))


def address(tensor: Tensor) -> int:
    """Where the tensor lies: dense, on the CPU. It must outlive the call."""
    assert tensor.is_contiguous() and tensor.is_cpu, "native kernels take dense tensors on the CPU"
    return tensor.data_ptr()


def done(status: int) -> None:
    """Raises MemoryError for the -1 of a call that found no memory."""
    if status:
        raise MemoryError("no memory for the native kernels' scratch")
