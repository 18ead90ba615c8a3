"""Tests that the names of spans and of their attributes are frozen and documented."""

from services.versions import ROOT
from wire.traces import SPANS

SNAPSHOT = ROOT / "tests/wire/spans.txt"
DOCUMENT = ROOT / "docs" / "traces.md"


def frozen() -> str:
    """Returns all spans, one on each line."""
    return "".join(f"{span.name} {span.made_by} {','.join(span.attributes)}\n" for span in SPANS)


def table() -> str:
    """Returns the table of the document."""
    rows = ["| span | made by | attributes | what it lasts |", "|---|---|---|---|"]
    for span in SPANS:
        attributes = ", ".join(f"`{name}`" for name in span.attributes)
        rows.append(f"| `{span.name}` | {span.made_by} | {attributes} | {span.help} |")
    return "\n".join(rows)


def test_the_names_are_frozen() -> None:
    assert frozen() == SNAPSHOT.read_text(), (
        f"a released name stays; for a new one write the list by `python -m {__name__}`"
    )


def test_the_document_has_every_span() -> None:
    assert table() in DOCUMENT.read_text()


def test_every_name_is_ours() -> None:
    for span in SPANS:
        assert all(name.startswith("lifelong.") for name in (span.name, *span.attributes))
    assert len({span.name for span in SPANS}) == len(SPANS)


if __name__ == "__main__":
    SNAPSHOT.write_text(frozen())
    print(table())
