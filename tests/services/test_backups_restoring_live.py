"""Tests that a backup under load, restored elsewhere, answers with the same bits and learns each label once."""

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from learner.state.snapshot import FAST_HEAD, Snapshot
from model.ragged import RaggedBatch
from services.backups import BackupManifest, check_backup, restore_backup, write_backup
from services.settings import Settings, replaced
from serving.config import PrecisionConfig
from serving.weights.loader import Loader
from tests.learner.learner_processes import LearnerProcesses, send, stop, wait_for
from tests.learner.small_learner import tokenizer
from tests.learner.streams import make_text, stream
from tests.model.small_encoder import model_logits
from tests.stores import KEYS
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.store import Store
from wire.store.versions import GAP

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.parametrize("broker", ["tansu"], indirect=True)]

NUM_EVENTS = 300
NUM_LABELS = NUM_EVENTS + NUM_EVENTS // 10
"""Every tenth event is labelled twice."""


def settings_for(children: LearnerProcesses, config: StoreConfig) -> Settings:
    return replaced(
        Settings(),
        {"learner.state_dir": str(children.state_dir), "store.url": config.url, "store.prefix": config.prefix},
    )


def backup_under_load(
    bus: Bus, children: LearnerProcesses, store: Store, config: StoreConfig, to: Path
) -> BackupManifest:
    """Makes a backup while labels are learnt and versions published; returns when all labels are learnt."""
    send(bus, stream(0, 100))
    wait_for(store, lambda report: report.version >= 2)
    sender = threading.Thread(target=lambda: send(bus, stream(100, NUM_EVENTS)))
    sender.start()
    manifest = write_backup(settings_for(children, config), store, to, now_ms=1, say=lambda _: None)
    sender.join()
    wait_for(store, lambda report: report.counts.get("labels") == NUM_LABELS)
    return manifest


def read_logits(store: Store, version: int) -> torch.Tensor:
    """Returns the answers of a version that is loaded as a replica loads it."""
    loaded = Loader(store, tokenizer(), precision=PrecisionConfig(), probe_tolerance=0.05).load(version)
    texts = [make_text(number) for number in range(20)]
    return model_logits(loaded.model, RaggedBatch.of(tokenizer().encode_many(texts)))


def read_sums(snapshot: Snapshot) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in snapshot.tensors.items() if name.startswith(FAST_HEAD)}


def test_a_backup_under_load_is_restored_elsewhere(
    bus: Bus, store: Store, bus_config: BusConfig, store_config: StoreConfig, tmp_path: Path
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    elsewhere = replace(store_config, prefix=f"{store_config.prefix}elsewhere:")
    here = LearnerProcesses(tmp_path / "here", bus_config, store_config, trainable_layers=0)
    there = LearnerProcesses(tmp_path / "there", bus_config, elsewhere, trainable_layers=0)
    with closing(Store(elsewhere, KEYS)) as other:
        try:
            child = here.start()
            made = backup_under_load(bus, here, store, store_config, tmp_path / "backup")
            assert stop(child) == 0
            manifest = check_backup(tmp_path / "backup", say=lambda _: None)
            assert manifest == made and manifest.current in manifest.versions
            settings = settings_for(there, elsewhere)
            first, _ = restore_backup(
                settings, other, tmp_path / "backup", manifest, is_forced=False, now_ms=1, say=lambda _: None
            )
            assert other.versions.current() == manifest.current and other.versions.stored() == [*manifest.versions]
            torch.testing.assert_close(
                read_logits(other, manifest.current), read_logits(store, manifest.current), rtol=0, atol=0
            )
            child = there.start()
            wait_for(other, lambda report: report.counts.get("labels") == NUM_LABELS)
            wait_for(other, lambda report: report.version > first >= GAP)
            assert stop(child) == 0
        finally:
            here.close()
            there.close()
    before, after = here.snapshot(), there.snapshot()
    counts = [{**each.facts.counts, **each.facts.join.counts} for each in (before, after)]
    for name in ("labels", "matched", "learnt", "holdout", "duplicate"):
        assert counts[0].get(name) == counts[1].get(name), name
    assert counts[1]["labels"] == NUM_LABELS
    assert read_sums(after).keys() == read_sums(before).keys()
    for name, expected in read_sums(before).items():
        torch.testing.assert_close(read_sums(after)[name], expected, rtol=0, atol=0)
