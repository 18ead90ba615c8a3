"""The versions that a replica holds in memory: loaded one at a time, measured, and dropped when no plan needs them.

    load(number) -> Loader (fetch, verify, pack, probe) -> latencies of its precisions, where not known -> Version

A version that is refused is counted by its reason, logged once, and not tried again for a while
(`serving/weights/refusals.py`).
"""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import structlog

from serving.config import PrecisionConfig
from serving.errors import VersionRefused
from serving.weights.active import Version
from serving.weights.latency import NOT_MEASURED, LatencyTable, measure
from serving.weights.loader import Loader, refusing
from serving.weights.precision import AUTO, allowed
from serving.weights.refusals import Refusals
from wire.records import RolloutPlan

LOAD_REST_S = 0.02
"""Pause between the load of an encoder and the swap: the disturbance of the load (store, processor, caches) is over
when the next batch comes. It halves the longest stalls on two cores. A head takes a few milliseconds, and no pause."""

log = structlog.get_logger("swap")


class ResidentVersions:
    """The loaded versions, by number. The swap's thread uses it. `rest` pauses for a number of seconds."""

    def __init__(
        self, loader: Loader, refusals: Refusals, *, precision: PrecisionConfig, rest: Callable[[float], object]
    ) -> None:
        self._loader = loader
        self._refusals = refusals
        self._precision = precision
        self._rest = rest
        self.by_number: dict[int, Version] = {}

    @property
    def num_bytes(self) -> dict[str, int]:
        """The bytes of each resident version, by number, and of all their tensors together (`resident`)."""
        sizes = {str(number): version.num_bytes for number, version in self.by_number.items()}
        return sizes | {"resident": self._loader.num_bytes}

    def lacks(self, plan: RolloutPlan) -> bool:
        """Whether the plan needs a version that may be tried now."""
        return any(number not in self.by_number and not self._refusals.holds(number) for number in plan.needed)

    def load(self, number: int) -> None:
        """Loads a version, unless it is resident or must not be tried now. Raises StoreUnavailable."""
        if number in self.by_number or self._refusals.holds(number):
            return
        started_s = time.monotonic()
        try:
            version = self._loader.load(number)
            is_new_encoder = all(each.model.encoder is not version.model.encoder for each in self.by_number.values())
            self.by_number[number] = replace(version, latency=self._latency_of(version))
        except VersionRefused as error:
            self._refusals.add(number, error)
        else:
            self._refusals.clear(number)
            log.info("version_loaded", version=number, ms=round(1e3 * (time.monotonic() - started_s), 1))
            if is_new_encoder:
                self._rest(LOAD_REST_S)

    def load_first(self, numbers: Iterable[int]) -> None:
        """Loads the first of these versions that is not refused. Raises StoreUnavailable."""
        for number in numbers:
            self.load(number)
            if self.by_number:
                return

    def keep(self, numbers: Collection[int], *, tried: Collection[int]) -> None:
        """Drops every other version, and the refusals of all others but those that were `tried`."""
        self.by_number = {number: version for number, version in self.by_number.items() if number in numbers}
        self._refusals.keep({*numbers, *tried})
        self._loader.keep({*self.by_number, *self._refusals.lacking})

    def clear(self) -> None:
        """Drops every version. Their tensors stay, by digest."""
        self.by_number = {}

    def _latency_of(self, version: Version) -> LatencyTable:
        """Returns the latencies of its precisions, where there is a choice: a version's of the same shape, or measured
        ones."""
        names = allowed(version.precisions, self._precision, is_brown_out=True)
        if self._precision.mode not in (AUTO, *names):
            log.warning("precision_not_allowed", version=version.number, mode=self._precision.mode, used=names[0])
        if len(names) == 1:
            return NOT_MEASURED
        encoder = version.model.encoder
        for other in self.by_number.values():
            if other.latency.knows(names) and other.model.encoder.config == encoder.config:
                return other.latency
        with refusing():
            latency = measure(encoder.encode, names, vocab=encoder.config.vocab)
        log.info("latency_measured", num_tokens=latency.num_tokens, ms=latency.ms)
        return latency
