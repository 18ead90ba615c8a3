"""Times the 3 x 3 convolution, layer by layer and in a training step, against torch's and against im2col.

    python -m bench.conv2d THREADS [quick]

Prints, as JSON, images a second; all contestants of a layer take turns, and a figure is the median of its turns:

    ours      what the table of this machine chooses (`kernels.conv2d`), in float32
    direct    torch's conv2d, which is oneDNN's direct convolution, on images in channels_last
    im2col    the nine neighbours of each pixel as a row, times a matrix: torch's copy and torch's product

In INT8 the contestants are the direct convolution and Winograd's exact one, and direct in float32; the step is a step
of SGD of a network of four convolutions. Multiplications are counted by torch's counter of operations. On one thread,
time is processor time. The error is relative to the largest value of the convolution in float64.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from bench.harness.case import Run
from bench.harness.process import run_module
from bench.kernels import KernelSize
from bench.peers.rectangles import clock_for
from evals.results.row import Peer, Row
from kernels import conv2d
from kernels.allocator import keep_freed_memory
from kernels.conv2d import reference
from kernels.conv2d.training import Conv3x3
from kernels.linear_i8.reference import Int8Weight

OURS = "ours"
DIRECT = "direct"
IM2COL = "im2col"

LAYERS = ((32, 56), (32, 28), (64, 56), (64, 28), (128, 28), (256, 14))
"""Channels in and out, and the side of an image in pixels."""
IMAGES = (1, 8)
QUICK_LAYERS = ((32, 28),)

STEP_IMAGES = 64
STEP_WIDTHS = (1, 32, 64, 128, 128)
"""The channels of the four convolutions of the network, on images of 28 x 28 pixels."""

ROUNDS = 9
TURN_S = 0.02
"""The least duration of a turn, in seconds."""


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(KernelSize())
    yield from make_rows(measured(size.threads, is_quick=run.is_quick))


def measured(num_threads: int, *, is_quick: bool) -> Any:
    """Returns what a process of its own prints."""
    return run_module("bench.conv2d", str(num_threads), *(["quick"] if is_quick else []))


def make_rows(measured: Mapping[str, Any]) -> Iterator[Row]:
    """Yields a row for each layer in float32 and in INT8, and one for the training step. A ratio above 1 is faster."""
    for each in measured["layers"]:
        note = f"{each['chosen']}; error {each['error']:.1e}"
        yield _rate_row(f"conv2d.{each['name']}", each["images_per_s"], OURS, note)
    for each in measured["int8"]:
        yield _rate_row(f"conv2d_i8.{each['name']}", each["images_per_s"], each["chosen"], each["chosen"])
    yield _rate_row("conv2d.step", measured["step"], OURS, "images of 28 x 28 pixels")


def _rate_row(name: str, rates: Mapping[str, float], ours: str, note: str) -> Row:
    peers = [Peer(peer, round(rate)) for peer, rate in rates.items() if peer != ours]
    peers.sort(key=lambda peer: -peer.value)
    return Row.of(name, round(rates[ours]), "images/s", peers=tuple(peers), note=note)


def main(num_threads: int, layers: tuple[tuple[int, int], ...]) -> None:
    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    keep_freed_memory()
    clock = clock_for(num_threads)
    step = {name: STEP_IMAGES / seconds for name, seconds in turns_s(_steps(), clock).items()}
    with torch.no_grad():
        results = {
            "multiplications": {f"f{tile}": multiplications_saved(tile) for tile in (2, 4)},
            "layers": [_float_layer(*layer, images, clock) for layer in layers for images in IMAGES],
            "int8": [_int8_layer(*layer, images, clock) for layer in layers for images in IMAGES],
            "step": step,
        }
    print(json.dumps(results))


def turns_s(contestants: Mapping[str, Callable[[], object]], clock: Callable[[], float]) -> dict[str, float]:
    """Returns the seconds of a call of each contestant: the median of ROUNDS turns. The contestants take turns."""
    num_calls: dict[str, int] = {}
    for name, call in contestants.items():
        call()
        num_calls[name] = 1 + int(TURN_S / _elapsed_s(call, 1, clock))
    turns: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, call in contestants.items():
            turns[name].append(_elapsed_s(call, num_calls[name], clock))
    return {name: median(each) for name, each in turns.items()}


def _elapsed_s(call: Callable[[], object], num_calls: int, clock: Callable[[], float]) -> float:
    start_s = clock()
    for _ in range(num_calls):
        call()
    return (clock() - start_s) / num_calls


def multiplications_saved(tile: int) -> float:
    """Returns how many times fewer multiplications Winograd's products take, of images of whole tiles."""
    x_BCHW = torch.zeros(2, 3, 28, 28)
    w_OC33 = torch.zeros(5, 3, 3, 3)
    u_POC = reference.transform_filters(w_OC33, tile)
    v_PCT = reference.transform_images(functional.pad(x_BCHW, (1, 1, 1, 1)), tile)
    counts: list[int] = []
    for multiply in (partial(functional.conv2d, x_BCHW, w_OC33, padding=1), partial(reference.multiply, u_POC, v_PCT)):
        with FlopCounterMode(display=False) as counter:
            multiply()
        counts.append(counter.get_total_flops())
    return counts[0] / counts[1]


