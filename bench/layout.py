"""Measures what the order of weights in memory is worth: the same product in three orders, and the encoder with one
order switched off at a time.

    layout.c --AVX2--> cachegrind, with the sizes of this machine's caches --> misses of one pass, simulated
    layout.c --AVX512--> the shortest time of a pass
    the native encoder, and copies with one of these switched off --in turns--> ms for 64 texts, the same bits

    packing        the weights of a panel lie row by row, and the operands of an instruction are collected from 16 rows
    large pages    the weights are in pages of 4 KB
    block order    the matrices lie in a random order, and not in the order in which the encoder reads them

**Simulated.** valgrind has no AVX512, and this machine shows no counters of its processor to a guest. So the misses are
simulated: the AVX2 build reads memory in the order of the AVX512 kernel, through a first-level cache and a last level
of the sizes that the system reports. The simulation needs a power of two of sets, so their number is rounded down. The
misses of a pass are half the difference between a run of three passes and a run of one, so that writing the weights
does not count.
"""

import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Self

import torch
from torch import Tensor

from bench.harness.case import Run
from bench.harness.process import BUILD
from bench.harness.texts import some_texts
from bench.harness.timing import fastest_in_turns_s, one_thread
from evals.results.row import NoResult, Peer, Row, Skip
from kernels import allocator, encoder, native
from kernels.allocator import huge_page_tensor
from kernels.encoder import BlockWeights, weights
from kernels.native import build
from kernels.native.binding import Library
from model.bert import load_encoder
from model.forward import Forward
from model.forward.native import NativeForward
from model.ragged import RaggedBatch
from model.weights import encoder_tensors
from services.versions import ROOT

HARNESS = ROOT / "bench" / "layout.c"

PLAIN = "plain"
BLOCKED = "blocked"
PACKED = "packed"
ORDERS = (PLAIN, BLOCKED, PACKED)

SHAPES = ((1536, 384), (384, 1536))
ROWS = 96
LAYERS = 6
PASSES = 30

SIMULATED_ROWS = 24
SIMULATED_LAYERS = 2

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
LIMIT_S = 300


@dataclass(frozen=True, slots=True)
class Cache:
    """The size, the number of ways and the line of a cache, in bytes."""

    size: int
    ways: int
    line: int

    @property
    def simulable(self) -> Self:
        """The largest cache of as many ways that cachegrind accepts: its number of sets is a power of two."""
        sets = self.size // (self.ways * self.line)
        return replace(self, size=(1 << sets.bit_length() - 1) * self.ways * self.line)

    def __str__(self) -> str:
        return f"{self.size},{self.ways},{self.line}"


def caches() -> tuple[Cache, Cache]:
    """Returns the first-level data cache and the last level. Raises Skip if the system does not tell their sizes."""
    found: list[tuple[int, Cache]] = []
    for folder in CACHES.glob("index*"):
        if _read(folder / "type") != "Instruction":
            size = int(_read(folder / "size").removesuffix("K")) << 10
            ways = int(_read(folder / "ways_of_associativity"))
            found.append((int(_read(folder / "level")), Cache(size, ways, int(_read(folder / "coherency_line_size")))))
    if not found:
        raise Skip(f"{CACHES} has no sizes of caches")
    levels = sorted(found, key=lambda each: each[0])
    return levels[0][1], levels[-1][1]


def _read(path: Path) -> str:
    return path.read_text().strip()


def compiled(isa: str) -> Path:
    """Compiles the harness for an instruction set, and returns the program. Raises Skip without a compiler."""
    target = BUILD / "bench" / f"layout-{isa}"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        command = [*build._compiler(), *build.FLAGS, *build.X86[isa], str(HARNESS), "-o", str(target)]
        subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S)
    except (build.BuildFailed, subprocess.CalledProcessError) as error:
        raise Skip(f"{HARNESS.name} cannot be compiled: {error}") from error
    return target


@dataclass(frozen=True, slots=True)
class Pass:
    """One order's pass over the matrices: the checksum of its sums, and its shortest time."""

    checksum: int
    us: float


def run_pass(program: Path, order: str, shape: tuple[int, int], *, passes: int = PASSES) -> Pass:
    words = [str(program), order, *map(str, (*shape, ROWS, LAYERS, passes))]
    checksum, us = subprocess.run(words, check=True, capture_output=True, text=True, timeout=LIMIT_S).stdout.split()
    return Pass(int(checksum), float(us))


def run_orders(program: Path, shape: tuple[int, int]) -> dict[str, Pass]:
    """Returns a pass of each order. Raises NoResult if their sums differ."""
    passes = {order: run_pass(program, order, shape) for order in ORDERS}
    if len({each.checksum for each in passes.values()}) > 1:
        raise NoResult(f"the orders compute other sums: {passes}")
    return passes


@dataclass(frozen=True, slots=True)
class Misses:
    """The simulated misses of one pass, in the first-level data cache and in the last level."""

    first: int
    last: int

    @property
    def total(self) -> int:
        return self.first + self.last


