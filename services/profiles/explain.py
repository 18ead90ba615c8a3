"""Explains profiles: the values that each fixes, and the cost of its promise at 3, 7 and 13 billion parameters.

    DecoderShape --stored, shared--> parameters --bits--> bytes --bandwidth--> time of a token
                                         --2 operations each--> time of a prompt

Nothing here was measured at that scale. The time of a token is the time to read all weights once. The time of a prompt
is the time of 2 operations for each layer weight and token. A real engine takes longer. The shapes are the ones for
which the three promises were made: a tied vocabulary and four key-value heads (nano), Mistral's shape (base), and 13
billion parameters (pro). A feed-forward part has three matrices, since it is gated. Norms are left out: 0.01 %.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lifelong.compress.cost import num_bytes, parameters
from model.config import StaticConfig
from services.profiles.profile import PROFILES, Profile

FP16: Final = 16.0
INT8: Final = 8.0
INT4: Final = 4.25
"""Bits of a weight in groups of 64 that share a scale of 16 bits."""

ROW_BYTES: Final = 6
"""Bytes of the scale and the sum of a row in INT8: see `lifelong.compress.cost`."""

RANK: Final = 16
"""Rank of what a layer adds to the matrices of a shared bank."""

WINDOW: Final = 1_024
SINKS: Final = 4
GLOBAL_EVERY: Final = 6
"""One layer in this many sees all keys; the others see a window and the sinks."""

ACTIVATION_BYTES: Final = {"nano": 0.1e9, "base": 0.3e9, "pro": 1e9}
"""An allowance for activations."""

CONTEXT: Final = 4_096
"""Tokens in the cache for the total memory of a profile."""

PROMPTS = (16, 128, 512)
"""Tokens of the prompts whose time is shown."""

LONG = 32_768


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderShape:
    """The sizes of a decoder with a gated feed-forward part. Layers that share weights use `banks` sets of matrices."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    vocab: int
    is_tied: bool
    """Whether the output layer and the embedding are the same matrix."""
    banks: int

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of a layer's matrices: query, key, value, output, gate, up, down."""
        kv_width = self.kv_heads * self.head_width
        attention = ((self.width, self.width), (kv_width, self.width), (kv_width, self.width), (self.width, self.width))
        return (*attention, (self.inner, self.width), (self.inner, self.width), (self.width, self.inner))

    @property
    def attention(self) -> int:
        """Parameters of attention in a layer."""
        return sum(rows * columns for rows, columns in self.matrices[:4])

    @property
    def feed_forward(self) -> int:
        """Parameters of the feed-forward part of a layer."""
        return sum(rows * columns for rows, columns in self.matrices[4:])

    @property
    def in_layers(self) -> int:
        """Parameters that every token is multiplied with."""
        return self.layers * (self.attention + self.feed_forward)

    @property
    def vocabulary(self) -> int:
        return self.vocab * self.width * (1 if self.is_tied else 2)

    @property
    def dense(self) -> int:
        """Stored parameters if every layer has its own matrices."""
        return self.in_layers + self.vocabulary

    @property
    def shared(self) -> int:
        """Stored parameters if layers share `banks`, and each layer adds a product of rank RANK to every matrix."""
        lora = self.layers * sum(RANK * (rows + columns) for rows, columns in self.matrices)
        return self.banks * (self.attention + self.feed_forward) + self.vocabulary + lora

    @property
    def saved(self) -> float:
        """Share of the parameters that need not be stored, in [0, 1)."""
        return 1 - self.shared / self.dense

    def num_bytes(self, bits: float) -> float:
        """Returns the bytes of the dense weights. In INT8 every row has a scale."""
        num_rows = self.layers * sum(rows for rows, _ in self.matrices) + self.vocabulary // self.width
        return self.dense * bits / 8 + (ROW_BYTES * num_rows if bits == INT8 else 0)

    def kv_bytes(self, num_tokens: int, *, num_global: int, value_bytes: int = 2) -> int:
        """Returns the bytes of the cached keys and values if `num_global` layers cache all tokens."""
        per_token = 2 * self.kv_heads * self.head_width * value_bytes
        num_kept = min(num_tokens, WINDOW + SINKS)
        return per_token * (num_global * num_tokens + (self.layers - num_global) * num_kept)

    @property
    def num_global(self) -> int:
        """Layers that keep all keys if one in GLOBAL_EVERY does."""
        return self.layers // GLOBAL_EVERY

    def prompt_operations(self, num_tokens: int) -> int:
        """Returns the operations of the layers for a prompt: a product and a sum for each weight and token."""
        return 2 * self.in_layers * num_tokens


