"""The weights that versions share, of all tasks of a replica: one object for equal weights, as long as one uses them.

    manifest, tensors --key_of: digests and shapes--> SharedWeights, packed by whoever needs them first

So tasks that learn on one encoder hold it once, and their events go through it together (`serving/predict.py`), in one
precision: its times are measured once, too.

The measurement runs in the thread that loads weights, within a budget of time: sizes that do not fit any more are left
out, and times beyond the largest size are extrapolated in proportion. Times are those of the thread on the processor:
under load a thread waits for a processor as long as it computes, and by the clock on the wall 7 of 40 tables called
INT4 faster for 40 tokens where it is slower (two busy cores, Zen 4; none of 40 does now). The precisions take turns,
and the best of their times counts.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary, WeakValueDictionary

import structlog

from model.encoders import config_from_json, packed
from model.head import PROJ
from model.packed import EncoderConfig, Inputs, PackedEncoder
from model.qtensor import QTensor
from model.quantized import RandomFeatures
from model.ragged import RaggedBatch
from model.weights import encoder_key
from serving.models import LatencyTable
from wire.inputs import INPUTS
from wire.records import WeightManifest

TEXT_TOKENS: Final = 16
NUM_TEXTS: Final = (1, 4, 16, 64)
ROUNDS: Final = 3
BUDGET_S: Final = 0.3

EncodeIn: TypeAlias = Callable[[RaggedBatch, str], object]

log = structlog.get_logger("swap")


class SharedWeights(NamedTuple):
    """All weights of a version but those of its last layer, packed."""

    encoder: PackedEncoder
    features: RandomFeatures


class WeightsInUse:
    """The packed weights by their keys, and the times of encoders. Any thread may ask: equal weights are packed and
    timed once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._encoders: WeakValueDictionary[str, PackedEncoder] = WeakValueDictionary()
        self._features: WeakValueDictionary[str, RandomFeatures] = WeakValueDictionary()
        self._times: WeakKeyDictionary[PackedEncoder, LatencyTable] = WeakKeyDictionary()

    def of(
        self, manifest: WeightManifest, config: EncoderConfig, tensors: Mapping[str, QTensor], inputs: Inputs
    ) -> SharedWeights:
        """Returns the weights of a version. Raises MissingWeight, WrongShape or WrongConfig."""
        encoder_key = _encoder_key(manifest)
        with self._lock:
            encoder = self._encoders.get(encoder_key)
            if encoder is None:
                encoder = packed(config, tensors, inputs)
                encoder.inputs.open(INPUTS.all())
            features = self._features.get(key_of(manifest)) or RandomFeatures.from_tensors(config, tensors)
            self._encoders[encoder_key] = encoder
            self._features[key_of(manifest)] = features
        return SharedWeights(encoder, features)

    def times_of(self, encoder: PackedEncoder, precisions: Sequence[str], inputs: Inputs) -> LatencyTable:
        """Returns the times of an encoder in these precisions: measured, or those of one in use of the same shape."""
        with self._lock:
            for other, times in [*self._times.items()]:
                if times.knows(precisions) and other.has_shape_of(encoder):
                    self._times[encoder] = times
                    return times
            times = times_of(encoder, precisions, inputs)
            self._times[encoder] = times
        log.info("latency_measured", num_tokens=times.num_tokens, ms=times.ms)
        return times


def key_of(manifest: WeightManifest) -> str:
    """Returns a key that is equal for versions that can share all but the last layer: equal weights and shapes."""
    proj = next((entry.digest for entry in manifest.tensors if entry.name == PROJ), None)
    return f"{_encoder_key(manifest)} {proj}"


def _encoder_key(manifest: WeightManifest) -> str:
    shape = config_from_json(manifest.config).without_labels
    return f"{shape.canonical_json()} {encoder_key(manifest.encoder_digests)}"


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
    """Measures the table of an encoder: of one whose numbers are no tokens, on the examples of its inputs."""
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
