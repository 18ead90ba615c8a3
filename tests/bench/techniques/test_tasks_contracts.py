"""Checks the contracts and clauses that are read from CUAD."""

import gzip
import json
from pathlib import Path

import pytest

from bench.techniques.tasks import clauses, contracts
from evals.results.row import Skip


def test_without_the_contracts_nothing_is_compared() -> None:
    with pytest.raises(Skip, match="cuad"):
        contracts(Path("/no such folder"))


def test_a_contract_has_its_type_and_its_clauses(tmp_path: Path) -> None:
    (tmp_path / "cuad").mkdir()
    with gzip.open(tmp_path / "cuad" / "contracts.jsonl.gz", "wt") as lines:
        lines.write(
            json.dumps({"text": "This agreement", "type": "license", "clauses_present": {"Audit": 1, "Cap": 0}}) + "\n"
        )
    ((text, label),) = [(item.text, item.label) for item in contracts(tmp_path)]
    assert (text, label) == ("This agreement", "license")
    assert clauses(tmp_path) == [{"Audit": True, "Cap": False}]
