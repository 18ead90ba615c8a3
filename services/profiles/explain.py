"""Shows profiles: what each fixes, and the arithmetic of its promise at 3, 7 and 13 billion parameters."""

from collections.abc import Iterator, Sequence

from model.cost import num_bytes, parameters
from services.profiles.arithmetic import (
    BASE,
    CONTEXT,
    FP16,
    INT4,
    INT8,
    MACHINES,
    NANO,
    PRO,
    SHAPES,
    DecoderShape,
    Machine,
    profile_bytes,
)
from services.profiles.profile import PROFILES, Profile

PROMPTS = (16, 128, 512)
"""Tokens of the prompts whose time is shown."""

LONG = 32_768


def summary(profile: Profile) -> dict[str, object]:
    """Returns what a profile fixes, as values for JSON."""
    return {
        "name": profile.name,
        "about": profile.about,
        "parameters": parameters(profile.config).total,
        "num_bytes": num_bytes(profile.config, profile.scheme),
        "scheme": profile.scheme,
        "settings": dict(profile.settings),
    }


def profile_lines(profile: Profile) -> Iterator[str]:
    """Yields a profile as text."""
    stored = parameters(profile.config).total / 1e6
    megabytes = num_bytes(profile.config, profile.scheme) / 1e6
    yield f"{profile.name}: {profile.about}"
    yield f"  model     {stored:.1f} M stored parameters, {megabytes:.1f} MB as {profile.scheme}"
    for name, value in profile.settings.items():
        yield f"  {name} = {value}"


def arithmetic_lines() -> Iterator[str]:
    """Yields the tables: parameters, bytes, cache and time of each profile's shape at full size."""
    yield "At 3, 7 and 13 billion parameters, by arithmetic; nothing of it was measured"
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


def text(names: Sequence[str], *, explains: bool) -> str:
    """Returns profiles as text, with the arithmetic where `explains`."""
    lines: list[str] = []
    for name in names:
        lines += profile_lines(PROFILES[name])
    return "\n".join([*lines, *(arithmetic_lines() if explains else ())])


def _machine_lines(machine: Machine) -> Iterator[str]:
    """Yields the times on a machine."""
    yield machine.name
    fits = {name: profile_bytes(name) <= machine.memory for name in SHAPES}
    yield _row("  fits", ["yes" if fits[name] else "no" for name in SHAPES])
    yield _row("  a token (ms)", [f"{1e3 * machine.token_s(_bytes_read(name)):.1f}" for name in SHAPES])
    for num_tokens in PROMPTS:
        times_s = [machine.prompt_s(shape, num_tokens, is_wide=name == "pro") for name, shape in SHAPES.items()]
        yield _row(f"  a prompt of {num_tokens} (ms)", [f"{1e3 * seconds:,.1f}" for seconds in times_s])


def _bytes_read(name: str) -> float:
    """Returns what is read for a token: nano reads every use of a shared matrix, base INT4, pro 16 bits."""
    return {"nano": NANO.in_layers, "base": BASE.num_bytes(INT4), "pro": PRO.num_bytes(FP16)}[name]


def _shared(shape: DecoderShape) -> str:
    return f"{shape.shared / 1e9:.2f} (-{100 * shape.saved:.1f} %)"


def _cache(shape: DecoderShape, num_tokens: int) -> str:
    patterns = (shape.layers, shape.num_global, 0)
    return " / ".join(f"{shape.kv_bytes(num_tokens, num_global=layers) / 2**30:.2f}" for layers in patterns)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<32}" + "".join(f"{cell:>28}" for cell in cells)
