"""Checks what is read of CUAD."""

import gzip
import json
from pathlib import Path

import pytest

from evals.ledger.contracts import contracts
from evals.results.row import Skip


def test_without_the_contracts_nothing_is_compared() -> None:
    with pytest.raises(Skip, match="cuad"):
        contracts(Path("/no such folder"))


def test_a_contract_has_its_type(tmp_path: Path) -> None:
    (tmp_path / "cuad").mkdir()
    with gzip.open(tmp_path / "cuad" / "contracts.jsonl.gz", "wt") as lines:
        lines.write(json.dumps({"text": "This agreement", "type": "license", "words": 2}) + "\n")
    ((text, label),) = [(item.text, item.label) for item in contracts(tmp_path)]
    assert (text, label) == ("This agreement", "license")
