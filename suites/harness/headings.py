"""golden/TABLE.md: which clause stands on which place of the article, and the other way round.

`python suites/harness/headings.py` writes it anew; a test compares.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from startkit.judge.clause import load_clauses
from startkit.judge.listing import load_article

GOLDEN = Path(__file__).parents[2] / "golden"
HEAD = """\
# The article and the clauses

Written by `python suites/harness/headings.py`; read README.md first. A place is a paragraph
under a heading (texts, list items and quotes, from 1) or a listing.

## From the article

| heading | place | clauses |
| --- | --- | --- |
"""
# What nothing can stand on, and why.
EMPTY = {
    ("flow", "paragraph 5"): "says what comes next",
    ("dockerd", "paragraph 1"): "says what comes next",
    ("rootfs", "paragraph 2"): "says what comes next",
    ("rootfs", "paragraph 4"): "a link to another article",
    ("rootfs", "04-tree-rootfs.txt"): "counts of an image that is lost: README, What is not tested",
    ("rootfs", "07-tree-merged.txt"): "the same",
    ("files", "paragraph 1"): "says what comes next",
    ("bundle", "paragraph 4"): "networking, which the article leaves out",
    ("end", "paragraph 1"): "names what the article leaves out",
}
BACK = """
## From the clauses

| clause | level | where it is said |
| --- | --- | --- |
"""


def places(clauses, index):
    """Return (heading, place) -> ids, for every place of the article, in its order."""
    found = {}
    for name, heading in index.heading.items():
        for number in range(1, heading.paragraphs + 1):
            found[name, f"paragraph {number}"] = []
        for listing in index.listing:
            if listing.heading == name:
                found[name, listing.file] = []
        found[name, "the whole"] = []
    for clause in clauses.values():
        for place in stands_on(clause.source, index):
            found[place].append(clause.id)
    return found


def stands_on(source, index):
    """Return the places that a clause's source names."""
    if source.listing:
        heading = next(one.heading for one in index.listing if one.file == source.listing)
        yield heading, source.listing
    if source.heading and source.paragraph:
        yield source.heading, f"paragraph {source.paragraph}"
    elif source.heading and not source.listing:
        yield source.heading, "the whole"


def where(source, index):
    """Return in words where a clause's source says it."""
    said = [f"{index.heading[name].title}, {place}" for name, place in stands_on(source, index)]
    said += [f"era {source.era}"] if source.era else []
    said += [source.spec] if source.spec else []
    return "; ".join(said)


def text():
    """Return the page."""
    clauses, index = load_clauses(GOLDEN), load_article(GOLDEN).index
    rows = defaultdict(str)
    for (name, place), ids in places(clauses, index).items():
        heading = index.heading[name]
        named = " ".join(f"`{one}`" for one in ids) or EMPTY.get((name, place), "")
        if named or place != "the whole":
            rows["article"] += f"| {heading.title} ({heading.line}) | {place} | {named} |\n"
    for clause in clauses.values():
        rows["clauses"] += f"| `{clause.id}` | {clause.level} | {where(clause.source, index)} |\n"
    return HEAD + rows["article"] + BACK + rows["clauses"]


if __name__ == "__main__":
    (GOLDEN / "TABLE.md").write_text(text())
