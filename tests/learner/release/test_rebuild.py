"""Tests that a version is rebuilt from its lineage, bit for bit, in any order of reading the topics."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import pytest
from msgspec import UNSET

from learner.drift import DriftState, DriftWatch
from learner.learner import Learner
from learner.release.candidate import Candidate, CandidateMaker, build_manifest
from learner.release.rebuild import NotRebuilt, ReadTo, differences, rebuild
from learner.rounds.round import SlowRound
from learner.rounds.worker import INLINE
from learner.state.checkpoints import VersionState
from learner.stopwatch import Stopwatch
from tests.learner import swapped
from tests.learner.small_learner import Setting, small_config, small_learner
from tests.learner.streams import answer, feedback, label_of
from tests.learner.tiered_learner import LAYERS, tiered_learner
from wire.config import TrustConfig
from wire.records import Answer, Feedback, HeadSolution, WeightManifest

CHANGED: dict[str, float | str] = {"slow_rate": 1e-4, "replay_samples": 60, "holdout_share": 0.2}
TIERED: dict[str, Setting] = {**CHANGED, **LAYERS, "replay_samples": 1_000, "slow_every_labels": 40}
NUM_EVENTS = 240

Topics = dict[str, list[Answer | Feedback]]


@pytest.fixture(scope="module")
def topics() -> Topics:
    """Two partitions of each topic. In one of them labels and answers are in different orders."""
    parts: Topics = {"answers.v1/0": [], "answers.v1/1": [], "feedback.v1/0": [], "feedback.v1/1": []}
    for number in range(NUM_EVENTS):
        parts[f"answers.v1/{number % 2}"].append(answer(number))
        label = "" if number % 2 else label_of(number + 1)
        parts[f"feedback.v1/{number // 3 % 2}"].append(feedback(number, label=label))
    return parts


def decide_rounds(monkeypatch: pytest.MonkeyPatch, is_adopted: Callable[[int], bool]) -> None:
    """Decides by number which rounds are adopted, since the results of training differ between processors."""
    monkeypatch.setattr(SlowRound, "is_adoptable", lambda each, is_complete: is_adopted(each.number))


def play(learner: Learner, topics: Topics, seed: int) -> None:
    """Reads all records in polls of random sizes from random partitions, with units of slow rounds between them."""
    rng = random.Random(seed)
    at = dict.fromkeys(topics, 0)
    while any(at[name] < len(records) for name, records in topics.items()):
        name = rng.choice([name for name, records in topics.items() if at[name] < len(records)])
        end = min(at[name] + rng.randint(1, 25), len(topics[name]))
        records = topics[name][at[name] : end]
        at[name] = end
        learner.learn_many(records, at)
        for _ in range(rng.randint(1, 9)):
            learner.tick()
    while learner.has_work:
        learner.tick()


def published(learner: Learner) -> WeightManifest:
    return build_manifest(made(learner), learner, version=1, epoch=1, time_ms=0)


def made(learner: Learner) -> Candidate:
    return CandidateMaker(small_config(**CHANGED)).make(learner.knowledge, Stopwatch())


def reader(topics: Topics, seed: int) -> ReadTo:
    """Returns a reader that reads each partition up to given offsets, in a random order of the partitions."""
    rng = random.Random(seed)
    at = dict.fromkeys(topics, 0)

    def read_to(offsets: Mapping[str, int]) -> Iterator[Sequence[Answer | Feedback]]:
        names = list(topics)
        rng.shuffle(names)
        for name in names:
            end = offsets.get(name, 0)
            yield topics[name][at[name] : end]
            at[name] = max(at[name], end)

    return read_to


@pytest.mark.parametrize(
    ("seed", "strategy"), [(0, "er"), (1, "er"), (2, "er"), (3, "avalanche.training.plugins:LwFPlugin(alpha=1.0)")]
)
def test_every_order_of_the_topics_leads_to_the_same_bits(
    topics: Topics, monkeypatch: pytest.MonkeyPatch, seed: int, strategy: str
) -> None:
    changed = CHANGED | {"slow_strategy": strategy}
    whole = small_learner(**changed)
    decide_rounds(monkeypatch, lambda number: number % 2 == 0)
    play(whole, topics, seed)
    # A rebuild takes the decisions from the lineage.
    decide_rounds(monkeypatch, lambda number: number % 2 == 1)
    manifest = published(whole)
    outcomes = [each.outcome for each in manifest.lineage.rounds]
    assert outcomes[:2] == ["dropped", "adopted"] and len(whole.replay) == 60
    again = rebuild(manifest, small_learner(**changed), small_config(**changed), reader(topics, seed + 10))
    assert differences(manifest, again) == []


@pytest.fixture
def through_tiers(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> WeightManifest:
    """A version after one round in each tier, from the base tier to the task tier, as after a large shift."""
    decide_rounds(monkeypatch, lambda number: True)
    whole = tiered_learner(**TIERED)
    whole.drift = DriftWatch(delta=small_config().drift_delta, state=DriftState(tier=2))
    play(whole, topics, 7)
    return published(whole)


def test_a_version_is_rebuilt_from_a_round_of_each_tier(topics: Topics, through_tiers: WeightManifest) -> None:
    """The topics here contain no drift, so the number of trained blocks comes from the manifest."""
    rounds = through_tiers.lineage.rounds
    assert [each.layers for each in rounds[:3]] == [UNSET, 2, 1]
    assert [each.outcome for each in rounds[:3]] == ["adopted"] * 3
    again = rebuild(through_tiers, tiered_learner(**TIERED), small_config(**TIERED), reader(topics, 17))
    assert differences(through_tiers, again) == []


@pytest.mark.parametrize(("place", "layers"), [(0, 2), (1, 1), (2, 2)])
def test_another_depth_of_a_round_is_another_version(
    topics: Topics, through_tiers: WeightManifest, place: int, layers: int
) -> None:
    rounds = list(through_tiers.lineage.rounds)
    rounds[place] = msgspec.structs.replace(rounds[place], layers=layers)
    lineage = msgspec.structs.replace(through_tiers.lineage, rounds=tuple(rounds))
    forged = msgspec.structs.replace(through_tiers, lineage=lineage)
    again = rebuild(forged, tiered_learner(**TIERED), small_config(**TIERED), reader(topics, 17))
    assert differences(through_tiers, again)


def test_settings_that_train_fewer_blocks_than_a_round_did_are_named(
    topics: Topics, through_tiers: WeightManifest
) -> None:
    flat = {"deeper_layers": (0, 0)}
    with pytest.raises(NotRebuilt, match="round 2 trained 2 blocks, but the settings train 1 at most"):
        rebuild(through_tiers, tiered_learner(**(TIERED | flat)), small_config(**TIERED), reader(topics, 17))


def test_a_head_that_was_updated_in_batches_is_made_again(topics: Topics) -> None:
    """Versions are published while labels come, on several bases."""
    rng = random.Random(5)
    whole = small_learner(**CHANGED)
    maker = CandidateMaker(small_config(**CHANGED), INLINE)
    num_batches = set[int]()
    at = dict.fromkeys(topics, 0)
    while any(at[name] < len(records) for name, records in topics.items()):
        name = rng.choice([name for name, records in topics.items() if at[name] < len(records)])
        end = min(at[name] + rng.randint(1, 9), len(topics[name]))
        whole.learn_many(topics[name][at[name] : end], at | {name: end})
        at[name] = end
        if rng.random() < 0.2:
            candidate = maker.make(whole.knowledge, Stopwatch(), whole.offsets, anew=rng.random() < 0.1)
            manifest = build_manifest(candidate, whole, version=1, epoch=1, time_ms=0)
            if len(manifest.solution.batches) in num_batches:
                continue
            num_batches.add(len(manifest.solution.batches))
            again = rebuild(manifest, small_learner(**CHANGED), small_config(**CHANGED), reader(topics, 3))
            assert differences(manifest, again) == []
    assert len(num_batches) > 3


def test_the_share_of_the_newest_labels_is_that_of_the_version() -> None:
    """The texts of two classes are swapped in the middle, without a restart of a class."""
    changed = CHANGED | {"replay_samples": 1_000, "trainable_layers": 0}
    topics: Topics = {"answers.v1/0": [], "feedback.v1/0": []}
    for number in range(2 * NUM_EVENTS):
        topics["answers.v1/0"].append(answer(number, time_ms=number))
        label = ("this", "that")[(number + (number >= NUM_EVENTS)) % 2]
        topics["feedback.v1/0"].append(feedback(number, label=label))
    whole = small_learner(**changed)
    maker = CandidateMaker(small_config(**changed), INLINE)
    for end in range(20, 2 * NUM_EVENTS + 1, 20):
        offsets = dict.fromkeys(topics, end)
        whole.learn_many([*topics["answers.v1/0"][end - 20 : end], *topics["feedback.v1/0"][end - 20 : end]], offsets)
        candidate = maker.make(whole.knowledge, Stopwatch(), offsets, anew=end == 20)
    manifest = build_manifest(candidate, whole, version=1, epoch=1, time_ms=0)
    assert manifest.solution.fading_share and not manifest.lineage.gap
    again = rebuild(manifest, small_learner(**changed), small_config(**changed), reader(topics, 3))
    assert differences(manifest, again) == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_held", [60, 1_000], ids=["some are forgotten", "all are held"])
def test_a_version_after_concepts_have_changed_is_made_again(seed: int, num_held: int) -> None:
    changed: dict[str, Setting] = {**CHANGED, "replay_samples": num_held, "trust": TrustConfig(change_sources=1)}
    events = swapped.records(0, swapped.END)
    topics: Topics = {name: [] for name in ("answers.v1/0", "answers.v1/1", "feedback.v1/0", "feedback.v1/1")}
    for number, (event, label) in enumerate(zip(events[::2], events[1::2], strict=True)):
        topics[f"answers.v1/{number % 2}"].append(event)
        topics[f"feedback.v1/{number // 3 % 2}"].append(label)
    whole = small_learner(**changed)
    play(whole, topics, seed)
    manifest = published(whole)
    assert manifest.lineage.concept_changes and manifest.lineage.gap == ""
    again = rebuild(manifest, small_learner(**changed), small_config(**changed), reader(topics, seed + 10))
    assert differences(manifest, again) == []


def test_a_version_of_a_program_that_said_nothing_of_the_head_is_not_made_again(topics: Topics) -> None:
    whole = small_learner(**CHANGED)
    play(whole, topics, 0)
    manifest = msgspec.structs.replace(published(whole), solution=HeadSolution())
    with pytest.raises(NotRebuilt, match="another method"):
        rebuild(manifest, small_learner(**CHANGED), small_config(**CHANGED), reader(topics, 1))


def test_a_version_from_the_midst_of_a_round_is_made_again(topics: Topics) -> None:
    whole = small_learner(**CHANGED)
    for name in sorted(topics):
        whole.learn_many(topics[name][:45], {other: 45 if other <= name else 0 for other in topics})
    whole.tick()
    assert whole.has_work
    whole.learn_many(topics["feedback.v1/1"][45:60], dict.fromkeys(topics, 45) | {"feedback.v1/1": 60})
    manifest = published(whole)
    assert [each.outcome for each in manifest.lineage.rounds] == ["running"]
    again = rebuild(manifest, small_learner(**CHANGED), small_config(**CHANGED), reader(topics, 1))
    assert differences(manifest, again) == []


def test_what_was_changed_shows(topics: Topics) -> None:
    whole = small_learner(**CHANGED)
    play(whole, topics, 0)
    manifest = published(whole)
    forged = {name: [*records] for name, records in topics.items()}
    forged["feedback.v1/0"][7] = feedback(7, label="refund")
    again = rebuild(manifest, small_learner(**CHANGED), small_config(**CHANGED), reader(forged, 1))
    assert "head.out" in differences(manifest, again)


def go_back(learner: Learner) -> None:
    learner.go_back(VersionState(learner.export(None)), version=1)


def erase_somebody(learner: Learner) -> None:
    learner.erase(keep_alive=lambda: None)


@pytest.mark.parametrize("change, gap", [(go_back, "set aside"), (erase_somebody, "erased")])
def test_what_the_topics_do_not_lead_to_is_said(topics: Topics, change: Callable[[Learner], None], gap: str) -> None:
    whole = small_learner(**CHANGED)
    play(whole, topics, 0)
    change(whole)
    with pytest.raises(NotRebuilt, match=gap):
        rebuild(published(whole), small_learner(**CHANGED), small_config(**CHANGED), reader(topics, 1))


def test_another_model_is_no_match(topics: Topics) -> None:
    whole = small_learner(**CHANGED)
    play(whole, topics, 0)
    with pytest.raises(NotRebuilt, match="another model"):
        rebuild(published(whole), small_learner(num_features=64), small_config(), reader(topics, 1))
