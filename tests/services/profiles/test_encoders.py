"""The encoders of profiles have their shapes."""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from learner.errors import DataError
from lifelong.compress.search import Point
from lifelong.compress.space import Space
from model.bert import load_encoder
from model.config import MINILM_L6, StrataConfig
from services.members.search import Front, Trained
from services.members.source import labelled
from services.profiles import encoders
from services.profiles.encoders import TEACHER, TEXTS, build_encoder, choose_point, named_points, to_nano, trained_as
from services.profiles.profile import BASE, NANO, PRO, Profile

SPACE = Space(dense=MINILM_L6)


def silent(_: str) -> None:
    """Shows nothing."""


def test_nano_is_made_of_minilm_without_training() -> None:
    strata, tokenizer = load_encoder(TEACHER)
    tasks = labelled(TEXTS, None, tokenizer, max_texts=32, seed=0)
    assert to_nano(strata.requires_grad_(False), tasks).config.canonical_json() == NANO.config.canonical_json()


@pytest.mark.parametrize("profile", [BASE, PRO], ids=["base", "pro"])
def test_base_and_pro_are_the_default_encoder(tmp_path: Path, profile: Profile[StrataConfig]) -> None:
    assert build_encoder(profile, data=None, say=silent, cache=tmp_path) == TEACHER
    assert not list(tmp_path.iterdir())


def point(score: float, megabytes: float, rank: int) -> Point:
    genes = replace(SPACE.smallest, rank=rank)
    return Point(genes=genes, score=score, share=0.4, megabytes=megabytes, ms=1.0)


def found_front(folder: Path) -> Front:
    """Returns a front of three points, of which the smallest was trained."""
    points = (point(0.6, 4.0, 0), point(0.8, 11.0, 4), point(0.9, 14.0, 8))
    trained = Trained(
        genes=points[1].genes,
        folder=str(folder),
        teacher=TEACHER,
        machine="a machine",
        threads=2,
        steps=800,
        minutes=7.5,
        accuracy=0.85,
        cosine=0.9,
        parameters=7_000_000,
        megabytes=10.5,
    )
    return Front(
        machine="a machine",
        source=TEACHER,
        tasks=TEXTS,
        accuracy=0.95,
        parameters=22_000_000,
        taus={"accuracy": 0.7},
        proxy="accuracy",
        points=points,
        trained=(trained,),
    )


def test_profiles_name_points_of_a_front(tmp_path: Path) -> None:
    front = found_front(tmp_path)
    assert named_points(front) == {"base": front.points[2], "nano": front.points[1]}
    assert choose_point(front, "nano") == choose_point(front, "1") == front.points[1]
    for name in ("pro", "3", "-1"):
        with pytest.raises(DataError, match="it has base, nano, and 0 to 2"):
            choose_point(front, name)
    large = msgspec.structs.replace(front, points=front.points[2:])
    assert named_points(large).keys() == {"base"}


def test_a_trained_point_is_the_profiles_encoder(tmp_path: Path) -> None:
    front = found_front(tmp_path)
    assert build_encoder(NANO, data=None, say=silent, front=front, cache=tmp_path) == str(tmp_path)
    assert build_encoder(BASE, data=None, say=silent, front=front, cache=tmp_path) == TEACHER
    assert trained_as(NANO, found_front(tmp_path / "removed")) is None


@pytest.mark.slow
def test_nano_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "STEPS", 2)
    said: list[str] = []
    folder = build_encoder(NANO, data=None, say=said.append, cache=tmp_path)
    assert load_encoder(folder)[0].config.canonical_json() == NANO.config.canonical_json()
    num_said = len(said)
    assert num_said > 2 and build_encoder(NANO, data=None, say=said.append, cache=tmp_path) == folder
    assert len(said) == num_said
