"""Tests `lifelong bench learn` on a small folder of texts."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from learner.config import LearnerConfig
from services.bench.command import run
from services.bench.options import LearnOptions
from services.settings import Settings

TEXTS = {
    "refund": ("give me my money back", "i want a refund", "refund the last payment", "pay me back please"),
    "delivery": ("where is my parcel", "the parcel has not come", "when is it delivered", "track my delivery"),
    "password": ("i forgot my password", "reset the password", "my password is wrong", "i cannot log in"),
    "hours": ("when do you open", "are you open on sunday", "opening hours please", "how long are you open"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, places in (("train", slice(0, 3)), ("test", slice(3, 4))):
        lines = []
        for label, texts in TEXTS.items():
            lines += [json.dumps({"text": text, "label": label}) for text in texts[places]]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return tmp_path


def options(
    folder: Path, *strategies: str, seeds: int = 1, flip: float = 0.0, passes: float | None = None
) -> LearnOptions:
    return LearnOptions(
        data=str(folder),
        strategies=list(strategies),
        seeds=seeds,
        passes=passes,
        flip=flip,
        json=folder / "out.jsonl",
        plot=folder / "out.png",
    )


def read_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def test_every_strategy_and_seed_gets_a_line_and_the_curves_are_drawn(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(Settings(), options(folder, "lifelong", "ncm", "joint", seeds=2))
    lines = read_lines(folder)
    runs = [(line["strategy"], line["seed"]) for line in lines]
    assert runs == [*product(("lifelong", "ncm", "joint"), (0, 1))]
    assert lines[0].keys() >= {"final_accuracy", "forgetting", "backward_transfer", "ms_per_label", "buffer_bytes"}
    assert [len(line["accuracy_matrix"]) for line in lines] == [2, 2, 2, 2, 1, 1]
    assert lines[2]["final_accuracy"] >= 75.0 and lines[2]["precision"] == "int8"
    assert "ncm" in capsys.readouterr().out and (folder / "out.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_labels_lower_what_is_learnt(folder: Path) -> None:
    run(Settings(), options(folder, "ncm", flip=1.0))
    (line,) = read_lines(folder)
    assert line["final_accuracy"] <= 50.0


def test_baselines_get_the_memory_and_the_passes_of_the_learner(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(learner=LearnerConfig(slow_every_labels=8, rehearsal_steps=4))
    run(settings, options(folder, "lifelong", "er", "naive", "ridge"))
    learner, replay, naive, ridge = read_lines(folder)
    assert learner["gradients_per_item"] > 10  # four steps of 32 are many for 12 texts
    assert replay["gradients_per_item"] == pytest.approx(learner["gradients_per_item"], rel=0.25)
    assert naive["gradients_per_item"] == pytest.approx(learner["gradients_per_item"], rel=0.25)
    assert [each["encoder"] for each in (learner, replay, naive, ridge)] == ["trained"] * 3 + ["frozen"]
    assert (ridge["gradients_per_item"], ridge["forwards_per_item"]) == (0, 1)
    assert learner["uses_names"] and not replay["uses_names"]
    assert replay["buffer_samples"] == 12 <= learner["buffer_samples"] <= 16  # the learner learns four names, too
    shown = capsys.readouterr().out
    assert shown.index("encoder trained") < shown.index("naive") < shown.index("encoder frozen") < shown.index("ridge")


def test_the_passes_of_a_baseline_alone_can_be_said(folder: Path) -> None:
    run(Settings(), options(folder, "er", passes=3.0))
    assert read_lines(folder)[0]["gradients_per_item"] >= 3
