"""Streams are loaded, and invalid data is refused with an error."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from evals.streams.data import assign_stages, fewshot, load
from evals.streams.stream import StreamItem
from learner.errors import DataError

Fields = Mapping[str, object]

TWO = ({"text": "one", "label": "a"}, {"text": "two", "label": "b"})


def write(folder: Path, train: Sequence[object], test: Sequence[object] = TWO[:1], *, gz: bool = False) -> str:
    for name, lines in (("train.jsonl", train), ("test.jsonl", test)):
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        if gz:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_text(text, encoding="utf-8")
    return str(folder)


def with_stage(lines: Sequence[Fields], stage: str) -> list[Fields]:
    return [{**line, "stage": stage} for line in lines]


def test_the_bundled_stream_needs_no_data_folder() -> None:
    stream = load("support", None)
    assert len(stream.stages) >= 8
    assert stream.num_labels >= 40
    num_labels = 0
    for stage in stream.stages:
        labels = {item.label for item in stage.train}
        assert {item.label for item in stage.test} == labels
        num_labels += len(labels)
    # No label comes back in a later stage.
    assert num_labels == stream.num_labels


def test_a_stream_can_be_tested_on_its_validation_items(tmp_path: Path) -> None:
    folder = write(tmp_path, TWO)
    (tmp_path / "val.jsonl").write_text(json.dumps(TWO[1]))
    assert [item.text for item in load(folder, None, split="val").stages[0].test] == ["two"]
    with pytest.raises(DataError, match="no split 'dev': choose test or val"):
        load(folder, None, split="dev")


def test_stages_come_in_the_order_of_the_lines(tmp_path: Path) -> None:
    train = with_stage(TWO, "late") + with_stage(TWO, "early")
    stream = load(write(tmp_path, train, train), None)
    assert [stage.name for stage in stream.stages] == ["late", "early"]


@pytest.mark.parametrize("gz", [False, True])
def test_lines_without_stages_get_one_stage_or_equal_stages(tmp_path: Path, gz: bool) -> None:
    stream = load(write(tmp_path, TWO, TWO, gz=gz), None)
    assert [(stage.name, len(stage.train), len(stage.test)) for stage in stream.stages] == [("stage 1", 2, 2)]


@pytest.mark.parametrize(("num_labels", "num_stages"), [(1, 1), (3, 1), (4, 2), (7, 1), (20, 10), (77, 7), (150, 10)])
def test_stages_have_equally_many_labels(num_labels: int, num_stages: int) -> None:
    stage_of = assign_stages([f"label {number}" for number in range(num_labels)] * 2)
    sizes = [list(stage_of.values()).count(name) for name in dict.fromkeys(stage_of.values())]
    assert sizes == [num_labels // num_stages] * num_stages


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"train.jsonl:2: not JSON"),
        ("[]", r"train.jsonl:2: not an object but list"),
        ({"label": "a"}, r"train.jsonl:2: 'text' must be a string with something in it, not None"),
        ({"text": " ", "label": "a"}, r"train.jsonl:2: 'text' must be .* not ' '"),
        ({"text": "x", "label": 3}, r"train.jsonl:2: 'label' must be .* not 3"),
        ({"text": "x", "label": "a", "stage": 3}, r"train.jsonl:2: 'stage' must be a string, not 3"),
        ({"text": "x", "label": "a", "kind": 3}, r"train.jsonl:2: 'kind' must be a string, not 3"),
        ({"text": "x", "label": "a", "stage": "s"}, r"train.jsonl:2: either every line has a stage or none has"),
        ('{"text": "\\ud800", "label": "a"}', r"train.jsonl:2: .*surrogates not allowed"),
        ({"text": "x" * 600_000, "label": "a"}, r"train.jsonl:2: 600000 bytes of text; an event takes 524288"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path, [TWO[0], line]), None)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ([], "test.jsonl is empty"),
        ([{"text": "x", "label": "z", "stage": "s"}], r"test.jsonl:1: no training item has the label 'z'"),
        ([{"text": "x", "label": "a", "stage": "t"}], r"test.jsonl:1: no training item has the stage 't'"),
        ([{"text": "x", "label": "a"}], r"test.jsonl:1: no training item has the stage None"),
    ],
)
def test_test_items_must_fit_the_training_items(tmp_path: Path, test: Sequence[Fields], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path, with_stage(TWO, "s"), test), None)


def test_a_missing_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data set '.*nowhere': choose support, clinc150, digits, or a folder"):
        load(str(tmp_path / "nowhere"), None)
    with pytest.raises(DataError, match=r"train.jsonl is missing \(or train.jsonl.gz\)"):
        load(str(tmp_path), None)


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl.gz").write_bytes(b"\x1f\x8b but no more")
    with pytest.raises(DataError, match=r"train.jsonl.gz: "):
        load(str(tmp_path), None)


def write_clinc150(data: Path, full: object) -> Path:
    folder = data / "clinc150"
    folder.mkdir()
    (folder / "data_full.json.gz").write_bytes(gzip.compress(json.dumps(full).encode()))
    (folder / "domains.json").write_text(json.dumps({"home": ["lights"], "food": ["recipe"]}))
    return data


def test_clinc150_comes_domain_by_domain_without_the_out_of_scope_part(tmp_path: Path) -> None:
    pairs = [["how do i cook it", "recipe"], ["lights off", "lights"]]
    stream = load("clinc150", write_clinc150(tmp_path, {"train": pairs, "test": pairs, "oos_train": [["x", "oos"]]}))
    home, food = stream.stages
    assert (home.name, [item.label for item in home.train]) == ("home", ["lights"])
    assert (food.name, [item.label for item in food.train]) == ("food", ["recipe"])


def test_clinc150_says_how_to_get_it(tmp_path: Path) -> None:
    for data in (None, tmp_path):
        with pytest.raises(DataError, match=r"clinc150.*git clone .*LIFELONG_DATA") as refused:
            load("clinc150", data)
        assert "\n" not in str(refused.value)


def test_clinc150_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the published CLINC150"):
        load("clinc150", write_clinc150(tmp_path, {"train": [["x", "weather"]], "test": []}))


def test_few_shots_are_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "clinc150").mkdir()
    file = tmp_path / "clinc150" / "fewshot_5.tsv"
    file.write_text("pay my bill\tpay_bill\nwake me\talarm\n")
    assert fewshot(5, tmp_path) == [StreamItem("pay my bill", "pay_bill"), StreamItem("wake me", "alarm")]
    with pytest.raises(DataError, match=r"fewshot_10.tsv is missing.*paste"):
        fewshot(10, tmp_path)
    file.write_text("pay my bill\tpay_bill\nwake me\n")
    with pytest.raises(DataError, match=r"fewshot_5.tsv:2: expected a text, a tab, and a class"):
        fewshot(5, tmp_path)
