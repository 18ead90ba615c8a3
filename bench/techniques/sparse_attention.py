"""Measures row E1: attention with local and routed spans, compared with full attention.

    counted      operations of attention and routing in the toy encoder at 1,024 tokens    lifelong/compress/cost.py
    recalled     toy encoders with equal initial weights and full, routed or local attention    recall.py
    timed        the kernel, compared with torch's fused attention                         bench/sparse_attention.py
    post hoc     MiniLM without training; each head gets the narrowest span that keeps most of its attention
                 (lifelong/compress/spans.py): texts of 512 tokens from CUAD
    long texts   classifiers of whole contracts, and of their first 512 tokens             long_texts.py

The three toy encoders share their weights while texts are so short that all spans see them as a whole. Then each is
trained for the same number of further steps.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch

from bench.harness.case import Bar, Run, Technique
from bench.harness.texts import data_folder
from bench.sparse_attention import LENGTHS, OURS, TORCH, slope, times_ms
from bench.techniques.long_texts import cuad_gain
from bench.techniques.recall import FULL, LOCAL, SPARSE, Lesson, RecallNet, recall, train
from bench.techniques.tasks import contracts
from evals.results.row import Peer, Row
from lifelong.compress.cost import flops
from lifelong.compress.spans import allocate, measure_heads
from model.bert import load_encoder
from model.config import Span, StrataConfig
from model.ragged import RaggedBatch

LENGTH = 1_024
SHORT = (
    Lesson(length=24, num_pairs=4, num_queries=16, batch=32, steps=700),
    Lesson(length=64, num_pairs=12, num_queries=40, batch=16, steps=150),
    Lesson(length=192, num_pairs=32, num_queries=100, batch=8, steps=200),
)
LONG = Lesson(length=LENGTH, num_pairs=32, num_queries=64, batch=2, steps=80)
RATE = 2e-3

POSITIONS = 512
"""The positions of MiniLM."""
SPANS = (
    Span(kind="local", window=64, sinks=4),
    Span(kind="local", window=128, sinks=4),
    *(Span(kind="topk", window=64, sinks=4, block=32, topk=topk) for topk in (2, 4, 6, 8, 10)),
)
ENOUGH = 0.9
"""The fraction of its attention that each head keeps in its span."""


def measure(run: Run) -> Iterator[Row]:
    """Yields the row of the counted operations. A full run also yields the other rows that the module lists."""
    torch.set_num_threads(1)
    yield run.row("attention_flops", _percent_of_full(SPARSE, LENGTH))
    if not run.is_quick:
        yield _post_hoc_row(run)
        yield from cuad_gain(run)
        yield _recall_row(run)
        yield from _time_rows(run)


def _percent_of_full(config: StrataConfig, num_tokens: int) -> float:
    """Returns the operations of attention and routing, in percent of the operations of full attention."""
    plain = replace(config, layers=(), spans=())
    sparse = flops(config, num_tokens)
    return 100 * (sparse.attention + sparse.routing) / flops(plain, num_tokens).attention


def _recall_row(run: Run) -> Row:
    torch.manual_seed(run.seed)
    net = RecallNet(FULL)
    losses = train(net, SHORT, rate=RATE, seed=run.seed)
    run.say(f"short texts end at a loss of {losses[-1]:.3f}")
    right: dict[str, float] = {}
    for name, config in (("full", FULL), ("routed", SPARSE), ("local", LOCAL)):
        branch = net.with_spans(config)
        train(branch, [LONG], rate=RATE / 3, seed=run.seed + 1_000)
        right[name] = recall(branch, replace(LONG, steps=16), seed=run.seed)
        run.say(f"{name} attention recalls {right[name]:.2f} %")
    return run.row(
        "mqar",
        100 * right["routed"] / max(right["full"], 1e-9),
        note=", ".join(f"{name} {value:.2f} %" for name, value in right.items()),
    )


def _time_rows(run: Run) -> Iterator[Row]:
    """Yields the slope of our time over the length, and our rates compared with torch's."""
    ms = {length: times_ms(length) for length in LENGTHS}
    yield run.row("time_slope", slope({length: each[OURS] for length, each in ms.items()}))
    for bar, length in (("speed_4k", 4_096), ("speed_8k", 8_192)):
        yield run.row(bar, 1e3 / ms[length][OURS], peers=(Peer(TORCH, 1e3 / ms[length][TORCH]),))


@torch.no_grad()
def _post_hoc_row(run: Run) -> Row:
    """Returns the mean cosine between full and sparse attention, on texts of POSITIONS tokens."""
    strata, tokenizer = load_encoder("minilm-l6", max_tokens=POSITIONS)
    texts = [item.text for item in contracts(data_folder())[run.seed :: 17][:20]]
    token_ids = [ids for ids in tokenizer.encode_many(texts) if len(ids) == POSITIONS]
    # The last eight texts choose the spans; the other texts measure the cosine.
    calibration = token_ids[-8:]
    token_ids = token_ids[:-8]
    sparse = allocate(strata, measure_heads(strata, calibration, SPANS), SPANS, enough=ENOUGH).eval()
    batches = [RaggedBatch.of([ids]) for ids in token_ids]
    cosines = [float((strata(batch) * sparse(batch)).sum()) for batch in batches]
    share = _percent_of_full(sparse.config, POSITIONS)
    return run.row(
        "posthoc_cosine",
        sum(cosines) / len(cosines),
        note=f"{len(cosines)} texts, the lowest {min(cosines):.4f}, at {share:.0f} % of the operations of attention",
    )


TECHNIQUE = Technique(
    title="sparse attention",
    claim="The article promises 72 % fewer FLOPs and O(n log n).",
    how=(
        "`mqar`: 4 layers of width 128, texts of 1,024 tokens with 32 pairs. `posthoc_cosine`: MiniLM on contracts "
        "of CUAD; each head has the span that keeps 90 % of its attention on eight other contracts. `cuad_gain`: the "
        "type of 357 contracts by the learner's head, five folds, with windows of 64 and without training. The type "
        "stands in a contract's first lines, so long texts lose it."
    ),
    bars=(
        Bar(
            "attention_flops",
            "% of full attention at n = 1,024",
            "<= 28",
            quick="<= 28",
            baseline="full attention, counted",
        ),
        Bar(
            "mqar",
            "% of the accuracy of full attention",
            ">= 99",
            baseline="the same model with full attention, and with local spans alone",
        ),
        Bar(
            "time_slope",
            "slope of log time over log n, 2,048 to 16,384 tokens",
            "<= 1.15",
            baseline="1 is linear, 2 is full attention",
        ),
        Bar(
            "speed_4k",
            "texts/s at 4,096 tokens, one thread",
            ">= 10x",
            baseline="torch's scaled_dot_product_attention in float32",
        ),
        Bar(
            "speed_8k",
            "texts/s at 8,192 tokens, one thread",
            ">= 20x",
            baseline="torch's scaled_dot_product_attention in float32",
        ),
        Bar(
            "posthoc_cosine",
            "mean cosine of MiniLM at 512 tokens, without training",
            ">= 0.99",
            baseline="the same encoder with full attention",
        ),
        Bar(
            "cuad_gain",
            "points of accuracy on CUAD's types of contracts, 8,192 tokens",
            ">= 3",
            baseline="the same learner on the first 512 tokens",
        ),
        Bar(
            "clause_gain",
            "points of mean average precision on CUAD's clauses, 8,192 tokens",
            baseline="the same heads on the first 512 tokens",
        ),
    ),
)