def _float_layer(channels: int, side: int, num_images: int, clock: Callable[[], float]) -> dict[str, Any]:
    x_BCHW = torch.randn(num_images, channels, side, side).contiguous(memory_format=torch.channels_last)
    w_OC33 = torch.randn(channels, channels, 3, 3) / (3 * channels**0.5)
    w_last = w_OC33.contiguous(memory_format=torch.channels_last)
    packed = conv2d.pack(w_OC33, size=(side, side))
    contestants = {
        OURS: partial(conv2d.conv2d, x_BCHW, packed),
        DIRECT: partial(functional.conv2d, x_BCHW, w_last, padding=1),
        IM2COL: partial(im2col, x_BCHW, w_OC33.permute(2, 3, 1, 0).reshape(-1, channels)),
    }
    exact = reference.conv2d(x_BCHW.double(), w_OC33)
    error = float((conv2d.conv2d(x_BCHW, packed) - exact).abs().max() / exact.abs().max())
    rates = {name: num_images / seconds for name, seconds in turns_s(contestants, clock).items()}
    name = f"{channels}x{side}.{num_images}"
    return {"name": name, "channels": channels, "images_per_s": rates, "chosen": packed.name, "error": error}


def im2col(x_BCHW: Tensor, w_KO: Tensor) -> Tensor:
    """Returns y_BOHW: rows of neighbours, K = 3 x 3 x C, times w_KO."""
    num_images, channels, height, width = x_BCHW.shape
    bordered = functional.pad(x_BCHW.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    neighbours = bordered.unfold(1, 3, 1).unfold(2, 3, 1).permute(0, 1, 2, 4, 5, 3)
    y_MO = torch.mm(neighbours.reshape(-1, 9 * channels), w_KO)
    return y_MO.view(num_images, height, width, -1).permute(0, 3, 1, 2)


def _int8_layer(channels: int, side: int, num_images: int, clock: Callable[[], float]) -> dict[str, Any]:
    # What a convolution reads after a ReLU.
    x_BCHW = torch.randn(num_images, channels, side, side).relu().contiguous(memory_format=torch.channels_last)
    q_OC33 = torch.randint(-127, 128, (channels, channels, 3, 3), dtype=torch.int8)
    weight = Int8Weight.of(q_OC33.flatten(1), torch.rand(channels), torch.randn(channels))
    candidates = [impl for impl in conv2d.MEASURED_I8 if not impl.why_unavailable(channels)]
    contestants = {impl.name: partial(impl.run(q_OC33, weight), x_BCHW) for impl in candidates}
    w_last = q_OC33.float().contiguous(memory_format=torch.channels_last)
    contestants["torch float32"] = partial(functional.conv2d, x_BCHW, w_last, padding=1)
    chosen = conv2d.pack_i8(q_OC33, weight.scale_N, size=(side, side)).name
    rates = {name: num_images / seconds for name, seconds in turns_s(contestants, clock).items()}
    return {"name": f"{channels}x{side}.{num_images}", "images_per_s": rates, "chosen": chosen}


def _steps() -> dict[str, Callable[[], object]]:
    """Returns a training step of our network, and of torch's in both layouts of images."""
    x_BCHW = torch.rand(STEP_IMAGES, STEP_WIDTHS[0], 28, 28)
    labels = torch.randint(0, 10, (STEP_IMAGES,))
    torchs = partial(nn.Conv2d, kernel_size=3, padding=1)
    return {
        OURS: partial(_step, *_trained(Conv3x3, torch.channels_last), x_BCHW, labels),
        DIRECT: partial(_step, *_trained(torchs, torch.channels_last), x_BCHW, labels),
        "direct, NCHW": partial(_step, *_trained(torchs, torch.contiguous_format), x_BCHW, labels),
    }


def _trained(
    layer: Callable[[int, int], nn.Module], layout: torch.memory_format
) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for number, (num_in, num_out) in enumerate(pairwise(STEP_WIDTHS)):
        parts += [layer(num_in, num_out), nn.ReLU()]
        if number in (1, 2):
            parts.append(nn.MaxPool2d(2))
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(STEP_WIDTHS[-1], 10)]
    network = nn.Sequential(*parts).to(memory_format=layout)
    return network, torch.optim.SGD(network.parameters(), lr=0.01)


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, x_BCHW: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    functional.cross_entropy(network(x_BCHW), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


if __name__ == "__main__":
    main(int(sys.argv[1]), QUICK_LAYERS if "quick" in sys.argv[2:] else LAYERS)
