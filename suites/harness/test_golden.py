"""golden/ as data: listings, places, words, and what happens when one is changed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tomllib

import article
import offline
import pytest

from startkit.judge import clause as clauses
from startkit.judge import dialect as dialects
from startkit.judge.golden import GoldenError
from startkit.judge.judge import UNSET
from startkit.judge.listing import load_article
from startkit.judge.needs import CAPABILITIES, NEEDS
from startkit.observe.life import load_recipes
from startkit.observe.trials.attempt import load_bundles

GOLDEN = offline.GOLDEN
SCENES = GOLDEN / "scenes.toml"
ARTICLE = load_article(GOLDEN)
INDEX = ARTICLE.index
CLAUSES = offline.CLAUSES
READ = [one for one in CLAUSES.values() if one.value is UNSET and one.computed is None]
CITED = sorted({one.source.listing for one in CLAUSES.values() if one.source.listing})
ALL = pytest.mark.parametrize("clause", CLAUSES.values(), ids=lambda clause: clause.id)
needs_article = pytest.mark.skipif(
    not article.PLACE.exists(), reason="no copy of the article: STARTKIT_ARTICLE names one"
)
# what is wrong -> (file, old text, new text), and what the error says of it
BROKEN = {
    "format": ("clauses/io.toml", "format = 1", "format = 2", "format: 2 is not 1"),
    "toml": ("clauses/io.toml", "format = 1", "format 1", "file: Expected"),
    "unknown-key": ("clauses/io.toml", "hint  ", "hunt  ", "hunt"),
    "level": ("clauses/io.toml", '"SHOULD"', '"MAY"', "level"),
    "area": ("clauses/io.toml", '"io.bundle.names"', '"ui.bundle.names"', "not of the area io"),
    "twice": ("clauses/io.toml", '"io.fifos.modes"', '"io.bundle.names"', "used twice"),
    "listing": ("clauses/io.toml", "10-tree-bundle", "10-nowhere", "no listing 10-nowhere.txt"),
    "line": ("clauses/io.toml", "line = 1,", "line = 99,", "no such place"),
    "reading": ("clauses/io.toml", 'as = "names"', 'as = "runes"', "no reading `runes`"),
    "column": ("clauses/io.toml", 'column = "FD"', 'column = "FX"', "no such place"),
    "heading": ("clauses/io.toml", 'heading = "io"', 'heading = "ui"', "no heading ui"),
    "era": ("clauses/io.toml", 'era = "5"', 'era = "15"', "no section 15 of era"),
    "pointer": ("clauses/bundle.toml", '"/mounts/3/', '"/mounts/9/', "no such place"),
    "title": ("clauses/io.toml", '"Two FIFOs', f'"{"Two " * 20}FIFOs', "length <= 70"),
    "no-value": ("clauses/bundle.toml", 'value     = "0700"', "", "nothing says what is expected"),
    "paragraph": ("clauses/files.toml", "paragraph = 4", "paragraph = 40", "no paragraph 40"),
    "index": ("article/index.toml", 'heading = "start"', 'heading = "stop"', "no heading stop"),
}


def changed(tmp_path, name, old, new):
    """Copy golden/ and change one text in it, once."""
    copy = tmp_path / "golden"
    shutil.copytree(GOLDEN, copy)
    path = copy / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return copy


@needs_article
@pytest.mark.parametrize("row", INDEX.listing, ids=lambda row: row.file)
def test_a_listing_is_printed_so_in_the_article(row):
    text = article.PLACE.read_text()

    assert ARTICLE.texts[row.file] == article.cut(text, row.lines)
    assert "#" not in {line[:1] for line in ARTICLE.texts[row.file].splitlines()}
    for number in row.typed:
        assert article.cut(text, [str(number)]).startswith("root@dev:")


@needs_article
def test_the_index_is_of_this_article():
    text = article.PLACE.read_text()
    found = {title: len(texts) for title, texts in article.paragraphs(text).items()}
    lines = text.splitlines()

    assert hashlib.sha256(text.encode()).hexdigest() == INDEX.sha256
    assert len(lines) == INDEX.lines
    for one in INDEX.heading.values():
        assert lines[one.line - 1].lstrip("# ") == one.title
        assert found[one.title] == one.paragraphs


@needs_article
def test_every_line_of_a_listing_is_kept_or_accounted_for():
    kept = [number for row in INDEX.listing for number in spans(row.lines) + row.typed]
    inside, open_fence = [], False
    for number, line in enumerate(article.PLACE.read_text().splitlines(), 1):
        if line.startswith(article.FENCE):
            open_fence = not open_fence
        elif open_fence and line.strip() and not line.startswith("#"):
            inside.append(number)

    assert set(inside) <= set(kept)
    assert len(kept) == len(set(kept))


def spans(ranges):
    """Return the line numbers of `N` and `N-M`."""
    ends = [(span.partition("-")[0], span.rpartition("-")[2]) for span in ranges]
    return [number for first, last in ends for number in range(int(first), int(last) + 1)]


def test_the_listings_are_the_files_that_lie_there():
    files = {path.name for path in (GOLDEN / "article").iterdir()} - {"index.toml"}

    assert {row.file for row in INDEX.listing} == files


def test_the_era_sections_are_those_of_the_notes():
    notes = article.PLACE.parent / "era.md"
    if not notes.exists():
        pytest.skip("no copy of the notes")
    found = dict(re.findall(r"^## (\d+) ([^(\n]+)", notes.read_text(), re.MULTILINE))

    assert {number: title.strip() for number, title in found.items()} == INDEX.era


def test_config_json_is_json():
    assert json.loads(ARTICLE.texts["09-config.json"])["process"]["args"] == ["/bin/bash"]


@ALL
def test_a_title_states_a_fact(clause):
    assert not re.search(r"\b(should|must|shall|will|test|tests)\b", clause.title.lower())
    assert not clause.title.endswith(".")


def test_titles_and_mutants_are_unlike():
    titles = [clause.title for clause in CLAUSES.values()]
    mutants = [clause.killed_by for clause in CLAUSES.values()]

    assert len(set(titles)) == len(titles)
    assert len(set(mutants)) == len(mutants)


@ALL
def test_a_clause_names_a_scene_and_needs_that_are_there(clause):
    made = load_bundles(GOLDEN) if clause.area == "runtime" else load_recipes(SCENES)
    assert clause.scene in made
    assert set(clause.needs) <= {*NEEDS, *CAPABILITIES}


def test_every_scene_serves_a_clause():
    used = {clause.scene for clause in CLAUSES.values()}

    assert sorted([*load_recipes(SCENES), *load_bundles(GOLDEN)]) == sorted(used)


@ALL
def test_a_look_uses_known_variables_only(clause):
    known = set(re.findall(r"`\$([A-Z]+)`", (GOLDEN / "README.md").read_text()))
    found = set(re.findall(r"\$([A-Z]+)\b", clause.look))

    assert found <= known


@ALL
def test_a_value_is_typed_only_where_no_listing_holds_it(clause):
    assert clause.value is UNSET or not clause.source.selects()


def test_every_listing_but_the_counts_is_cited():
    names = {row.file for row in INDEX.listing}

    # 692/4804 against 693/4820 and what `file` of a tree says wait for a union model
    assert names - set(CITED) == {"04-tree-rootfs.txt", "07-tree-merged.txt"}


def altered(text, source):
    """Return a listing in which the value that a clause takes out of it is another."""
    if source.at is not None:
        document = json.loads(text)
        put(document, [*source.at.split("/")[1:]])
        return json.dumps(document)
    rows = text.splitlines()
    number = source.line or (source.lines or (1, 1))[0]
    if source.where:
        words = source.where.values()
        number = next(n for n, row in enumerate(rows, 1) if set(words) <= set(row.split()))
    rows[number - 1] = another(rows[number - 1], source, rows[0].split())
    return "\n".join(rows) + "\n"


def put(document, way):
    """Change the first text, number or truth at or below a place of a JSON document."""
    key = int(way[0]) if isinstance(document, list) else way[0]
    value = document[key]
    if len(way) > 1:
        put(value, way[1:])
    elif isinstance(value, (dict, list)):
        put(value, [next(iter(value)) if isinstance(value, dict) else 0])
    else:
        document[key] = not value if isinstance(value, bool) else f"{value}x"


def another(row, source, header):
    """Return a line in which the selected words are others."""
    if source.read_as == "names":
        return f"{row}x"
    if source.read_as == "branches":
        return row.replace("=rw", "=ro", 1)
    words = row.split()
    column = source.column or 0
    place = header.index(column) if isinstance(column, str) else column - 1
    readings = {"accesses": "99r" if words[place][-1] != "r" else "99w", "sizes": "7"}
    readings |= {"modes": "-rwxrwxrwx"}
    words[place] = readings.get(source.read_as, f"{words[place]}x")
    return " ".join(words)


@pytest.mark.parametrize("clause", READ, ids=lambda clause: clause.id)
def test_a_clause_follows_its_listing(tmp_path, clause):
    text = ARTICLE.texts[clause.source.listing]
    name = f"article/{clause.source.listing}"
    copy = changed(tmp_path, name, text, altered(text, clause.source))
    now = clauses.load_clauses(copy)[clause.id]

    assert now.expected != clause.expected
    assert offline.verdict(now, offline.reference()).status == "differs"


@pytest.mark.parametrize(("name", "old", "new", "says"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_clear_line(tmp_path, name, old, new, says):
    copy = changed(tmp_path, name, old, new)

    with pytest.raises(GoldenError) as caught:
        clauses.load_clauses(copy)

    line = str(caught.value)
    assert (says in line, "\n" in line) == (True, False)
    assert line.startswith(f"{copy / name}: ")
    assert len(line.removeprefix(f"{copy / name}: ").split(": ")) >= 3


@pytest.mark.parametrize("name", ["clauses/io.toml", "article/13-ps-shim.txt"])
def test_a_missing_file_is_one_clear_line(tmp_path, name):
    copy = changed(tmp_path, "README.md", "golden", "golden")
    (copy / name).unlink()

    with pytest.raises(GoldenError, match=r"No such file or directory: [a-z ]+$"):
        clauses.load_clauses(copy)


def test_a_file_of_no_area_is_refused(tmp_path):
    copy = changed(tmp_path, "README.md", "golden", "golden")
    shutil.copy(copy / "clauses/io.toml", copy / "clauses/ui.toml")

    with pytest.raises(GoldenError, match="no area of this name"):
        clauses.load_clauses(copy)


@pytest.mark.parametrize("path", sorted((GOLDEN / "dialects").iterdir()), ids=lambda p: p.name)
def test_a_dialect_fits_the_clauses(path):
    dialect = dialects.load_dialect(path)
    dialects.check(dialect, CLAUSES, path)

    entries = tomllib.loads(path.read_text())
    assert all(one["evidence"] for one in entries.get("difference", []))
    order = [one.clause for one in (*dialect.difference, *dialect.defect)]
    assert len(order) == len(set(order))


ENGINES = ("docker-20.10", "docker-26.1", "docker-28.5", "podman-4.3", "podman-5.4")


@pytest.mark.parametrize("name", ENGINES)
def test_the_table_of_engines_counts_the_entries_of_a_dialect(name):
    dialect = dialects.load_dialects(GOLDEN)[name]
    word, _, version = name.capitalize().replace("Podman", "podman").partition("-")
    text = (GOLDEN / "README.md").read_text()
    row = re.search(rf"^\| {word} {version}[\d.]* [^|]*\|.*\| (\d+):", text, re.MULTILINE)

    assert int(row[1]) == len(dialect.difference) + len(dialect.defect)
