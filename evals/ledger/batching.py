"""Measures row E6: ragged batches on fused kernels beside a plain server."""

from evals.ledger.experiment import Bar, Experiment, not_here
from evals.results.row import Goal

EXPERIMENT = Experiment(
    id="E6",
    title="batching and fusion",
    claim="The article gives ratios: 0.41 of the memory and latency of a plain server, 2.67 of its rate, 89 % busy.",
    how="Ours against our own plain server: eager float32 torch with padded batches.",
    bars=(
        Bar(
            name="memory_512",
            unit="MiB, MiniLM at 512 tokens",
            goal=Goal("<=", 0.41, of_peer=True),
            baseline="the plain server",
        ),
        Bar(
            name="p50_512",
            unit="ms, MiniLM at 512 tokens, one text",
            goal=Goal("<=", 0.41, of_peer=True),
            baseline="the plain server",
        ),
        Bar(
            name="rate_512",
            unit="texts/s, MiniLM at 512 tokens",
            goal=Goal(">=", 2.67, of_peer=True),
            baseline="the plain server",
        ),
        Bar(
            name="memory_1024",
            unit="MiB, RoPE at 1,024 tokens",
            goal=Goal("<=", 0.41, of_peer=True),
            baseline="the plain server",
        ),
        Bar(
            name="p50_1024",
            unit="ms, RoPE at 1,024 tokens, one text",
            goal=Goal("<=", 0.41, of_peer=True),
            baseline="the plain server",
        ),
        Bar(
            name="rate_1024",
            unit="texts/s, RoPE at 1,024 tokens",
            goal=Goal(">=", 2.67, of_peer=True),
            baseline="the plain server",
        ),
        Bar(
            name="busy",
            unit="share of the time in which the engine computes, at saturation",
            goal=Goal(">=", 0.89),
            baseline="all of the time",
        ),
        Bar(
            name="zipf",
            unit="texts/s, lengths drawn from 8 to 512 by Zipf",
            goal=Goal(">=", 1.3, of_peer=True),
            baseline="the best peer that is installed",
        ),
    ),
    measure=not_here,
)
