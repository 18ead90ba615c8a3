"""Tests `lifelong bench learn` on a small folder of texts."""

import json
from itertools import product
from pathlib import Path

import pytest

from services.bench.command import LearnOptions, run
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


def options(folder: Path, *strategies: str, seeds: int = 1, flip: float = 0.0) -> LearnOptions:
    return LearnOptions(
        data=str(folder),
        strategies=strategies,
        seeds=seeds,
        buffer=None,
        flip=flip,
        json=folder / "out.jsonl",
        plot=folder / "out.png",
    )


def test_every_strategy_and_seed_gets_a_line_and_the_curves_are_drawn(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(Settings(), options(folder, "lifelong", "ncm", "joint", seeds=2))
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    runs = [(line["strategy"], line["seed"]) for line in lines]
    assert runs == [*product(("lifelong", "ncm", "joint"), (0, 1))]
    assert lines[0].keys() >= {"final_accuracy", "forgetting", "backward_transfer", "ms_per_label", "buffer_bytes"}
    assert [len(line["accuracy_matrix"]) for line in lines] == [2, 2, 2, 2, 1, 1]
    assert lines[2]["final_accuracy"] >= 75.0 and lines[2]["precision"] == "int8"
    assert "ncm" in capsys.readouterr().out and (folder / "out.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_labels_lower_what_is_learnt(folder: Path) -> None:
    run(Settings(), options(folder, "ncm", flip=1.0))
    (line,) = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert line["final_accuracy"] <= 50.0
