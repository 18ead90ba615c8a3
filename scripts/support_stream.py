"""Generates the support stream from handwritten messages and from templates. Every run gives the same lines.

    python scripts/support_stream.py        messages.jsonl + templates.txt --> train.jsonl, test.jsonl

A template is a sentence with choices: `[a|b]` stands for a or b, `{item}` for a word of the list `item`. Choices may be
nested. No text occurs twice, not even with other punctuation, capitals or word order. Of each class, the last
handwritten and the last generated lines are the test set. The field `kind` says how a line was made.
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
"""Number of lines of each class."""
WRITTEN = "written one by one"
MADE = "made of templates"
SEED = 0
TRIES = 400
"""Number of expansions that are tried for each line: templates with few choices repeat the same texts."""

INNERMOST = re.compile(r"\[([^\[\]]*)\]")
NAME = re.compile(r"\{(\w+)\}")

Line = dict[str, str]
Lists = Mapping[str, Sequence[str]]
Templates = Mapping[tuple[str, str], Sequence[str]]


def parse(text: str) -> tuple[Lists, Templates]:
    """Returns the lists of words by name, and the templates by stage and class."""
    lists: dict[str, list[str]] = {}
    templates: dict[tuple[str, str], list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if heading := re.fullmatch(r"\[(\w+)\] (\w+)", line):
            current = templates.setdefault((heading[1], heading[2]), [])
        elif words := re.fullmatch(r"(\w+): (.*)", line):
            lists[words[1]] = words[2].split(", ")
        elif line and not line.startswith("#"):
            current.append(line)
    return lists, templates


def expand(template: str, lists: Lists, rng: random.Random) -> str:
    """Returns one sentence of a template, with choices drawn from `rng`."""
    text = template
    while INNERMOST.search(text):
        text = INNERMOST.sub(lambda found: rng.choice(found[1].split("|")), text)
    text = NAME.sub(lambda found: rng.choice(lists[found[1]]), text)
    return re.sub(r" +([,.?!])", r"\1", re.sub(r"\s+", " ", text)).strip()


def vary_typing(text: str, rng: random.Random) -> str:
    """Returns the text as people type it: some begin with a capital, and some leave out the last question mark."""
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.3:
        text = text.rstrip("?")
    return text


def sorted_words(text: str) -> str:
    """Returns the words of a text in lower case, sorted, without punctuation."""
    return " ".join(sorted(re.findall(r"[a-z0-9]+", text.lower())))


def generate_lines(templates: Templates, lists: Lists, *, taken: set[str]) -> Iterator[Line]:
    """Yields the generated lines of each class; its templates take turns.

    No line has the sorted words of a text in `taken`. The new lines are added to `taken`.
    """
    num_made = sum(NUM_MADE.values())
    for (stage, label), sentences in templates.items():
        rng = random.Random(f"{SEED}/{label}")
        made: list[str] = []
        for place in range(TRIES * num_made):
            if len(made) == num_made:
                break
            sentence = expand(sentences[place % len(sentences)], lists, rng)
            text = vary_typing(sentence, rng)
            if sorted_words(text) not in taken:
                taken.add(sorted_words(text))
                made.append(text)
        for text in made:
            yield {"text": text, "label": label, "stage": stage}


def streams() -> dict[str, list[Line]]:
    """Returns the lines of train.jsonl and test.jsonl: first the handwritten lines, then the generated lines."""
    lists, templates = parse((FOLDER / "templates.txt").read_text())
    by_hand: list[Line] = [json.loads(line) for line in (FOLDER / "messages.jsonl").read_text().splitlines()]
    taken = {sorted_words(line["text"]) for line in by_hand}
    made = list(generate_lines(templates, lists, taken=taken))
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
