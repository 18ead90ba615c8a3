"""The simulated Redis does what a real one does, seen through the store: the same calls have the same outcomes."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from tests.simulation.redis_model import RedisModel
from tests.stores import KEYS, build_manifest, make_entry
from wire.config import StoreConfig
from wire.errors import WireError
from wire.records import STABLE, Arm, CommandOutcome, Decision, Erase, RolloutPlan
from wire.store import Lease, OperatorStep, Store
from wire.store import store as module
from wire.store.server import Server

NUM_STEPS = 120


class ModelServer(Server):
    """A server whose commands a model carries out, without a network."""

    def __init__(self, config: StoreConfig, model: RedisModel) -> None:
        self.config = config
        self.address = "model"
        self._model = model

    def ask(self, *command: Any) -> Any:
        return self._model.call(*command)

    def ask_many(self, commands: Any) -> list[Any]:
        return [self._model.call(*command) for command in commands]

    def ask_once(self, commands: Any) -> list[Any]:
        return self.ask_many(commands)

    def run(self, script: str, keys: Any, args: Any = ()) -> Any:
        return self._model.run(script, keys, args)

    def sync(self) -> None:
        self._model.sync()

    def memory(self) -> tuple[int, int]:
        return 1, 0

    def close(self) -> None:
        pass


class Steps:
    """Draws calls of a store by a seed, and makes them; two of the same seed make the same calls."""

    def __init__(self, seed: int, store: Store) -> None:
        self._rng = Random(seed)
        self._store = store
        self._lease: Lease | None = None
        self._revision = 0

    def take(self) -> object:
        """Makes the next call; returns what it has returned, or the name of what it has raised."""
        step: Callable[[], object] = self._rng.choice(
            (
                self._acquire,
                self._renew,
                self._release,
                self._publish,
                self._plan,
                self._erase,
                self._collect,
                self._read,
            )
        )
        try:
            return step.__name__, step()
        except (WireError, ValueError) as error:
            return step.__name__, type(error).__name__

    def _acquire(self) -> object:
        holder = self._rng.choice("ab")
        lease = self._store.leases.acquire("learner", holder, 60_000, above=self._rng.randrange(3))
        self._lease = lease or self._lease
        return lease and (lease.epoch, lease.holder)

    def _renew(self) -> object:
        return self._lease is not None and self._store.leases.renew(self._lease)

    def _release(self) -> object:
        if self._lease is not None:
            self._store.leases.release(self._lease)
        return None

    def _publish(self) -> object:
        if self._lease is None:
            return None
        versions = self._store.versions
        number = versions.next_number() - self._rng.choice((0, 0, 0, 1))
        parent = versions.current() - self._rng.choice((0, 0, 0, 1))
        versions.publish(build_manifest(self._store, number, epoch=self._lease.epoch, parent=parent), self._lease)
        return number

    def _plan(self) -> object:
        plan = self._store.plans.read()
        revision = (plan.revision if plan else 0) + self._rng.choice((1, 1, 1, 2))
        version = self._rng.choice([*self._store.versions.stored(), 7])
        arms = (Arm(name=STABLE, version=version, share=1.0),)
        decision = Decision(
            version=version, action="promoted", rule="A", reason="", revision=revision, time_ms=revision
        )
        new = RolloutPlan(revision=revision, salt="salt", arms=arms, time_ms=revision)
        step = OperatorStep("promote", version, "me", revision) if self._rng.random() < 0.5 else None
        self._store.plans.write(new, decision, current=version if self._rng.random() < 0.3 else None, step=step)
        return self._store.plans.read()

    def _erase(self) -> object:
        digest = f"{self._rng.randrange(3):032x}"
        command = self._store.commands.append(Erase(digest=digest))
        self._store.commands.note([CommandOutcome(seq=command.seq, time_ms=1, state="applied")])
        return self._store.commands.entries(), self._store.commands.outcome(command)

    def _collect(self) -> object:
        make_entry(self._store, b"%d" % self._rng.randrange(5))
        return self._store.collector.collect([], grace_ms=self._rng.choice((60_000, -1)))

    def _read(self) -> object:
        versions = self._store.versions
        stored = versions.stored()
        decisions = self._store.plans.decisions.since(0, 10)
        history = [entry.version for entry in versions.history(5)]
        return stored, versions.current(), versions.next_number(), versions.contents(), decisions, history


@pytest.mark.parametrize("seed", range(8))
def test_a_model_and_a_server_do_the_same(
    seed: int, store: Store, store_config: StoreConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = RedisModel(lambda: 1_700_000_000_000)
    monkeypatch.setattr(module, "Server", lambda config: ModelServer(config, model))
    simulated = Steps(seed, Store(replace(store_config), KEYS))
    real = Steps(seed, store)
    for _ in range(NUM_STEPS):
        assert simulated.take() == real.take()


def test_a_power_cut_undoes_the_newest_changes() -> None:
    model = RedisModel(lambda: 0)
    model.call("SET", "a", "1")
    model.sync()
    model.call("SET", "a", "2")
    model.run("redis.call('SET', KEYS[1], '3') redis.call('HSET', KEYS[2], 'f', 'v')", ["a", "b"], [])
    model.cut(1)
    assert (model.call("GET", "a"), model.keys) == (b"2", [b"a"])
    model.call("SET", "a", "4")
    model.cut(5)
    assert model.call("GET", "a") == b"2"
