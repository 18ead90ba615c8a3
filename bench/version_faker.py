"""Fakes versions that differ in their head alone, and that every answer can tell apart.

    the stable version --> head rows and labels rotated by its number, the number in each label --> store, plan

An answer is right only if its weights, its labels and the version that it names belong to one version: rows that are
rotated by another number than the labels give another label. The versions answer in one precision, their best: another
precision may give the other label for a text that lies between two labels, although no versions are mixed.
"""

from dataclasses import dataclass
from time import monotonic, sleep
from typing import TypeVar

import msgspec

from model.qtensor import QTensor, from_blob
from wire.records import STABLE, Answer, Arm, WeightManifest
from wire.store import Lease, Store
from wire.timestamps import now_ms

T = TypeVar("T")

HEAD = "head.out"
LEASE_MS = 120_000
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class VersionFaker:
    """Publishes in the place of the learner, and writes plans in the place of the controller."""

    store: Store
    lease: Lease
    first: WeightManifest
    head: QTensor

    @classmethod
    def of(cls, store: Store, lease_name: str) -> "VersionFaker":
        """Begins with the stable version. Waits until the lease of the learner that was stopped has expired."""
        plan = store.plans.read()
        assert plan is not None, "the service has no plan"
        first = store.versions.manifest(plan.stable)
        entry = next(tensor for tensor in first.tensors if tensor.name == HEAD)
        head = from_blob(entry, store.blobs.get(entry.digest, entry.num_bytes))
        return cls(store, _lease(store, lease_name), first, head)

    def publish(self) -> int:
        """Makes one more version the stable one; returns the revision of its plan."""
        version = self.store.versions.next_number()
        self.store.versions.publish(self._version(version), self.lease)
        plan = self.store.plans.read()
        assert plan is not None
        arms = (Arm(name=STABLE, version=version, share=1.0),)
        after = msgspec.structs.replace(
            plan, revision=plan.revision + 1, arms=arms, previous=plan.stable, reason="bench", time_ms=now_ms()
        )
        self.store.plans.write(after)
        return after.revision

    def _version(self, version: int) -> WeightManifest:
        first = self.first
        shift = version % len(self.first.labels)
        blob = rotated(self.head, shift, num_labels=len(first.labels)).to_blob()
        digest = self.store.blobs.put(blob)
        tensors = tuple(
            msgspec.structs.replace(entry, digest=digest, num_bytes=len(blob)) if entry.name == HEAD else entry
            for entry in first.tensors
        )
        probes = tuple(msgspec.structs.replace(each, logits=_rotate(each.logits, shift)) for each in first.probes)
        return msgspec.structs.replace(
            first,
            version=version,
            parent=self.store.versions.current(),
            labels=tuple(versioned(label, version) for label in _rotate(first.labels, shift)),
            precisions=first.precisions[:1],
            tensors=tensors,
            probes=probes,
            epoch=self.lease.epoch,
            created_ms=now_ms(),
        )


def versioned(label: str, version: int) -> str:
    """Returns the label as `version` answers it."""
    return f"{label}@{version}"


def unversioned(answer: Answer) -> str | None:
    """Returns the label of an answer without its version's number; None where the label belongs to another version."""
    label = answer.label or ""
    suffix = versioned("", answer.weights_version)
    return label.removesuffix(suffix) if label.endswith(suffix) else None


def is_mixed(answer: Answer, expected: str | None) -> bool:
    """Whether the answer differs from what its version must answer for a text whose label was `expected` before."""
    return expected is None or unversioned(answer) != expected


def rotated(head: QTensor, shift: int, *, num_labels: int) -> QTensor:
    """Rotates the rows of the labels down by `shift`; the last ones come to the top. Spare rows stay."""
    parts = {name: part.clone() for name, part in head.parts.items()}
    for part in parts.values():
        part[:num_labels] = part[:num_labels].roll(shift, 0)
    return QTensor(head.name, head.scheme, parts)


def _rotate(values: tuple[T, ...], shift: int) -> tuple[T, ...]:
    return values[-shift:] + values[:-shift] if shift else values


def _lease(store: Store, name: str) -> Lease:
    end_s = monotonic() + PATIENCE_S
    while (lease := store.leases.acquire(name, "bench", LEASE_MS)) is None:
        if monotonic() > end_s:
            raise RuntimeError(f"the lease {name!r} did not run out within {PATIENCE_S:g} s")
        sleep(0.2)  # a lease expires without a notice
    return lease
