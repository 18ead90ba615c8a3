import json
import subprocess
import sys
from pathlib import Path

import pytest

from learner.errors import DataError
from services.bench.command import SETS, _defaults, find_data_set
from services.versions import ROOT


@pytest.mark.parametrize("name", [*SETS, "a folder of mine"])
def test_every_set_takes_its_defaults(name: str) -> None:
    kind = find_data_set(name).kind
    assert all(callable(kind.named(strategy).make) for strategy in kind.defaults)


@pytest.mark.parametrize("name", ["split-mnist", "permuted-mnist", "clinc150", "clinc150-5-shot", "a folder of mine"])
def test_stages_take_our_strategies_and_avalanches(name: str) -> None:
    kind = find_data_set(name).kind
    for strategy in ("er", "der++", "avalanche-replay", "avalanche.training.plugins:ReplayPlugin"):
        assert callable(kind.named(strategy).make)


def test_without_avalanche_its_strategies_are_left_out_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = find_data_set("clinc150").kind
    assert _defaults(kind) == [*kind.defaults]
    monkeypatch.setitem(sys.modules, "avalanche", None)  # as Python finds what is not installed
    assert _defaults(kind) == [name for name in kind.defaults if "avalanche" not in name]
    said = capsys.readouterr().err.replace("\n", " ")
    assert said.startswith(
        "Left out: avalanche-replay, frozen-avalanche-replay. avalanche is not installed: pip install"
    )
    with pytest.raises(DataError, match="avalanche is not installed"):
        kind.named("avalanche-replay")


def test_the_command_begins_without_avalanche() -> None:
    program = "import sys; sys.modules['avalanche'] = None; from services.bench.command import show_names; show_names()"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "der++" in done.stdout, done.stderr


def test_a_strategy_that_there_is_not_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(DataError, match=r"no strategy 'magic' here: there are naive, .*der-ace, joint, avalanche-NAME"):
        find_data_set("split-mnist").kind.named("magic")
    with pytest.raises(DataError, match="learns in stages, not row by row"):
        find_data_set("elec2").kind.named("avalanche-replay")
    with pytest.raises(DataError, match="does not import"):
        find_data_set("support").kind.named("no.such.module:Thing")


def test_images_that_are_missing_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="in a folder mnist"):
        find_data_set("permuted-mnist").load(tmp_path, "test")


def test_few_shots_leave_the_other_training_texts_without_a_label(tmp_path: Path) -> None:
    folder = tmp_path / "clinc150"
    folder.mkdir()
    train = [["lights on", "lights"], ["lights off", "lights"], ["make it dark", "lights"], ["cook rice", "recipe"]]
    test = [["bake a cake", "recipe"], ["dim the lamp", "lights"]]
    full = {"train": train, "test": test, "val": [["boil an egg", "recipe"], ["more light", "lights"]]}
    (folder / "data_full.json").write_text(json.dumps(full))
    (folder / "domains.json").write_text(json.dumps({"home": ["lights"], "food": ["recipe"]}))
    (folder / "fewshot_5.tsv").write_text("lights on\tlights\ncook rice\trecipe\n")
    benchmark = find_data_set("clinc150-5-shot").load(tmp_path, "test")
    (stage,) = benchmark.stages
    assert sorted(stage.train.inputs) == ["cook rice", "lights on"]
    assert sorted(stage.test.inputs) == ["bake a cake", "dim the lamp"]
    assert sorted(benchmark.unlabelled or ()) == ["lights off", "make it dark"]
    (stage,) = find_data_set("clinc150-5-shot").load(tmp_path, "val").stages
    assert sorted(stage.test.inputs) == ["boil an egg", "more light"]


def test_a_split_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"this data set has no split 'val': choose test"):
        find_data_set("elec2").load(tmp_path, "val")
    with pytest.raises(DataError, match=r"no split 'train': choose test or val"):
        find_data_set("clinc150").load(tmp_path, "train")