NANO = DecoderShape(layers=32, width=2_560, inner=8_704, heads=20, kv_heads=4, vocab=64_000, is_tied=True, banks=12)
BASE = DecoderShape(layers=32, width=4_096, inner=14_336, heads=32, kv_heads=8, vocab=32_000, is_tied=False, banks=12)
PRO = DecoderShape(layers=40, width=5_120, inner=16_384, heads=40, kv_heads=8, vocab=64_000, is_tied=False, banks=15)
SHAPES: Final = {"nano": NANO, "base": BASE, "pro": PRO}


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The speed of a machine, per second: bytes of memory read, and operations in INT8 and in 16 bits."""

    name: str
    memory: float
    """Bytes that weights, cache and activations may take."""
    bandwidth: float
    int8_operations: float
    wide_operations: float

    def token_s(self, num_bytes: float) -> float:
        """Returns the time of a token: every weight is read once."""
        return num_bytes / self.bandwidth

    def prompt_s(self, shape: DecoderShape, num_tokens: int, *, is_wide: bool = False) -> float:
        """Returns the time of a prompt in INT8, or in 16 bits if `is_wide`."""
        return shape.prompt_operations(num_tokens) / (self.wide_operations if is_wide else self.int8_operations)


SLOW_HOST = Machine(
    name="2 cores, 24 GiB, 30 GB/s, 400 GOP/s",
    memory=24 * 2**30,
    bandwidth=30e9,
    int8_operations=400e9,
    wide_operations=200e9,
)
FAST_HOST = Machine(
    name="2 cores, 24 GiB, 50 GB/s, 500 GOP/s",
    memory=24 * 2**30,
    bandwidth=50e9,
    int8_operations=500e9,
    wide_operations=320e9,
)
CARD = Machine(
    name="a card of 12 GB, 360 GB/s, 26 TOP/s",
    memory=12e9,
    bandwidth=360e9,
    int8_operations=26e12,
    wide_operations=26e12,
)
H100 = Machine(
    name="H100, 80 GB, 3.35 TB/s, 55 % of 989 TFLOP/s",
    memory=80e9,
    bandwidth=3.35e12,
    int8_operations=0.55 * 989e12,
    wide_operations=0.55 * 989e12,
)
MACHINES: Final = (SLOW_HOST, FAST_HOST, CARD, H100)


def profile_bytes(name: str) -> float:
    """Returns the memory of a profile in bytes: weights in its precision, the cache of CONTEXT tokens, and activations.

    nano stores shared banks in INT8, base INT4, pro FP16; the cache is INT8, and FP16 for pro.
    """
    shape = SHAPES[name]
    weights = {"nano": float(NANO.shared), "base": BASE.num_bytes(INT4), "pro": PRO.num_bytes(FP16)}
    cache = shape.kv_bytes(CONTEXT, num_global=shape.num_global, value_bytes=2 if name == "pro" else 1)
    return weights[name] + cache + ACTIVATION_BYTES[name]


def stored_size(profile: Profile[Any]) -> tuple[int, int]:
    """Returns the numbers of stored parameters and of bytes of a profile's encoder."""
    config = profile.config
    if isinstance(config, StaticConfig):
        # Besides the table, the two tokens of each pair are stored, in float32.
        num_parameters = config.rows * config.d_model
        return num_parameters, num_parameters + ROW_BYTES * config.rows + 8 * config.pairs
    return parameters(config).total, num_bytes(config, profile.scheme)


def profile_values(profile: Profile[Any]) -> dict[str, object]:
    """Returns the values that a profile fixes, for JSON."""
    num_parameters, size = stored_size(profile)
    return {
        "name": profile.name,
        "about": profile.about,
        "parameters": num_parameters,
        "num_bytes": size,
        "scheme": profile.scheme,
        "settings": dict(profile.settings),
    }


def profile_lines(profile: Profile[Any]) -> Iterator[str]:
    """Yields the lines of text that describe a profile."""
    num_parameters, size = stored_size(profile)
    yield f"{profile.name}: {profile.about}"
    yield f"  model     {num_parameters / 1e6:.1f} M stored parameters, {size / 1e6:.1f} MB as {profile.scheme}"
    for name, value in profile.settings.items():
        yield f"  {name} = {value}"


