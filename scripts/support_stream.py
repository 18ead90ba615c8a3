"""Makes the support stream of what is written by hand and of templates, the same at every run.

    python scripts/support_stream.py        messages.jsonl + templates.txt --> train.jsonl, test.jsonl

A template is a sentence with choices: `[a|b]` is one of them, `{item}` a word of a list; choices may lie in choices.
No text comes twice, not even with other marks, capitals or order of its words. The last lines that are made of a class
are for its test, as the last ones by hand are. `kind` says of each line how it came to be.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "evals" / "streams" / "support"
NUM_BY_HAND = {"train": 40, "test": 8}
NUM_MADE = {"train": 80, "test": 12}
"""Lines of each class."""
WRITTEN = "written one by one"
MADE = "made of templates"
SEED = 0
TRIES = 400
"""Expansions that are tried for each line: templates with few choices give the same text again and again."""

INNERMOST = re.compile(r"\[([^\[\]]*)\]")
NAME = re.compile(r"\{(\w+)\}")

Line = dict[str, str]
Lists = Mapping[str, Sequence[str]]
Templates = Mapping[tuple[str, str], Sequence[str]]


def parsed(text: str) -> tuple[Lists, Templates]:
    """Returns the lists of words by name, and the templates by stage and class."""
    lists: dict[str, list[str]] = {}
    templates: dict[tuple[str, str], list[str]] = {}
    of_class: list[str] = []
    for line in text.splitlines():
        if heading := re.fullmatch(r"\[(\w+)\] (\w+)", line):
            of_class = templates.setdefault((heading[1], heading[2]), [])
        elif words := re.fullmatch(r"(\w+): (.*)", line):
            lists[words[1]] = words[2].split(", ")
        elif line and not line.startswith("#"):
            of_class.append(line)
    return lists, templates


def expanded(template: str, lists: Lists, rng: random.Random) -> str:
    """Returns one of the sentences that a template stands for."""
    text = template
    while INNERMOST.search(text):
        text = INNERMOST.sub(lambda found: rng.choice(found[1].split("|")), text)
    text = NAME.sub(lambda found: rng.choice(lists[found[1]]), text)
    return re.sub(r" +([,.?!])", r"\1", re.sub(r"\s+", " ", text)).strip()


def typed(text: str, rng: random.Random) -> str:
    """Returns the text as people type it: some begin with a capital, and some leave the last mark out."""
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    return text.rstrip("?") if rng.random() < 0.3 else text


def words_in(text: str) -> str:
    """Returns what is left of a text without its marks, capitals and the order of its words."""
    return " ".join(sorted(re.findall(r"[a-z0-9]+", text.lower())))


def lines_of(templates: Templates, lists: Lists, *, taken: set[str]) -> Iterator[Line]:
    """Yields the made lines of each class, of which the templates take turns; none is in `taken`."""
    num_made = sum(NUM_MADE.values())
    for (stage, label), sentences in templates.items():
        rng = random.Random(f"{SEED}/{label}")
        made: list[str] = []
        for place in range(TRIES * num_made):
            if len(made) == num_made:
                break
            text = typed(expanded(sentences[place % len(sentences)], lists, rng), rng)
            if words_in(text) not in taken:
                taken.add(words_in(text))
                made.append(text)
        for text in made:
            yield {"text": text, "label": label, "stage": stage}


def streams() -> dict[str, list[Line]]:
    """Returns the lines of train.jsonl and of test.jsonl: of each class those by hand, then those that are made."""
    lists, templates = parsed((FOLDER / "templates.txt").read_text())
    by_hand: list[Line] = [json.loads(line) for line in (FOLDER / "messages.jsonl").read_text().splitlines()]
    made = list(lines_of(templates, lists, taken={words_in(line["text"]) for line in by_hand}))
    streams: dict[str, list[Line]] = {"train": [], "test": []}
    for kind, lines, numbers in ((WRITTEN, by_hand, NUM_BY_HAND), (MADE, made, NUM_MADE)):
        seen = Counter[str]()
        for line in lines:
            seen[line["label"]] += 1
            part = "train" if seen[line["label"]] <= numbers["train"] else "test"
            streams[part].append({**line, "kind": kind})
    return streams


def main() -> None:
    for name, lines in streams().items():
        (FOLDER / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


if __name__ == "__main__":
    main()
