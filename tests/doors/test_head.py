"""A head of another package goes the whole way, and what no head may be is one clear error.

labels --exact sums--> NearestMean --version--> swap --> answers; withdraw --> the version before
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lifelong.plugins.heads.own import OWN
from model.errors import WrongConfig
from model.heads import HEADS, RIDGE, Head, HeadFamily, open_head
from tests.doors.nearest_mean import PATH
from tests.flow.test_in_memory import MIN_RIGHT, NUM_EVENTS, Service, events, share_right
from tests.learner.publish_rig import withdraw
from tests.learner.streams import label_of
from wire.plugins import Families, PluginError
from wire.store import Store

LABELS = [label_of(number) for number in range(NUM_EVENTS)]


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Iterator[Service]:
    started = Service(store, tmp_path, changed={"head": PATH})
    started.start()
    yield started
    started.close()


def test_a_head_is_learnt_under_published_served_and_rolled_back(service: Service, store: Store) -> None:
    assert service.publish() == 1
    service.label(service.answer(events("first")), LABELS)
    assert service.publish() == 2
    assert f"{PATH} " in store.versions.manifest(2).solution.arithmetic
    service.label(service.answer(events("second")), LABELS)
    service.await_swap()
    after = service.answer(events("third"))
    assert {(answer.weights_version, answer.arm) for answer in after} == {(2, "stable")}
    assert share_right(after, LABELS) >= MIN_RIGHT
    withdraw(store, to=1)
    service.await_swap()
    assert {answer.weights_version for answer in service.answer(events("fourth"))} == {1}


def test_a_setting_finds_its_family() -> None:
    assert open_head("") is RIDGE
    assert open_head(f"{PATH}(shrink=0.5)") is OWN.open(f"{PATH}(shrink=0.5)")


class Heads:
    """A family with another name, or without a method."""

    def __init__(self, name: str) -> None:
        self.name = name


class Complete(Heads):
    def claims(self, setting: str) -> bool:
        return setting == "nearest"

    def open(self, setting: str) -> Head:
        raise WrongConfig("not today")


def test_a_family_that_cannot_be_one_is_one_error_when_it_is_registered() -> None:
    HEADS.claiming("")
    for family, said in ((Complete("ridge"), "are both called 'ridge'"), (Heads("other"), "lacks claims, open")):
        with pytest.raises(PluginError, match=said):
            HEADS.register(family)  # type: ignore[arg-type]


def test_a_family_of_another_is_asked_before_ours() -> None:
    heads = Families[HeadFamily]("heads", HeadFamily)
    other: HeadFamily = Complete("other")
    heads.register(other)
    assert heads.claiming("nearest") is other
    assert heads.claiming("") is RIDGE and heads.claiming(PATH) is OWN


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("nearest", "'nearest' is not an import path: say package.module:Class"),
        ("tests.doors.none:Head", "tests.doors.none:Head does not import: No module named"),
        (f"{PATH}(shrinks=1.0)", "cannot be made: TypeError"),
        ("tests.doors.affine:AffineConfig", r"no method weights\(sums\)"),
    ],
)
def test_a_setting_that_is_no_head_says_what_to_mend(setting: str, said: str) -> None:
    with pytest.raises(WrongConfig, match=rf"learner.head .*{said}"):
        open_head(setting)
