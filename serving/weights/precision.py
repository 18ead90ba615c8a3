"""Chooses the precision of a batch: the fastest that is accurate enough, with hysteresis. And times each of them.

    encode(batch, precision) --measure: every size, every precision in turn--> LatencyTable, with a version
    load, tokens, floors, latencies, the previous choice --choose--> Choice: a precision for each version

A precision is accurate enough when the learner measured it, on holdout feedback, within a floor below the version's
best. Of these the best answers, unless another is faster by a margin on this machine; one that answers already is kept
until half of the margin is lost. An overloaded replica browns out: until half of the load is gone, the floor is lower
and the fastest answers, whatever its margin.

The measurement runs in the thread that loads weights, within a budget of time: sizes that do not fit any more are left
out, and times beyond the largest size are extrapolated in proportion. Times are those of the thread on the processor:
under load a thread waits for a processor as long as it computes, and by the clock on the wall 7 of 40 tables called
INT4 faster for 40 tokens where it is slower (two busy cores, Zen 4; none of 40 does now). The precisions take turns,
and the best of their times counts.

Rejected: a finer model of load (the queue's length says all that the batch can change), a mode that may go below the
floor (weights that lost more than that should not be published in that precision), a table of times that comes with the
weights (another processor has other times), and learning it from the batches that are answered (a precision that was
never chosen would never be measured).
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from model.packed import Inputs, PackedEncoder
from model.ragged import RaggedBatch
from serving.engine_config import PrecisionConfig
from serving.weights.active import LatencyTable, Version
from wire.records import PrecisionEvaluation

AUTO: Final = "auto"

TEXT_TOKENS: Final = 16
NUM_TEXTS: Final = (1, 4, 16, 64)
ROUNDS: Final = 3
BUDGET_S: Final = 0.3

EncodeIn: TypeAlias = Callable[[RaggedBatch, str], object]


@dataclass(frozen=True, slots=True)
class Choice:
    """The precision of each version's rows, by its task and its number. The next choice depends on it."""

    by_version: Mapping[tuple[str, int], str]
    is_brown_out: bool = False

    def of_task(self, task: str) -> dict[int, str]:
        """Returns the precision of each version of a task, by its number."""
        return {number: precision for (each, number), precision in self.by_version.items() if each == task}


NO_CHOICE: Final = Choice({})


def choose(
    versions: Mapping[tuple[str, int], Version],
    *,
    num_tokens: int,
    load: float,
    previous: Choice,
    config: PrecisionConfig,
) -> Choice:
    """Chooses for a batch of `num_tokens`. `load` is how full the queue is without that batch, as a share of its
    bound."""
    is_brown_out = can_brown_out(versions.values(), config) and is_overloaded(
        load, was_overloaded=previous.is_brown_out, limit=config.brown_out_load
    )
    chosen: dict[tuple[str, int], str] = {}
    for key, version in versions.items():
        names = allowed(version.precisions, config, is_brown_out=is_brown_out)
        if is_brown_out:
            chosen[key] = preferred(names, version.latency, num_tokens, min_gain=0.0, current=None)
        else:
            current = previous.by_version.get(key)
            chosen[key] = preferred(names, version.latency, num_tokens, min_gain=config.min_gain, current=current)
    return Choice(chosen, is_brown_out)


def allowed(
    precisions: Sequence[PrecisionEvaluation], config: PrecisionConfig, *, is_brown_out: bool = False
) -> tuple[str, ...]:
    """Returns the precisions that may answer, best first. A fixed mode leaves one: its own where the floor admits it,
    else the best."""
    if config.mode == AUTO:
        return accurate(precisions, config.brown_out_accuracy_loss if is_brown_out else config.max_accuracy_loss)
    names = accurate(precisions, config.max_accuracy_loss)
    return (config.mode,) if config.mode in names else names[:1]


def accurate(precisions: Sequence[PrecisionEvaluation], max_loss: float) -> tuple[str, ...]:
    """Returns the precisions within the floor. While nothing was measured, the best alone.

    >>> measured = [PrecisionEvaluation(name="int8", accuracy=0.9), PrecisionEvaluation(name="int4", accuracy=0.88)]
    >>> accurate(measured, 0.005), accurate(measured, 0.03)
    (('int8',), ('int8', 'int4'))
    """
    best, *others = precisions
    floor = best.accuracy - max_loss
    return (best.name, *(other.name for other in others if best.accuracy and other.accuracy >= floor))


