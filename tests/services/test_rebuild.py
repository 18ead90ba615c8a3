"""Tests `lifelong versions rebuild` on versions of a learner that was killed in between."""

import json
from pathlib import Path
from signal import SIGKILL

import msgspec
import pytest
from pydantic import SecretStr

from learner.release.rebuild import NotRebuilt
from services.rebuild import rebuild_version
from services.settings import Settings, as_environment
from tests.learner.learner_processes import LearnerProcesses, exit_code, send, stop, wait_for
from tests.learner.small_learner import small_config, small_learner
from tests.learner.streams import stream
from tests.services.command_line import lifelong
from tests.stores import SIGNING_KEY
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.store import Store
from wire.timestamps import now_ms

pytestmark = [pytest.mark.live, pytest.mark.parametrize("broker", ["tansu"], indirect=True)]

LEARNS: dict[str, float | str] = {"slow_rate": 1e-5}


def test_what_a_killed_learner_has_published_is_made_again_bit_for_bit(
    bus: Bus, store: Store, bus_config: BusConfig, store_config: StoreConfig, tmp_path: Path
) -> None:
    children = LearnerProcesses(tmp_path, bus_config, store_config)
    try:
        for first, failpoint in ((0, "after-slow-step:2"), (120, "after-adopt")):
            send(bus, stream(first, first + 120))
            assert exit_code(children.start(failpoint)) == -SIGKILL
        since_ms = now_ms()
        last = children.start()
        wait_for(
            store, lambda report: report.counts.get("answers") == 240 and not report.round_phase, since_ms=since_ms
        )
        assert stop(last) == 0
    finally:
        children.close()
    manifest = store.versions.manifest(store.versions.current())
    assert "adopted" in [each.outcome for each in manifest.lineage.rounds]

    done = lifelong("versions", "rebuild", "--json", **environment(bus_config, store_config, tmp_path))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["differing"] == []
    assert result["tensors"] == len(manifest.tensors)
    assert result["rounds"] > 0
    other = lifelong("versions", "rebuild", **environment(bus_config, store_config, tmp_path, seed=7))
    assert other.returncode == 1 and "tensors differ" in other.stdout, other.stderr

    ahead = {name: offset + 1 for name, offset in manifest.trained_through.items()}
    later = msgspec.structs.replace(manifest, trained_through=ahead)
    with pytest.raises(NotRebuilt, match="no records arrive"):
        rebuild_version(later, small_learner(**LEARNS), small_config(**LEARNS), bus, say=lambda _: None)


def environment(bus: BusConfig, store: StoreConfig, folder: Path, **changed: float | str) -> dict[str, str]:
    """Returns the environment of a command with the settings and constants of the learner."""
    settings = Settings(
        state_dir=folder / "state",
        encoder=str(folder / "encoder"),
        signing_key=SecretStr(SIGNING_KEY.decode()),
        store=store,
        bus=bus,
        learner=small_config(**(LEARNS | changed)),
    )
    return as_environment(settings)
