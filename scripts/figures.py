"""Writes every measured number of the documents, from docs/results.jsonl and docs/ledger.jsonl.

    python scripts/figures.py                    the blocks of README.md and docs/benchmarks.md, and docs/ledger.md
    python scripts/figures.py --add FILE         first adds the rows of FILE that are of the commit of its last line

A block begins with a comment that says what it shows, and ends with `<!-- end -->`. The comment has one pattern of rows
a line, followed by a description if the name of the row is not clear enough:

    <!-- figures
    kafka_latency.p99: latency over Kafka, p99
    chaos.*
    -->

or `missed goals`, or `number of missed goals`. If a row is measured again at another commit, the earlier row moves from
results.jsonl to results-earlier.jsonl.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from bench.harness.cases import CASES
from bench.harness.ledger import DOCUMENT, markdown, merge_lines, read_lines
from evals.results.rows import ResultLine, decode, encode
from evals.results.tables import merge_calls, missed_goals, num_goals, render_table

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RESULTS = DOCS / "results.jsonl"
EARLIER = DOCS / "results-earlier.jsonl"
PAGES = (ROOT / "README.md", DOCS / "benchmarks.md", DOCS / "planning.md")

BLOCK = re.compile(r"(<!-- figures\n(.*?)\n-->\n).*?(<!-- end -->)", re.DOTALL)

MISSED = "missed goals"
NUM_MISSED = "number of missed goals"


def read_result_lines(path: Path) -> list[ResultLine]:
    """Returns the rows of a file."""
    return list(map(decode, path.read_text().splitlines()))


def parse_words(shown: str) -> dict[str, str]:
    """Returns pattern -> description of the row, for the patterns of a block."""
    pairs = (line.partition(": ") for line in shown.splitlines())
    return {pattern.strip(): words.strip() for pattern, _, words in pairs}


def rebuilt(page: str, lines: list[ResultLine], ledger: list[ResultLine]) -> str:
    """Returns a page with all blocks replaced. Raises MixedTable."""

    def block(shown: str) -> str:
        if shown == MISSED:
            return missed_goals([*lines, *ledger])
        if shown == NUM_MISSED:
            missed, num = num_goals([*lines, *ledger])
            where = "[which, by how much, and their worst calls](docs/benchmarks.md#missed-goals)"
            return f"{missed} of {num} goals are missed: {where}.\n"
        return render_table(lines, parse_words(shown))

    return BLOCK.sub(lambda found: f"{found[1]}\n{block(found[2])}\n{found[3]}", page)


def documents() -> Iterator[tuple[Path, str]]:
    """Yields the path of each page and its new text. Raises MixedTable."""
    lines = merge_calls(read_result_lines(RESULTS))
    ledger = read_lines(DOCS, CASES)
    for path in PAGES:
        yield path, rebuilt(path.read_text(), lines, list(ledger.values()))
    yield DOCS / DOCUMENT, markdown(CASES, ledger)


def add(path: Path) -> None:
    """Adds the rows of a file that are of the commit of its last line, to RESULTS or to the ledger.

    Rows with the same names and other commits move from RESULTS to EARLIER. The ledger keeps only the newest rows.
    """
    lines = read_result_lines(path)
    commit = lines[-1].commit
    lines = [line for line in lines if line.commit == commit]
    merge_lines(lines, CASES, DOCS)
    ledger = {case.name for case in CASES if case.technique}
    new = [line for line in lines if line.name.partition(".")[0] not in ledger]
    names = {line.name for line in new}
    known = read_result_lines(RESULTS)
    moved = [line for line in known if line.name in names and line.commit != commit]
    kept = [line for line in known if line not in moved]
    RESULTS.write_bytes(b"".join(map(encode, [*kept, *(line for line in new if line not in kept)])))
    with EARLIER.open("ab") as file:
        file.writelines(map(encode, moved))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--add", type=Path, metavar="FILE", help="rows to add, such as build/bench/results.jsonl")
    arguments = parser.parse_args()
    if arguments.add:
        add(arguments.add)
    for path, text in documents():
        path.write_text(text)


if __name__ == "__main__":
    main()
