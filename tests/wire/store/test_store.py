"""A model-based test: two learners, a controller and a collector in any order, against a model of plain values."""

from itertools import count

import hypothesis.strategies as st
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from services.local.redis import LocalRedis
from tests.stores import KEYS, build_manifest
from wire.config import StoreConfig
from wire.errors import NotFound, ParentMoved, PlanMoved, StaleEpoch
from wire.records import Arm, Decision, RolloutPlan, WeightManifest, key_name
from wire.store import Lease, Store

WHO = st.integers(0, 1)

_numbers = count()


class StoreMachine(RuleBasedStateMachine):
    """The model. `holder`, `epoch`, `current`, `plan`, `notes` and `kept` are the expected contents of the store."""

    def __init__(self, url: str) -> None:
        super().__init__()
        config = StoreConfig(url=url, prefix=f"machine{next(_numbers)}:")
        self.stores = [Store(config, KEYS) for _ in range(2)]
        self.raw = redis.Redis.from_url(url, protocol=2)
        self.lease_key = key_name(config.prefix, "lease", "learner")
        self.leases: list[Lease | None] = [None, None]
        self.holder: int | None = None
        self.has_run_out = False
        self.epoch = 0
        self.current = 0
        self.newest = 0
        self.kept: dict[int, WeightManifest] = {}
        self.plan: RolloutPlan | None = None
        self.notes: list[tuple[str, int]] = []
        self.decided: list[int] = []

    @rule(who=WHO)
    def acquire(self, who: int) -> None:
        lease = self.stores[who].leases.acquire("learner", str(who), 60_000)
        if self.holder not in (None, who) and not self.has_run_out:
            assert lease is None
            return
        if self.holder != who:
            self.holder = who
            self.epoch = self.epoch + 1
        self.has_run_out = False
        assert lease is not None and lease.epoch == self.epoch
        self.leases[who] = lease

    @rule()
    @precondition(lambda self: self.holder is not None)
    def run_out(self) -> None:
        self.raw.hset(self.lease_key, "ends_ms", 0)
        self.has_run_out = True

    @rule(who=WHO)
    @precondition(lambda self: any(self.leases))
    def renew(self, who: int) -> None:
        lease = self.leases[who]
        if lease is not None:
            assert self.stores[who].leases.renew(lease) == self.holds(who)
            self.has_run_out = self.has_run_out and not self.holds(who)

    @rule(who=WHO)
    @precondition(lambda self: any(self.leases))
    def release(self, who: int) -> None:
        lease = self.leases[who]
        if lease is not None:
            self.stores[who].leases.release(lease)
            if self.holds(who):
                self.holder = None
                self.has_run_out = False

    @rule(who=WHO, step=st.integers(0, 2), back=st.integers(0, 2))
    @precondition(lambda self: any(self.leases))
    def publish(self, who: int, step: int, back: int) -> None:
        """Publishes a version. A correct learner has `step` 1 and `back` 0."""
        lease = self.leases[who]
        if lease is None:
            return
        version = self.newest + step
        parent = self.current - back
        if version < 1 or parent < 0:
            return
        data = b"%d by %d in %d after %d" % (version, who, lease.epoch, parent)
        manifest = build_manifest(self.stores[who], version, parent=parent, epoch=lease.epoch, data=data)
        before = self.kept.get(version)
        try:
            self.stores[who].versions.publish(manifest, lease)
        except StaleEpoch:
            assert not self.holds(who) and before != manifest
        except ParentMoved:
            assert self.newest and (parent != self.current or version <= self.newest) and before != manifest
        else:
            if before == manifest:
                return
            assert self.holds(who) and version > self.newest and (not self.newest or parent == self.current)
            self.current = self.newest = version
            self.kept[version] = manifest
            self.notes.append(("published", version))

    @rule(who=WHO, ahead=st.integers(0, 2), back=st.integers(0, 2), current=st.none() | st.integers(0, 9))
    def write(self, who: int, ahead: int, back: int, current: int | None) -> None:
        revision = self.plan.revision if self.plan else 0
        stable = max(0, self.newest - back)
        arms = (Arm(name="stable", version=stable, share=1.0),)
        plan = RolloutPlan(revision=revision + ahead, salt="s", arms=arms, previous=self.current, reason=f"{who}")
        named = {stable, current or 0} - {0}
        decision = Decision(version=self.current, action="promoted", time_ms=len(self.decided))
        try:
            self.stores[who].plans.write(plan, decision, current)
        except PlanMoved:
            assert ahead != 1 and plan != self.plan
        except NotFound:
            assert ahead == 1 and not named <= set(self.kept)
        else:
            if plan == self.plan:
                return
            assert ahead == 1 and named <= set(self.kept)
            self.decided.append(self.current)
            self.plan = plan
            self.current = self.current if current is None else current

    @rule(who=WHO, keep=st.sets(st.integers(1, 9), max_size=3))
    def collect(self, who: int, keep: set[int]) -> None:
        self.stores[who].collector.collect(keep, grace_ms=0)
        keep |= {self.current, *((self.plan.stable, self.plan.previous) if self.plan else ())}
        self.kept = {version: manifest for version, manifest in self.kept.items() if version in keep}

    @invariant()
    def agrees(self) -> None:
        store = self.stores[0]
        assert (store.versions.current(), store.versions.next_number()) == (self.current, self.newest + 1)
        assert store.plans.read() == self.plan
        assert [(note.action, note.version) for note in reversed(store.versions.history(1_000))] == self.notes
        assert [decision.version for decision in reversed(store.plans.decisions.since(0, 1_000))] == self.decided
        for version, manifest in self.kept.items():
            assert store.versions.manifest(version) == manifest
            (blob,) = manifest.tensors
            store.blobs.get(blob.digest, blob.num_bytes)

    def holds(self, who: int) -> bool:
        lease = self.leases[who]
        return self.holder == who and lease is not None and lease.epoch == self.epoch

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        self.raw.close()


def test_any_order(redis_server: LocalRedis) -> None:
    run_state_machine_as_test(
        lambda: StoreMachine(redis_server.url),  # type: ignore[arg-type]
        settings=settings(
            max_examples=150,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
