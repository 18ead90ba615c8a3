"""Versions that differ in their head alone, and can be told apart by every answer.

    the stable version --> head rows and labels turned by the number, the number in each label --> store, plan

An answer is right only where its weights, its labels and the version that it names are of one version: rows that are
turned by another number than the labels name another label. The versions answer in one precision, their best: another
may call a text that lies between two labels by the other one, and be no mixture.
"""

from dataclasses import dataclass
from time import monotonic, sleep
from typing import TypeVar

import msgspec

from model.qtensor import QTensor, from_blob
from wire.clock import now_ms
from wire.records import STABLE, Answer, Arm, WeightManifest
from wire.store import Lease, Store

T = TypeVar("T")

HEAD = "head.out"
LEASE_MS = 120_000
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class VersionFaker:
    """Publishes in the learner's place, and writes plans in the controller's."""

    store: Store
    lease: Lease
    first: WeightManifest
    head: QTensor

    @classmethod
    def of(cls, store: Store, lease_name: str) -> "VersionFaker":
        """Begins from the stable version. Waits until the lease of the learner that was stopped has run out."""
        plan = store.plan()
        assert plan is not None, "the service has no plan"
        first = store.manifest(plan.stable)
        entry = next(tensor for tensor in first.tensors if tensor.name == HEAD)
        head = from_blob(entry, store.get_blob(entry.digest, entry.num_bytes))
        return cls(store, _lease(store, lease_name), first, head)

    def publish(self) -> int:
        """Makes one more version the stable one; the revision of the plan that says so."""
        version = self.store.next_version()
        self.store.publish(self._version(version), self.lease)
        plan = self.store.plan()
        assert plan is not None
        arms = (Arm(name=STABLE, version=version, share=1.0),)
        after = msgspec.structs.replace(
            plan, revision=plan.revision + 1, arms=arms, previous=plan.stable, reason="bench", time_ms=now_ms()
        )
        self.store.write_plan(after)
        return after.revision

    def _version(self, version: int) -> WeightManifest:
        first = self.first
        turn = version % len(self.first.labels)
        blob = turned(self.head, turn, num_labels=len(first.labels)).to_blob()
        digest = self.store.put_blob(blob)
        tensors = tuple(
            msgspec.structs.replace(entry, digest=digest, num_bytes=len(blob)) if entry.name == HEAD else entry
            for entry in first.tensors
        )
        probes = tuple(msgspec.structs.replace(each, logits=_turn(each.logits, turn)) for each in first.probes)
        return msgspec.structs.replace(
            first,
            version=version,
            parent=self.store.current(),
            labels=tuple(named(label, version) for label in _turn(first.labels, turn)),
            precisions=first.precisions[:1],
            tensors=tensors,
            probes=probes,
            epoch=self.lease.epoch,
            created_ms=now_ms(),
        )


def named(label: str, version: int) -> str:
    """The label as `version` says it."""
    return f"{label}@{version}"


def plain(answer: Answer) -> str | None:
    """The label of an answer without the number of its version; None where it is not of that version."""
    label = answer.label or ""
    suffix = named("", answer.weights_version)
    return label.removesuffix(suffix) if label.endswith(suffix) else None


def is_mixed(answer: Answer, expected: str | None) -> bool:
    """Whether the answer is not what the version that it names says of a text whose label was `expected` before."""
    return expected is None or plain(answer) != expected


def turned(head: QTensor, turn: int, *, num_labels: int) -> QTensor:
    """The head with the rows of its labels moved down by `turn`, the last ones to the top; spare rows stay."""
    parts = {name: part.clone() for name, part in head.parts.items()}
    for part in parts.values():
        part[:num_labels] = part[:num_labels].roll(turn, 0)
    return QTensor(head.name, head.scheme, parts)


def _turn(values: tuple[T, ...], turn: int) -> tuple[T, ...]:
    return values[-turn:] + values[:-turn] if turn else values


def _lease(store: Store, name: str) -> Lease:
    end_s = monotonic() + PATIENCE_S
    while (lease := store.acquire(name, "bench", LEASE_MS)) is None:
        if monotonic() > end_s:
            raise RuntimeError(f"the lease {name!r} did not run out within {PATIENCE_S:g} s")
        sleep(0.2)  # nothing tells when a lease runs out
    return lease