def preferred(
    names: Sequence[str], latency: LatencyTable, num_tokens: int, *, min_gain: float, current: str | None
) -> str:
    """Returns the fastest where it saves the share `min_gain` of the best's time, else the best, which is the first.

    Half of `min_gain` is enough for the fastest where it is `current`. Without latencies, the best is returned.
    """
    best = names[0]
    if len(names) == 1 or not latency.knows(names):
        return best
    fastest = min(names, key=lambda name: latency.ms_of(name, num_tokens))
    gain = 1 - latency.ms_of(fastest, num_tokens) / latency.ms_of(best, num_tokens)
    required = min_gain / 2 if fastest == current else min_gain
    return fastest if gain >= required else best


def is_overloaded(load: float, *, was_overloaded: bool, limit: float) -> bool:
    """Whether the load is above `limit`, or, with hysteresis, above half of it.

    >>> [is_overloaded(load, was_overloaded=True, limit=0.5) for load in (0.25, 0.26)]
    [False, True]
    >>> is_overloaded(0.5, was_overloaded=False, limit=0.5)
    False
    """
    threshold = limit / 2 if was_overloaded else limit
    return load > threshold


def can_brown_out(versions: Iterable[Version], config: PrecisionConfig) -> bool:
    """Whether any version has a choice of precisions under the lower floor."""
    return any(len(allowed(version.precisions, config, is_brown_out=True)) > 1 for version in versions)


def measure(
    encode: EncodeIn,
    precisions: Sequence[str],
    *,
    vocab: int,
    examples: Sequence[Sequence[int]] = (),
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.thread_time,
) -> LatencyTable:
    """Measures the table of these precisions. The smallest size is always measured; another, if a round of it fits the
    budget.

    A batch has the `examples` in turn, or tokens that are spread over the vocabulary, as those of real texts are.
    Raises whatever `encode` raises.
    """
    end_s = clock() + budget_s
    sizes: list[int] = []
    ms: dict[str, list[float]] = {precision: [] for precision in precisions}
    rounds = ROUNDS
    num_before = 1
    for num_texts in NUM_TEXTS:
        if sizes:
            round_s = sum(times[-1] for times in ms.values()) / 1e3 * num_texts / num_before
            rounds = min(ROUNDS, int((end_s - clock()) / round_s))
        if rounds < 1:
            break
        batch = _batch(num_texts, vocab, examples)
        sizes.append(len(batch.ids_T))
        for precision, best_s in _best_times_s(encode, batch, precisions, rounds, clock).items():
            ms[precision].append(1e3 * best_s)
        num_before = num_texts
    return LatencyTable(tuple(sizes), {precision: tuple(times) for precision, times in ms.items()})


def times_of(encoder: PackedEncoder, precisions: Sequence[str], inputs: Inputs) -> LatencyTable:
    """Measures the table of an encoder: of a module, whose numbers are no tokens, on its own examples."""
    examples = [] if inputs.vocab_size else inputs.encode_many(inputs.probe_texts)
    return measure(encoder.encode, precisions, vocab=inputs.vocab_size, examples=examples)


def _best_times_s(
    encode: EncodeIn, batch: RaggedBatch, precisions: Sequence[str], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Returns the best time of each precision; the precisions take turns."""
    best_s = dict.fromkeys(precisions, math.inf)
    for _ in range(rounds):
        for precision in precisions:
            best_s[precision] = min(best_s[precision], _seconds(encode, batch, precision, clock))
    return best_s


def _seconds(encode: EncodeIn, batch: RaggedBatch, precision: str, clock: Callable[[], float]) -> float:
    start_s = clock()
    encode(batch, precision)
    return clock() - start_s


def _batch(num_texts: int, vocab: int, examples: Sequence[Sequence[int]]) -> RaggedBatch:
    """Returns a batch of the examples in turn, or of texts whose tokens are spread over the vocabulary."""
    if examples:
        return RaggedBatch.of([examples[place % len(examples)] for place in range(num_texts)])
    tokens = [position * 7_919 % vocab for position in range(num_texts * TEXT_TOKENS)]
    return RaggedBatch.of([tokens[start : start + TEXT_TOKENS] for start in range(0, len(tokens), TEXT_TOKENS)])
