"""The ctypes binding of the shared object: the records of `source/api.h`, and the types of its functions.

Calls release the interpreter lock (GIL). Nothing is checked here: the operations check their arguments before they
call.
"""

import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_float, c_int, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any

NO_SUCH_WORD = -2
"""The status that `encode` returns for an id outside the vocabulary."""


class Norm(Structure):
    """The addresses of gain, bias and in_scale (or None), each float32 [width], epsilon, and whether it is RMSNorm."""

    _fields_ = [*((name, c_void_p) for name in ("gain", "bias", "in_scale")), ("eps", c_float), ("is_rms", c_int32)]


class NativeEmbedding(Structure):
    """The embedding: the numbers of rows and columns, the addresses of its tensors, and its norm."""

    _fields_ = [
        ("num_words", c_int64),
        *((name, c_void_p) for name in ("word", "multipliers", "word_scale", "position", "expand")),
        *((name, c_int32) for name in ("word_width", "position_stride")),
        ("norm", Norm),
    ]


class Rotations(Structure):
    """The addresses of the cosines and sines (or None), each float32 [positions, head_width / 2]."""

    _fields_ = [(name, c_void_p) for name in ("cosine", "sine")]


class NativeSpan(Structure):
    """A number of heads, and the keys that these heads attend to."""

    _fields_ = [(name, c_int32) for name in ("heads", "window", "sinks", "block", "topk", "dense_below")]


class HeadShape(Structure):
    """The heads of an attention, and their spans."""

    _fields_ = [
        *((name, c_int32) for name in ("heads", "kv_heads", "head_width", "num_spans")),
        ("spans", POINTER(NativeSpan)),
    ]


class NativeLinear(Structure):
    """The addresses of a packed weight, of its low-rank pair a and b (or None), and of its bias (or None)."""

    _fields_ = [(name, c_void_p) for name in ("weight", "a", "b", "bias")]


BLOCK_NORMS = ("norm1", "norm2", "out_norm", "down_norm", "q_norm", "k_norm", "final_norm")
"""The norms of a block, in the order of its record."""


class NativeBlock(Structure):
    """A block: its sizes, its matrices, its norms, and the rotations of its queries and keys."""

    _fields_ = [
        ("heads", HeadShape),
        *((name, c_int32) for name in ("inner", "rank", "activation", "is_post_norm")),
        *((name, NativeLinear) for name in ("qkv", "out", "up", "down", "project")),
        *((name, Norm) for name in BLOCK_NORMS),
        ("rotations", Rotations),
    ]


class NativeEncoder(Structure):
    """A whole encoder. The caller keeps alive all tensors whose addresses it holds."""

    _fields_ = [
        *((name, c_int32) for name in ("width", "layers", "pools_first", "unit")),
        ("embedding", NativeEmbedding),
        ("blocks", POINTER(NativeBlock)),
    ]


class Shape(Structure):
    """The shape of a dense matrix of floats."""

    _fields_ = [("rows", c_int64), ("width", c_int64)]


class ConvShape(Structure):
    """A batch of images, and the numbers of input and output channels of a 3 x 3 convolution of it."""

    _fields_ = [(name, c_int32) for name in ("images", "height", "width", "num_in", "num_out")]


class Kernels(Structure):
    """The kernels of one instruction set: its name, and the functions that `source/api.h` documents."""

    _fields_ = [
        ("name", c_char_p),
        ("runs_here", CFUNCTYPE(c_int)),
        ("quantize_rows", CFUNCTYPE(None, c_void_p, Shape, c_void_p, c_void_p)),
        ("accumulate", CFUNCTYPE(c_int, c_void_p, c_int64, c_void_p, c_void_p)),
        ("linear", CFUNCTYPE(c_int, c_int, c_void_p, c_int64, c_void_p, c_void_p)),
        ("norm_rows", CFUNCTYPE(None, c_void_p, Shape, POINTER(Norm))),
        ("gate_rows", CFUNCTYPE(None, c_int, c_void_p, Shape)),
        ("attention", CFUNCTYPE(c_int, c_void_p, c_int64, c_int64, c_void_p, c_int, POINTER(HeadShape), c_void_p)),
        ("embed", CFUNCTYPE(None, POINTER(NativeEmbedding), c_int, c_void_p, c_void_p, c_int, c_void_p)),
        ("mean_rows", CFUNCTYPE(None, c_void_p, c_int, c_void_p, c_int, c_void_p)),
        (
            "encode",
            CFUNCTYPE(c_int, POINTER(NativeEncoder), c_int, c_void_p, c_void_p, c_void_p, c_int, c_int, c_void_p),
        ),
        (
            "encode_from",
            CFUNCTYPE(c_int, POINTER(NativeEncoder), c_int, c_void_p, c_void_p, c_void_p, c_int, c_int, c_void_p),
        ),
        ("pack_winograd", CFUNCTYPE(None, c_int, c_void_p, c_void_p, c_int, c_int, c_int, c_void_p)),
        ("winograd", CFUNCTYPE(c_int, c_int, c_void_p, POINTER(ConvShape), c_void_p, c_int, c_void_p)),
        ("convolve", CFUNCTYPE(c_int, c_void_p, POINTER(ConvShape), c_void_p, c_int, c_void_p)),
        ("convolve_winograd", CFUNCTYPE(c_int, c_void_p, POINTER(ConvShape), c_void_p, c_void_p, c_int, c_void_p)),
    ]


RECORDS = (
    Norm,
    NativeEmbedding,
    Rotations,
    NativeSpan,
    HeadShape,
    NativeLinear,
    NativeBlock,
    NativeEncoder,
    Shape,
    ConvShape,
    Kernels,
)
"""The records, in the order in which `lifelong_record_bytes` numbers them."""


class Library:
    """The loaded shared object. Raises OSError if the file is not a shared object, or was built from other sources."""

    def __init__(self, path: Path) -> None:
        library: Any = ctypes.CDLL(str(path))
        try:
            library.lifelong_kernels.restype = POINTER(Kernels)
            library.lifelong_weight_bytes.restype = c_int64
            library.lifelong_sparse_bytes.restype = c_int64
            sizes = [library.lifelong_record_bytes(index) for index in range(len(RECORDS))]
        except AttributeError as error:
            raise OSError(f"{path}: {error}") from error
        if sizes != [ctypes.sizeof(record) for record in RECORDS]:
            raise OSError(f"{path} was built from other sources: its records have {sizes} bytes")
        library.lifelong_pack_i8.argtypes = [*[c_void_p] * 4, c_int, c_int, c_void_p]
        library.lifelong_pack_i4.argtypes = [*[c_void_p] * 5, c_int, c_int, c_void_p]
        library.lifelong_pack_sparse.argtypes = [*[c_void_p] * 6, c_int, c_int, c_void_p]
        self.weight_bytes = library.lifelong_weight_bytes
        self.sparse_bytes = library.lifelong_sparse_bytes
        self.pack_i8 = library.lifelong_pack_i8
        self.pack_i4 = library.lifelong_pack_i4
        self.pack_sparse = library.lifelong_pack_sparse
        self.kernels = _all_kernels(library)


def _all_kernels(library: Any) -> dict[str, Any]:
    """Returns the tables that can run on this processor, by the name of the instruction set, fastest first."""
    tables: dict[str, Any] = {}
    while table := library.lifelong_kernels(len(tables)):
        tables[table.contents.name.decode()] = table.contents
    return tables
