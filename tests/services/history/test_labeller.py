"""Tests that the fields of a row become a label with its text, or a refusal with the fix."""

from typing import Any

import pytest

from lifelong.plugins.kinds.sets import join_names
from services.history.labeller import FIXES, BadHistory, RowLabeller, RowMaps
from tests.learner.intake.joins import make_join
from wire.errors import BadMessage
from wire.label_set import LabelConfig, LabelSet

TICKET = {"ticket_id": 7, "subject": None, "body": "where is it", "queue": "delivery", "agent": {"name": "eve"}}
MAPS = {"id": "{ticket_id}", "text": "{subject?} {body}", "label": "{queue}", "key": "{agent.name}"}


def labelled(
    maps: dict[str, str] | None = None, labels: LabelSet | None = None, *, is_table: bool = False
) -> RowLabeller:
    return RowLabeller(
        RowMaps.of(maps or {}), labels or LabelSet(), source="desk", max_label_chars=20, is_table=is_table
    )


def test_fields_of_ours_become_a_label_with_its_text() -> None:
    found = labelled().feedback({"text": "hello", "label": "greeting", "id": "e-1", "source": "crm", "time_ms": 5})
    assert (found.event_id, found.text, found.label) == ("e-1", "hello", "greeting")
    assert (found.source, found.event_source, found.time_ms) == ("desk", "crm", 5)


def test_foreign_fields_become_it_by_maps() -> None:
    found = labelled(MAPS).feedback(TICKET)
    assert (found.event_id, found.text, found.label, found.key) == ("7", " where is it", "delivery", "eve")


def test_a_table_may_have_more_columns_and_has_numbers_as_texts() -> None:
    found = labelled(is_table=True).feedback({"text": "hello", "label": "greeting", "agent": "eve", "time_ms": "5"})
    assert found.time_ms == 5


def test_a_row_may_have_features_beside_the_text_or_instead_of_it() -> None:
    found = labelled().feedback({"features": {"amount": 12, "country": "nz"}, "label": "fraud"})
    assert (found.text, found.features, len(found.event_id)) == ("", {"amount": 12.0, "country": "nz"}, 32)
    assert labelled().feedback({"features": {"amount": 12}, "label": "fraud"}).event_id != found.event_id


def test_columns_become_features_by_maps_and_cells_that_read_as_numbers_are_numbers() -> None:
    maps = {"features.amount": "{amount}", "features.country": "{country?}", "label": "{kind}"}
    row = {"amount": "12.50", "country": None, "kind": "fraud"}
    assert labelled(maps, is_table=True).feedback(row).features == {"amount": 12.5}
    assert labelled(maps).feedback(row | {"country": "nz"}).features == {"amount": "12.50", "country": "nz"}


def test_a_row_without_an_id_is_learnt_once_however_often_it_is_sent() -> None:
    join = make_join()
    row = {"text": "hello", "label": "greeting"}
    assert len(join.match([labelled().feedback(row)])) == 1
    assert join.match([labelled().feedback(row)]) == []
    assert join.counts["duplicate"] == 1


@pytest.mark.parametrize(
    ("fields", "reason", "detail"),
    [
        ({"text": "t"}, "wrong_schema", "`label` is missing"),
        ({"txt": "t", "label": "l"}, "wrong_schema", "did you mean 'text'"),
        ({"text": " ", "label": "l"}, "wrong_schema", "`text` is blank"),
        ({"text": "t", "label": " "}, "wrong_schema", "`label` is blank"),
        ({"features": {}, "label": "l"}, "wrong_schema", "there are no `features`"),
        ({"features": {" ": 1}, "label": "l"}, "wrong_schema", "a name that is blank"),
        ({"features": {"x": [1]}, "label": "l"}, "wrong_schema", "features"),
        ({"text": 5, "label": "l"}, "wrong_schema", "text"),
        ({"text": "t", "label": "l", "time_ms": -5}, "wrong_schema", "time_ms"),
        ({"text": "t", "label": 21 * "l"}, "oversized", "at most 20"),
        ({"text": "t", "label": "l", "id": 1_025 * "i"}, "oversized", "1025 bytes"),
        ({"text": "t", "label": "refnud"}, "not_listed", "did you mean 'refund'"),
    ],
)
def test_a_bad_row_is_refused_with_a_reason_and_a_fix(fields: dict[str, Any], reason: str, detail: str) -> None:
    labels = LabelSet(LabelConfig(mode="listed", allow=("refund", "l", 21 * "l")))
    with pytest.raises(BadMessage, match=detail) as refusal:
        labelled(labels=labels).feedback(fields)
    assert refusal.value.reason == reason
    assert FIXES[reason]


def test_a_missing_column_names_the_one_that_may_be_meant() -> None:
    with pytest.raises(BadMessage, match=r"did you mean --map label='\{lable\}'"):
        labelled(is_table=True).feedback({"text": "t", "lable": "l"})


@pytest.mark.parametrize(
    ("maps", "why"),
    [
        ({"labl": "{a}"}, "--map labl: there is no such field; did you mean 'label'"),
        ({"feature.amount": "{a}"}, "did you mean 'features.amount'"),
        ({"features": "{a}"}, "--map features: .* there are label, labels, value, .*, and features.NAME"),
        ({"text": "{a"}, "--map text"),
        ({"label": "{a}", "labels": "{b}"}, "--map label and --map labels: a row is one label"),
    ],
)
def test_a_map_that_is_none_is_refused_before_a_row_is_read(maps: dict[str, str], why: str) -> None:
    with pytest.raises(BadHistory, match=why):
        labelled(maps)


@pytest.mark.parametrize("tags", [["refund", "urgent"], "refund, urgent", "urgent,refund"])
def test_sets_of_labels_are_lists_or_names_between_commas(tags: list[str] | str) -> None:
    sets = LabelSet(LabelConfig(kind="multilabel"))
    row = {"text": "hello", "tags": tags}
    assert labelled({"labels": "{tags}"}, sets).feedback(row).label_string == join_names(["refund", "urgent"])
    assert labelled(None, sets).feedback({"text": "hello", "labels": tags}).label_string == join_names(
        ["refund", "urgent"]
    )
    assert labelled(None, sets).feedback({"text": "hello", "labels": []}).label_string == join_names([])


def test_one_label_where_sets_are_wanted_says_which_map_makes_them() -> None:
    with pytest.raises(BadMessage, match=r"labels\.kind is multilabel: send `labels`") as caught:
        labelled(None, LabelSet(LabelConfig(kind="multilabel"))).feedback({"text": "hello", "label": "refund"})
    assert "--map labels=" in FIXES[caught.value.reason]


@pytest.mark.parametrize("points", [4.5, "4.5"])
def test_a_score_is_a_number_or_a_cell_that_reads_as_one(points: float | str) -> None:
    scores = LabelSet(LabelConfig(kind="score", range=(0.0, 5.0)))
    assert labelled({"value": "{points}"}, scores).feedback({"text": "hello", "points": points}).value == 4.5
    assert labelled(None, scores).feedback({"text": "hello", "value": points}).value == 4.5