def simulated(program: Path, order: str, shape: tuple[int, int]) -> Misses:
    """Returns the misses of one pass. Raises Skip without valgrind."""
    once, thrice = (_simulated(program, order, shape, passes) for passes in (1, 3))
    return Misses((thrice.first - once.first) // 2, (thrice.last - once.last) // 2)


def _simulated(program: Path, order: str, shape: tuple[int, int], passes: int) -> Misses:
    if shutil.which("valgrind") is None:
        raise Skip("valgrind is not installed: apt-get install valgrind")
    first, last = (cache.simulable for cache in caches())
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=yes", f"--D1={first}", f"--LL={last}"]
    words = [*tool, "--cachegrind-out-file=/dev/null", str(program), order]
    words += map(str, (*shape, SIMULATED_ROWS, SIMULATED_LAYERS, passes))
    report = subprocess.run(words, check=True, capture_output=True, text=True, timeout=LIMIT_S).stderr
    counts = [re.search(rf"{name} +misses: +([\d,]+)", report) for name in ("D1", "LLd")]
    if not all(counts):
        raise NoResult(f"cachegrind has printed no misses: {report[-500:]}")
    return Misses(*(int(found.group(1).replace(",", "")) for found in counts if found))


@contextmanager
def replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Replaces an attribute of a module while the context lasts."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


UNPACKED = {
    "dot.h": (
        "    else dot_rows(rows, vectors, x, from, (Sums){sums[0], PANEL});\n",
        "    else dot_rows_apart(rows, vectors, x, from, (Sums){sums[0], PANEL});\n",
    ),
    "library.c": (
        "uint8_t *cell = cells + ((int64_t)k * PANEL + n) * QUAD;",
        "uint8_t *cell = cells + ((int64_t)n * w->num_quads + k) * QUAD;",
    ),
}
"""File of the sources -> a line, and the line by which the weights of a panel lie row by row."""

APART = """
INLINE void dot_rows_apart(int rows, int vectors, ByteRows x, Panel panel, Sums sums)
{
#if defined(__AVX512VNNI__)
    __m512i sum[MAX_DOT_ROWS][4];
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const int apart = panel.num_quads * QUAD;
    const __m512i offsets = _mm512_mullo_epi32(lane, _mm512_set1_epi32(apart));
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < vectors; c++) sum[r][c] = _mm512_setzero_si512();
    for (int k = 0; k < panel.num_quads; k++) {
        __m512i w[4];
        UNROLL for (int c = 0; c < vectors; c++)
            w[c] = _mm512_i32gather_epi32(offsets, panel.from + (int64_t)c * 16 * apart + k * QUAD, 1);
        UNROLL for (int r = 0; r < rows; r++) {
            __m512i quad = _mm512_set1_epi32(quad_of(x.q + r * x.stride + k * QUAD));
            UNROLL for (int c = 0; c < vectors; c++) multiply_add(&sum[r][c], quad, w[c]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < vectors; c++) _mm512_storeu_si512(sums.to + r * sums.stride + c * 16, sum[r][c]);
#else
    for (int r = 0; r < rows; r++)
        for (int n = 0; n < PANEL; n++) {
            const int8_t *w = (const int8_t *)panel.from + (int64_t)n * panel.num_quads * QUAD;
            int32_t sum = 0;
            for (int k = 0; k < panel.num_quads * QUAD; k++) sum += x.q[r * x.stride + k] * w[k];
            sums.to[r * sums.stride + n] = sum;
        }
#endif
}

"""
"""The product of a panel whose weights lie row by row, with the arithmetic of `dot_rows`."""

BEFORE = "/* sums[0..rows) <- x times panel `panel` of `w`, "
"""The line of dot.h in front of which APART is put."""


@cache
def unpacked_library() -> Library:
    """Builds the kernels with INT8 weights row by row, from changed copies of the sources; once for these sources.

    Those with tiles (AMX) are left out, since tiles need the packed order. Raises Skip.
    """
    isas = {isa: flags for isa, flags in build.X86.items() if isa != "amx"}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        shutil.copytree(build.SOURCE, source)
        for name, (line, changed) in UNPACKED.items():
            text = (source / name).read_text()
            assert text.count(line) == 1, f"{name} has not exactly one line {line!r}"
            text = text.replace(line, changed)
            if name == "dot.h":
                assert text.count(BEFORE) == 1, f"dot.h has not exactly one {BEFORE!r}"
                text = text.replace(BEFORE, APART + BEFORE)
            (source / name).write_text(text)
        with replaced(build, "SOURCE", source), replaced(build, "X86", isas):
            target = BUILD / "bench" / f"unpacked-{build.digest()}.so"
            try:
                return Library(target if target.is_file() else build.build(target))
            except build.BuildFailed as error:
                raise Skip(f"the kernels cannot be built: {error}") from error


MADV_NOHUGEPAGE = 15


def small_page_tensor(num_bytes: int) -> Tensor:
    """Returns what `huge_page_tensor` returns, in pages of 4 KB."""
    with replaced(allocator, "MADV_HUGEPAGE", MADV_NOHUGEPAGE):
        return huge_page_tensor(num_bytes)


def in_random_order(blocks: Sequence[BlockWeights], shared: Sequence[Tensor] = ()) -> list[BlockWeights]:
    """Copies the matrices into one allocation, like `copy_contiguously`, but in a random order."""
    distinct: dict[int, Tensor] = {}
    for block in blocks:
        for matrix in block.matrices:
            distinct |= {tensor.data_ptr(): tensor for tensor in matrix.tensors}
    order = random.Random(0).sample(list(distinct), len(distinct))
    lengths = [len(distinct[key]) for key in order]
    memory = torch.cat([distinct[key] for key in order], out=huge_page_tensor(sum(lengths)))
    views = dict(zip(order, torch.split(memory, lengths), strict=True))
    return [block.relocate(views) for block in blocks]


NO_PACKING = "no packing"
SMALL_PAGES = "small pages"
RANDOM_ORDER = "random order of matrices"
WHOLE = "whole"

PATCHES: Mapping[str, tuple[Callable[[], AbstractContextManager[object]], bool]] = {
    WHOLE: (nullcontext, False),
    NO_PACKING: (lambda: replaced(native, "library", unpacked_library), True),
    SMALL_PAGES: (lambda: replaced(weights, "huge_page_tensor", small_page_tensor), False),
    RANDOM_ORDER: (lambda: replaced(encoder, "copy_contiguously", in_random_order), False),
}
"""What is replaced while each encoder is packed, and whether it stays replaced while the encoder runs."""

NUM_TEXTS = 64
ROUNDS = 9
SLICE_S = 0.15


@dataclass(frozen=True, slots=True)
class Switched:
    """An encoder with one order switched off. Its calls run within `patched()`."""

    forward: Forward
    patched: Callable[[], AbstractContextManager[object]]

    def encode(self, batch: RaggedBatch) -> Tensor:
        with self.patched():
            return self.forward.encode(batch)


def encoders() -> Mapping[str, Switched]:
    """Returns MiniLM as it is served in INT8, and with each order switched off. Raises Skip."""
    if reasons := native.why_unavailable():
        raise Skip("; ".join(reasons))
    strata, _ = load_encoder("minilm-l6")
    tensors = encoder_tensors(strata)
    found: dict[str, Switched] = {}
    for name, (patched, is_needed_later) in PATCHES.items():
        with patched():
            forward = NativeForward(strata.config, tensors, "int8")
        found[name] = Switched(forward, patched if is_needed_later else nullcontext)
    return found


def encoder_ms(*, num_texts: int = NUM_TEXTS, rounds: int = ROUNDS) -> dict[str, float]:
    """Returns the shortest ms of each encoder on the same texts, one thread, in turns. Raises NoResult, Skip."""
    _, tokenizer = load_encoder("minilm-l6")
    batch = RaggedBatch.of(tokenizer.encode_many(some_texts(num_texts)))
    with one_thread():
        switched = encoders()
        expected_BD = switched[WHOLE].encode(batch)
        for name, each in switched.items():
            if not torch.equal(each.encode(batch), expected_BD):
                raise NoResult(f"the encoder with {name} computes other vectors")
        works = {name: partial(each.encode, batch) for name, each in switched.items()}
        shortest_s = fastest_in_turns_s(works, SLICE_S, rounds=rounds)
    return {name: 1e3 * each_s for name, each_s in shortest_s.items()}


def measure(run: Run) -> Iterator[Row]:
    """Yields the times and the simulated misses of each order, and the times of the encoders."""
    avx512, avx2 = (compiled(isa) for isa in ("vnni", "avx2"))
    for shape in SHAPES:
        name = f"layout.{shape[0]}x{shape[1]}"
        passes = run_orders(avx512, shape)
        peers = tuple(Peer(order, round(passes[order].us, 1)) for order in ORDERS if order != PACKED)
        yield Row.of(f"{name}.us", round(passes[PACKED].us, 1), "us a pass", peers=peers)
        misses = {order: simulated(avx2, order, shape) for order in ORDERS}
        peers = tuple(Peer(order, misses[order].total) for order in ORDERS if order != PACKED)
        note = ", ".join(f"{order}: D1 {each.first:,}, LL {each.last:,}" for order, each in misses.items())
        yield Row.of(f"{name}.misses", misses[PACKED].total, "misses a pass, simulated", peers=peers, note=note)
    ms = encoder_ms()
    for name, each in ms.items():
        others = () if name == WHOLE else (Peer(WHOLE, round(ms[WHOLE], 3)),)
        yield Row.of(f"layout.encoder.{name.replace(' ', '_')}", round(each, 3), "ms for 64 texts", peers=others)
