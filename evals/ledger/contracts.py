"""The contracts of CUAD (Hendrycks et al., arXiv 2103.06268), each with its type: the long texts of the ledger."""

import gzip
import json
from pathlib import Path

from evals.results.row import Skip
from evals.streams.stream import StreamItem


def contracts(data: Path | None) -> list[StreamItem]:
    """Returns the contracts, thousands of words each, in the order of the file. Raises Skip without them."""
    path = (data or Path()) / "cuad" / "contracts.jsonl.gz"
    if not path.exists():
        raise Skip(f"{path} is missing")
    with gzip.open(path, "rt") as lines:
        rows = map(json.loads, lines)
        return [StreamItem(row["text"], row["type"]) for row in rows]
