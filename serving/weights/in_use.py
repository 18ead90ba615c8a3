"""The weights that the versions of all tasks in a replica share: equal weights are one object, as long as any version
uses it.

    manifest, tensors --sharing_key: digests and shapes--> SharedWeights, packed by the first version that needs them

Tasks with the same encoder have one copy of it in memory, and their events go through it together in one precision
(`serving/predict.py`). So each precision of that encoder is timed only once, too.

**Measurement.** It runs in the thread that loads weights, within a time budget. Sizes that do not fit into the budget
are left out; times beyond the largest size are extrapolated in proportion. The precisions are measured in turn, several
times, and the best time of each counts.

The clock is the thread's CPU time, because under load a thread waits for a processor for about as long as it computes.
Measured by wall-clock time on two busy Zen 4 cores, in 7 of 40 tables INT4 was faster for 40 tokens, although it is
slower; by CPU time, in none.
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
"""Encodes a batch in a precision."""

log = structlog.get_logger("swap")


class SharedWeights(NamedTuple):
    """All packed weights of a version except its last layer."""

    encoder: PackedEncoder
    features: RandomFeatures


class WeightsInUse:
    """The packed weights in use, by key, and the times of their encoders. Any thread may call it.

    Equal weights are packed and timed once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._encoders: WeakValueDictionary[str, PackedEncoder] = WeakValueDictionary()
        self._features: WeakValueDictionary[str, RandomFeatures] = WeakValueDictionary()
        self._times: WeakKeyDictionary[PackedEncoder, LatencyTable] = WeakKeyDictionary()

    def get(
        self, manifest: WeightManifest, config: EncoderConfig, tensors: Mapping[str, QTensor], inputs: Inputs
    ) -> SharedWeights:
        """Returns the weights of a version, and packs them if no version uses them yet.

        Raises MissingWeight, WrongShape or WrongConfig.
        """
        encoder_key = _encoder_key(manifest)
        with self._lock:
            encoder = self._encoders.get(encoder_key)
            if encoder is None:
                encoder = packed(config, tensors, inputs)
                encoder.inputs.open(INPUTS.all())
            features = self._features.get(sharing_key(manifest)) or RandomFeatures.from_tensors(config, tensors)
            self._encoders[encoder_key] = encoder
            self._features[sharing_key(manifest)] = features
        return SharedWeights(encoder, features)

    def latency(self, encoder: PackedEncoder, precisions: Sequence[str], inputs: Inputs) -> LatencyTable:
        """Returns the times of an encoder in these precisions.

        They are measured, unless an encoder of the same shape is in use and has been measured.
        """
        with self._lock:
            for other, times in [*self._times.items()]:
                if times.knows(precisions) and other.has_same_shape(encoder):
                    self._times[encoder] = times
                    return times
            times = measure_encoder(encoder, precisions, inputs)
            self._times[encoder] = times
        log.info("latency_measured", num_tokens=times.num_tokens, ms=times.ms)
        return times


def sharing_key(manifest: WeightManifest) -> str:
    """Returns a key that is equal for versions with equal shapes and weights in all layers except the last one."""
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
    """Returns the measured times of these precisions for several batch sizes.

    The smallest size is always measured; a larger size only if a round of it fits into the budget. A batch repeats the
    `examples`; without examples, its tokens are spread over the vocabulary, like the tokens of real texts. Raises the
    errors of `encode`.
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


def measure_encoder(encoder: PackedEncoder, precisions: Sequence[str], inputs: Inputs) -> LatencyTable:
    """Returns the measured times of an encoder. An encoder without a vocabulary encodes its inputs' examples."""
    examples = [] if inputs.vocab_size else inputs.encode_many(inputs.probe_texts)
    return measure(encoder.encode, precisions, vocab=inputs.vocab_size, examples=examples)


def _best_times_s(
    encode: EncodeIn, batch: RaggedBatch, precisions: Sequence[str], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Returns the best time of each precision in seconds. The precisions are measured in turn."""
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
    """Returns a batch that repeats the examples; without examples, tokens are spread over the vocabulary."""
    if examples:
        return RaggedBatch.of([examples[index % len(examples)] for index in range(num_texts)])
    tokens = [position * 7_919 % vocab for position in range(num_texts * TEXT_TOKENS)]
    return RaggedBatch.of([tokens[start : start + TEXT_TOKENS] for start in range(0, len(tokens), TEXT_TOKENS)])
