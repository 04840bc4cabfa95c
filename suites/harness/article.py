"""The article itself, where there is a copy: listings and headings cut out of it.

`python suites/harness/article.py ARTICLE` writes golden/article/*.txt anew, after
index.toml. The article is not ours to give away, so a clone has its listings only;
STARTKIT_ARTICLE names a copy.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "golden" / "article" / "index.toml"
PLACE = Path(os.environ.get("STARTKIT_ARTICLE", ROOT.parent / "shared/reference/article.txt"))
FENCE = "```"


def cut(article, ranges):
    """Return the lines `N` or `N-M` (from 1, both ends in) of the article, as printed."""
    lines = article.splitlines(keepends=True)
    found = []
    for span in ranges:
        first, _, last = span.partition("-")
        found += lines[int(first) - 1 : int(last or first)]
    return "".join(found)


def paragraphs(article):
    """Return heading -> its texts, list items and quotes; what stands in fences is no text."""
    found, here, inside, open_text = {}, None, False, False
    for line in article.splitlines():
        if line.startswith(FENCE):
            inside, open_text = not inside, False
        elif inside:
            continue
        elif line.startswith("#"):
            here, open_text = found.setdefault(line.lstrip("#").strip(), []), False
        elif not line.strip():
            open_text = False
        elif here is not None and (line.startswith(("* ", ">")) or not open_text):
            here.append(line)
            open_text = not line.startswith("* ")
        elif here is not None:
            here[-1] += f"\n{line}"
    return found


def write(article):
    """Write every listing of the index anew."""
    for row in tomllib.loads(INDEX.read_text())["listing"]:
        (INDEX.parent / row["file"]).write_text(cut(article, row["lines"]))


if __name__ == "__main__":
    write(Path(sys.argv[1]).read_text())