def arithmetic_lines() -> Iterator[str]:
    """Yields the tables: parameters, bytes, cache and time of each profile's shape at full size."""
    yield "At 3, 7 and 13 billion parameters, by arithmetic; nothing was measured"
    yield _row("", list(SHAPES))
    shapes = list(SHAPES.values())
    yield _row("parameters, dense (G)", [f"{shape.dense / 1e9:.2f}" for shape in shapes])
    yield _row("  of a layer, attention (M)", [f"{shape.attention / 1e6:.1f}" for shape in shapes])
    yield _row("  of a layer, feed-forward (M)", [f"{shape.feed_forward / 1e6:.1f}" for shape in shapes])
    yield _row("parameters, shared (G)", [_shared(shape) for shape in shapes])
    for name, bits in (("FP16", FP16), ("INT8 by row", INT8), ("INT4 by 64", INT4)):
        yield _row(f"{name} (GB)", [f"{shape.num_bytes(bits) / 1e9:.2f}" for shape in shapes])
    kib = [f"{shape.kv_bytes(1, num_global=shape.layers) >> 10}" for shape in shapes]
    yield _row("cache of a token, FP16 (KiB)", kib)
    for num_tokens in (LONG, CONTEXT):
        yield _row(f"cache of {num_tokens} tokens (GiB)", [_cache(shape, num_tokens) for shape in shapes])
    yield _row("", ["full / 1 of 6 full / none"] * 3)
    yield _row(f"all, {CONTEXT} tokens (GB)", [f"{profile_bytes(name) / 1e9:.1f}" for name in SHAPES])
    for machine in MACHINES:
        yield from _machine_lines(machine)


def at_full_size(name: str) -> dict[str, object]:
    """Returns the arithmetic of a profile at 3, 7 or 13 billion parameters, as values for JSON."""
    shape = SHAPES[name]
    return {
        "parameters": shape.dense,
        "parameters_shared": shape.shared,
        "bytes": {label: shape.num_bytes(bits) for label, bits in (("fp16", FP16), ("int8", INT8), ("int4", INT4))},
        "cache_bytes_of_a_token": shape.kv_bytes(1, num_global=shape.layers),
        f"bytes_with_{CONTEXT}_tokens": profile_bytes(name),
        "machines": {machine.name: _on(machine, name) for machine in MACHINES},
    }


def _on(machine: Machine, name: str) -> dict[str, object]:
    """Returns whether a profile fits a machine, and how long it takes there."""
    prompts = ((num, machine.prompt_s(SHAPES[name], num, is_wide=name == "pro")) for num in PROMPTS)
    return {
        "fits": profile_bytes(name) <= machine.memory,
        "token_ms": 1e3 * machine.token_s(_bytes_read(name)),
        "prompt_ms": {str(num_tokens): 1e3 * prompt_s for num_tokens, prompt_s in prompts},
    }


def render_profiles(names: Sequence[str], *, explains: bool) -> str:
    """Returns the text about profiles. If `explains`, it contains the arithmetic, too."""
    lines: list[str] = []
    for name in names:
        lines += profile_lines(PROFILES[name])
    return "\n".join([*lines, *(arithmetic_lines() if explains else ())])


def _machine_lines(machine: Machine) -> Iterator[str]:
    """Yields the lines of text about a machine: which profiles fit, and how long a token and a prompt take."""
    yield machine.name
    fits = {name: profile_bytes(name) <= machine.memory for name in SHAPES}
    yield _row("  fits", ["yes" if fits[name] else "no" for name in SHAPES])
    yield _row("  a token (ms)", [f"{1e3 * machine.token_s(_bytes_read(name)):.1f}" for name in SHAPES])
    for num_tokens in PROMPTS:
        times_s = [machine.prompt_s(shape, num_tokens, is_wide=name == "pro") for name, shape in SHAPES.items()]
        yield _row(f"  a prompt of {num_tokens} (ms)", [f"{1e3 * seconds:,.1f}" for seconds in times_s])


def _bytes_read(name: str) -> float:
    """Returns the bytes that are read for a token: nano reads each use of a shared matrix, base INT4, pro 16 bits."""
    return {"nano": NANO.in_layers, "base": BASE.num_bytes(INT4), "pro": PRO.num_bytes(FP16)}[name]


def _shared(shape: DecoderShape) -> str:
    return f"{shape.shared / 1e9:.2f} (-{100 * shape.saved:.1f} %)"


def _cache(shape: DecoderShape, num_tokens: int) -> str:
    patterns = (shape.layers, shape.num_global, 0)
    return " / ".join(f"{shape.kv_bytes(num_tokens, num_global=layers) / 2**30:.2f}" for layers in patterns)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<32}" + "".join(f"{cell:>28}" for cell in cells)
