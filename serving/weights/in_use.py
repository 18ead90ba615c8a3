"""The weights that versions share, of all tasks of a replica: one object for equal weights, as long as one uses them.

    manifest, tensors --key_of: digests and shapes--> SharedWeights, packed by whoever needs them first

So tasks that learn on one encoder hold it once, and their events go through it together (`serving/by_task.py`), in one
precision: its times are measured once, too.

Rejected: one loader for all tasks (numbers of versions are of one task, and so is what was refused).
"""

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

import structlog

from model.encoders import packed
from model.head import PROJ
from model.modules.config import EncoderConfig, config_from_json
from model.packed import Inputs, PackedEncoder
from model.qtensor import QTensor
from model.quantized import RandomFeatures
from model.weights import encoder_key
from serving.weights.active import LatencyTable
from serving.weights.precision import times_of
from wire.records import WeightManifest

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
        """Returns the weights of a version. Raises MissingWeight or WrongShape."""
        encoder_key = _encoder_key(manifest)
        with self._lock:
            encoder = self._encoders.get(encoder_key) or packed(config, tensors, inputs)
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
