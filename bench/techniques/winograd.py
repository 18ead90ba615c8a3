"""Measures row E8: convolutions by Winograd's filtering, compared with direct ones and with im2col.

bench/conv2d.py, in a process of its own, on one thread --> the least ratio among the layers of each bar
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.conv2d import DIRECT, IM2COL, OURS, measured
from bench.harness.case import Bar, Run, Technique
from evals.results.row import Row


def measure(run: Run) -> Iterator[Row]:
    """Yields the multiplications and the error. A full run also yields the speed of layers and of a training step."""
    results = measured(1, is_quick=run.is_quick)
    for name, times in results["multiplications"].items():
        yield run.row(f"multiplications_{name}", times)
    yield run.row("error", max(each["error"] for each in results["layers"]))
    if run.is_quick:
        return
    wide = [each for each in results["layers"] if each["channels"] >= 64]
    narrow = [each for each in results["layers"] if each["channels"] == 32]
    yield _least(run, "speed_direct", wide, DIRECT)
    yield _least(run, "speed_direct_32", narrow, DIRECT)
    yield _least(run, "speed_im2col", results["layers"], IM2COL)
    step = dict(results["step"])
    ours = step.pop(OURS)
    yield run.row("step", round(ours / max(step.values()), 2), note=f"{ours:.0f} images/s")
    yield _int8(run, results["int8"])


def _least(run: Run, bar: str, layers: Sequence[Mapping[str, Any]], peer: str) -> Row:
    ratios = {each["name"]: each["images_per_s"][OURS] / each["images_per_s"][peer] for each in layers}
    note = ", ".join(f"{name}: {ratio:.2f}" for name, ratio in ratios.items())
    return run.row(bar, round(min(ratios.values()), 2), note=note)


def _int8(run: Run, layers: Sequence[Mapping[str, Any]]) -> Row:
    """Returns the largest speed of the exact Winograd among the layers, relative to direct, and names the winners."""
    ratios = [each["images_per_s"]["native/exact_f2"] / each["images_per_s"]["native/direct"] for each in layers]
    chosen = [each["chosen"] for each in layers]
    note = ", ".join(f"{name}: {chosen.count(name)} of {len(chosen)} layers" for name in sorted(set(chosen)))
    return run.row("int8_exact", round(max(ratios), 2), note=f"the table chooses {note}")


TECHNIQUE = Technique(
    title="Winograd convolution",
    claim="The article promises a fourth of the multiplications.",
    how=(
        "3 x 3 convolutions of 32 to 256 channels, images of 14 to 56 pixels, in float32 on one thread. The layer that "
        "gains least counts, for one image and for eight. The step trains four convolutions on 64 images of 28 x 28 "
        "pixels. F(2x2,3x3) in INT8 is exact: its bits are the bits of the direct convolution."
    ),
    bars=(
        Bar(
            "multiplications_f4",
            "times fewer multiplications, F(4x4,3x3)",
            ">= 4",
            quick=">= 4",
            baseline="the direct convolution, counted",
        ),
        Bar(
            "multiplications_f2",
            "times fewer multiplications, F(2x2,3x3)",
            ">= 2.25",
            quick=">= 2.25",
            baseline="the direct convolution, counted",
        ),
        Bar(
            "error",
            "largest error, relative to the largest value",
            "<= 0.001",
            quick="<= 0.001",
            baseline="the direct convolution in float64",
        ),
        Bar(
            "speed_direct",
            "times as fast, 64 to 256 channels",
            ">= 2",
            baseline="torch's conv2d (oneDNN direct)",
        ),
        Bar(
            "speed_direct_32",
            "times as fast, 32 channels",
            ">= 1.1",
            baseline="torch's conv2d (oneDNN direct)",
        ),
        Bar("speed_im2col", "times as fast, all layers", ">= 1.5", baseline="im2col and torch's matrix product"),
        Bar("step", "times as fast, a training step", ">= 1.25", baseline="torch's layers, the better layout"),
        Bar(
            "int8_exact", "times as fast, F(2x2,3x3) in INT8, the best layer", baseline="our direct convolution in INT8"
        ),
    ),
)
