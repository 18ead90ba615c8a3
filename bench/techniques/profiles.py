"""Measures row E11: the promises of the profiles, at the scale of the demo.

nano    accuracy relative to the dense encoder, stored bytes, and texts a second one after another
base    accuracy of the same head in INT4; a demo with base alone: p99 and precisions;
        a demo that changes from base to nano: lost and mixed events
pro     the speed of its encoder
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from bench.demo import run_demo
from bench.harness.case import Bar, Run, Technique
from bench.harness.texts import data_folder
from bench.harness.timing import thread_times_s
from bench.techniques.tasks import load_tasks, served_encoder, task_accuracy
from evals.results.row import NoResult, Peer, Row
from model.bert import load_encoder
from model.config import StrataConfig
from model.quantized import INT4, INT8, QuantizedEncoder
from model.ragged import RaggedBatch
from model.strata import Strata
from model.weights import encoder_tensors
from services.profiles.encoders import build_encoder
from services.profiles.profile import BASE, NANO, PRO

NANO_SHAPE = NANO.config

LOAD_PER_S = 72.0
"""The load of the demo whose latency is measured, in events a second."""


def nano_encoder(data: Path | None, say: Callable[[str], None], *, seed: int) -> str:
    """Returns the folder of nano's encoder, distilled with `seed`. Making the encoder takes minutes."""
    return build_encoder(NANO, data=data, say=say, seed=seed)


class LoadFigures(NamedTuple):
    """The latency and the precisions of a service at a steady load."""

    p99_ms: float
    precisions: Mapping[str, int]
    """Precision -> the number of answers."""


def base_under_load(seed: int) -> LoadFigures:
    """Plays the demo with base alone. Raises NoResult if the demo fails."""
    figures = run_demo("--profile", BASE.name, "--rate", f"{LOAD_PER_S:g}", "--seed", str(seed)).figures
    return LoadFigures(figures["latency_ms"]["p99"], figures["precisions"])


def change_under_load(seed: int) -> int:
    """Plays the demo with base, and changes to nano in the middle.

    Returns the number of events that were lost, answered twice, answered by a mixture of two versions, or answered by
    a version that is gone. Raises NoResult if the demo fails or the change is refused.
    """
    arguments = ("--profile", BASE.name, "--change-to", NANO.name, "--seed", str(seed))
    figures = run_demo(*arguments).figures
    change = figures["change"]
    if len(change["recomputed"]["encoders"]) != 2:
        raise NoResult(f"the profile did not change: {change['outcome']}")
    wrong = figures["lost"] + figures["duplicates"] + change["recomputed"]["mixed"] + change["recomputed"]["gone"]
    return int(wrong)


DOCUMENT = 512
"""The number of tokens of a document."""
REQUEST = 16
"""The number of tokens of a request: the length of a text of CLINC150."""
BATCH = 8


@torch.no_grad()
def measure(run: Run) -> Iterator[Row]:
    """Yields the rows of pro, nano and base. A quick run measures nano's shape with random weights.

    Raises Skip without data, and NoResult if a demo fails.
    """
    torch.set_num_threads(1)
    torch.manual_seed(run.seed)
    whole, _ = load_encoder(build_encoder(PRO, data=None, say=run.say))
    documents = 60.0 * _texts_per_s(whole, BATCH, run.amount(DOCUMENT // 8, DOCUMENT), run)
    yield run.row("pro_rate", round(documents, 1))
    if run.is_quick:
        yield from speed_and_size(_untrained(NANO_SHAPE), run)
        return
    (task,) = load_tasks(run, ("clinc150",), train=15_000, test=4_500)
    # If the folder of nano's encoder does not exist yet, the encoder is trained now.
    with torch.enable_grad():
        strata, tokenizer = load_encoder(nano_encoder(data_folder(), run.say, seed=run.seed))
    yield from speed_and_size(strata, run)
    dense = served_encoder(*load_encoder("minilm-l6"))
    int8, int4 = (task_accuracy(dense, task, precision) for precision in (INT8, INT4))
    yield run.row("base_accuracy", round(int4, 2), peers=(Peer(INT8, round(int8, 2)),))
    kept = 100 * task_accuracy(served_encoder(strata, tokenizer), task) / int8
    yield run.row("nano_retained", round(kept, 2), peers=(Peer("minilm-l6", 100.0),))
    base = base_under_load(run.seed)
    counts = ", ".join(f"{num} answers in {name}" for name, num in sorted(base.precisions.items()))
    is_all_int4 = set(base.precisions) == {INT4}
    note = f"at {LOAD_PER_S:g} events/s; {counts}"
    yield run.row("base_p99", base.p99_ms if is_all_int4 else None, note=note)
    yield run.row("change_lost", change_under_load(run.seed))


def speed_and_size(nano: Strata, run: Run) -> Iterator[Row]:
    """Yields the rate of one thread in requests a second, and the stored weights in megabytes."""
    yield run.row("nano_rate", round(_texts_per_s(nano, 1, REQUEST, run), 1))
    num_bytes = sum(len(tensor.to_blob()) for tensor in encoder_tensors(nano).values())
    yield run.row("nano_bytes", round(num_bytes / 1e6, 2))


def _untrained(config: StrataConfig) -> Strata:
    return Strata(config).eval().requires_grad_(False)


def _texts_per_s(strata: Strata, num_texts: int, num_tokens: int, run: Run) -> float:
    """Returns texts a second of processor time in INT8 on one thread, in batches of `num_texts` x `num_tokens`."""
    encoder = QuantizedEncoder.from_tensors(strata.config, encoder_tensors(strata))
    batch = RaggedBatch.of(torch.randint(1_000, strata.config.vocab, (num_texts, num_tokens)).tolist())
    return num_texts / median(thread_times_s(partial(encoder.encode, batch, INT8), run.amount(1, 50) / 10))


TECHNIQUE = Technique(
    title="profiles",
    claim="The article promises 150 ms and 88 % (base), 500 documents/min (pro), 30 requests/s (nano).",
    how=(
        "At demo scale; `lifelong profile --explain` has the arithmetic for 3, 7 and 13 billion parameters. nano, "
        "pro: processor time of one thread. Accuracy: a closed-form head of 15,000 labels, "
        "CLINC150's test texts. `base_p99`: `lifelong demo --profile base`. `change_lost`: `lifelong demo --profile "
        "base --change-to nano`."
    ),
    bars=(
        Bar("base_p99", "ms, INT4, at the demo's load", "<= 150", baseline="the promise"),
        Bar("base_accuracy", "% on CLINC150, INT4", ">= 88", baseline="the promise; also shown: INT8"),
        Bar("pro_rate", "documents of 512 tokens a minute", ">= 500", baseline="the promise"),
        Bar("nano_rate", "requests/s on one core", ">= 30", baseline="the promise"),
        Bar(
            "nano_bytes",
            "MB of stored weights",
            "<= 11.3",
            quick="<= 11.3",
            baseline="half a byte for each parameter that it replaces",
        ),
        Bar("nano_retained", "% of the dense model's accuracy", ">= 97", baseline="the dense model"),
        Bar("change_lost", "events lost or mixed while the profile changes under load", "<= 0", baseline="none"),
    ),
)
