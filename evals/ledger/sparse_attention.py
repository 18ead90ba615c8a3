"""Measures row E1: attention by spans, local and routed, beside full attention."""

from evals.ledger.experiment import Bar, Experiment, not_here
from evals.results.row import Goal

EXPERIMENT = Experiment(
    id="E1",
    title="sparse attention",
    claim="The article promises 72 % fewer FLOPs and O(n log n).",
    how="MQAR at 1,024 tokens",
    bars=(
        Bar(
            name="attention_flops",
            unit="% of full attention at n = 1,024",
            goal=Goal("<=", 28),
            quick=Goal("<=", 28),
            baseline="full attention, counted",
        ),
        Bar(
            name="mqar",
            unit="% of the accuracy of full attention",
            goal=Goal(">=", 99),
            baseline="the same model with full attention, and with local spans alone",
        ),
        Bar(
            name="time_slope",
            unit="slope of log time over log n, 2,048 to 16,384 tokens",
            goal=Goal("<=", 1.15),
            baseline="1 is linear, 2 is full attention",
        ),
        Bar(
            name="speed_4k",
            unit="texts/s at 4,096 tokens, one thread",
            goal=Goal(">=", 10, of_peer=True),
            baseline="torch's scaled_dot_product_attention in float32",
        ),
        Bar(
            name="speed_8k",
            unit="texts/s at 8,192 tokens, one thread",
            goal=Goal(">=", 20, of_peer=True),
            baseline="torch's scaled_dot_product_attention in float32",
        ),
        Bar(
            name="posthoc_cosine",
            unit="lowest mean cosine of MiniLM at 512 tokens, without training",
            goal=Goal(">=", 0.99),
            quick=Goal(">=", 0.99),
            baseline="the same encoder with full attention",
        ),
        Bar(
            name="cuad_gain",
            unit="points of accuracy on CUAD, 8,192 tokens",
            goal=Goal(">=", 3),
            baseline="the same learner on the first 512 tokens",
        ),
    ),
    measure=not_here,
)
