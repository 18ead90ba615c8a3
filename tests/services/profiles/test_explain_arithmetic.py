"""The tables of memory and latency at 3, 7 and 13 billion parameters, number by number."""

import pytest

from services.profiles.explain import (
    BASE,
    CARD,
    FAST_HOST,
    FP16,
    H100,
    INT4,
    INT8,
    NANO,
    PRO,
    SLOW_HOST,
    DecoderShape,
    profile_bytes,
)

GIB = 2**30
ALL = (NANO, BASE, PRO)


def near(*values: float, within: float = 0.006) -> list[object]:
    """Returns the printed numbers, each with the rounding of its last digit."""
    return [pytest.approx(value, abs=within) for value in values]


def test_parameters() -> None:
    assert [shape.dense / 1e9 for shape in ALL] == near(2.81, 7.24, 13.24)
    assert [shape.attention / 1e6 for shape in ALL] == near(15.7, 41.9, 62.9, within=0.06)
    assert [shape.feed_forward / 1e6 for shape in ALL] == near(66.8, 176.2, 251.7, within=0.06)
    assert [shape.shared / 1e9 for shape in ALL] == near(1.18, 2.92, 5.44)
    assert [100 * shape.saved for shape in ALL] == near(57.9, 59.7, 58.9, within=0.06)


@pytest.mark.parametrize(
    ("bits", "gigabytes"), [(FP16, (5.6, 14.5, 26.5)), (INT8, (2.81, 7.25, 13.25)), (INT4, (1.49, 3.85, 7.03))]
)
def test_bytes_of_the_weights(bits: float, gigabytes: tuple[float, ...]) -> None:
    within = 0.06 if bits == FP16 else 0.006
    assert [shape.num_bytes(bits) / 1e9 for shape in ALL] == near(*gigabytes, within=within)


@pytest.mark.parametrize(
    ("shape", "kib_per_token", "at_32k", "at_4k"),
    [
        (NANO, 64, (2.00, 0.37, 0.06), (0.25, 0.09, 0.06)),
        (BASE, 128, (4.00, 0.73, 0.13), (0.50, 0.18, 0.13)),
        (PRO, 160, (5.00, 0.88, 0.16), (0.63, 0.23, 0.16)),
    ],
)
def test_bytes_of_the_cache(
    shape: DecoderShape, kib_per_token: int, at_32k: tuple[float, ...], at_4k: tuple[float, ...]
) -> None:
    assert shape.kv_bytes(1, num_global=shape.layers) == kib_per_token << 10
    for num_tokens, expected in ((32_768, at_32k), (4_096, at_4k)):
        patterns = (shape.layers, shape.num_global, 0)
        found = [shape.kv_bytes(num_tokens, num_global=layers) / GIB for layers in patterns]
        assert found == near(*expected)
        halves = [shape.kv_bytes(num_tokens, num_global=layers, value_bytes=1) / GIB for layers in patterns]
        assert halves == [value / 2 for value in found]


def test_the_window_saves_four_fifths_of_the_cache_of_base() -> None:
    full = BASE.kv_bytes(32_768, num_global=BASE.layers)
    assert 100 * (1 - BASE.kv_bytes(32_768, num_global=BASE.num_global) / full) == pytest.approx(81.7, abs=0.06)


def test_what_a_profile_needs_in_all() -> None:
    assert [profile_bytes(name) / 1e9 for name in ("nano", "base", "pro")] == near(1.3, 4.25, 27.7, within=0.06)
    assert profile_bytes("nano") < 1.5e9 < NANO.num_bytes(INT8)
    assert profile_bytes("pro") > 24 * GIB


def test_time_of_a_token() -> None:
    int4 = BASE.num_bytes(INT4)
    assert [1e3 * machine.token_s(int4) for machine in (FAST_HOST, SLOW_HOST)] == near(77, 128, within=0.6)
    assert [1e3 * machine.token_s(int4) for machine in (CARD, H100)] == near(10.7, 1.15, within=0.06)
    read = NANO.in_layers  # every use of a shared bank is read again
    assert [1e3 * machine.token_s(read) for machine in (FAST_HOST, SLOW_HOST)] == near(53, 88, within=0.6)
    assert [1e3 * machine.token_s(read) for machine in (CARD, H100)] == near(7.3, 0.8, within=0.06)


def test_time_of_a_prompt() -> None:
    assert BASE.prompt_operations(16) / 1e9 == pytest.approx(223, abs=0.6)
    assert BASE.prompt_operations(128) / 1e12 == pytest.approx(1.8, abs=0.06)
    assert FAST_HOST.prompt_s(BASE, 16) > 0.15 > CARD.prompt_s(BASE, 128)
    assert 30 * NANO.prompt_operations(16) / 1e12 == pytest.approx(2.5, abs=0.06)
    assert 1 / FAST_HOST.prompt_s(NANO, 16) < 30 < 1 / CARD.prompt_s(NANO, 16)
    assert PRO.prompt_operations(512) / 1e12 == pytest.approx(12.9, abs=0.06)
    assert [host.prompt_s(PRO, 512, is_wide=True) for host in (FAST_HOST, SLOW_HOST)] == near(40, 65, within=0.6)
    assert 60 / H100.prompt_s(PRO, 512, is_wide=True) == pytest.approx(2_500, abs=50)
