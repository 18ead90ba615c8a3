"""The contracts of CUAD (Hendrycks et al., arXiv 2103.06268), their types and clauses: the ledger's long texts."""

import gzip
import json
from pathlib import Path
from typing import Any

from evals.results.row import Skip
from evals.streams.stream import StreamItem


def contracts(data: Path | None) -> list[StreamItem]:
    """Returns the contracts, thousands of words each, in the order of the file. Raises Skip without them."""
    return [StreamItem(row["text"], row["type"]) for row in _rows(data)]


def clauses(data: Path | None) -> list[dict[str, bool]]:
    """Returns which kinds of clauses each contract has, in the same order. Raises Skip."""
    return [{kind: bool(there) for kind, there in row["clauses_present"].items()} for row in _rows(data)]


def _rows(data: Path | None) -> list[dict[str, Any]]:
    path = (data or Path()) / "cuad" / "contracts.jsonl.gz"
    if not path.exists():
        raise Skip(f"{path} is missing")
    with gzip.open(path, "rt") as lines:
        return list(map(json.loads, lines))
