"""matrix.html, and report.html beside it, in a browser: Chromium, driven by Playwright.

Playwright tells of requests, console and colour schemes, and brings no driver that has to fit
the browser; axe-core judges contrast, names and roles. Both take Debian's Chromium as it is.
"""

from __future__ import annotations

import re
import shutil

import offline
import pytest
import savedruns

from startkit.judge.dialect import load_dialects
from startkit.matrix import table
from startkit.matrix.page import page
from startkit.report import html, result

browsing = pytest.importorskip("playwright.sync_api")  # the extra `browser` brings both
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
expect = browsing.expect

CHROMIUM = shutil.which("chromium")
EVIL = (
    "</pre></div><script>document.title='evil'</script><img src=//evil.example/x onerror=alert(2)>"
)
DEFECT = "lifecycle.missing.exit-code"
PATIENCE_MS = 20_000
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
PODMAN = [
    (DEFECT, "expected-difference", 0, "r"),
    ("containerd.parent", "not-applicable", None, savedruns.LACKING),
    ("bundle.place", "expected-difference", [f"word-{number}" for number in range(40)], "r"),
]
EACH = [
    (name, status, EVIL, EVIL)
    for name, status in zip(
        ["bundle.mode", "io.fifos.modes", "cgroup.member", "files.hosts.default"],
        ["differs", "stale", "broken", "no-evidence"],
        strict=True,
    )
]
FEW = [*savedruns.FEW, *(clause for clause, *_ in PODMAN + EACH)]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="not here: chromium")


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    """Return a table of each kind of outcome, with texts of engines that lie."""
    place = tmp_path_factory.mktemp("runs")
    few = {"of": FEW}
    podman = {"red": PODMAN, "dialect": "podman-4.3", "engine": "podman", **few}
    return table.build(
        [
            savedruns.write(place / "docker", red=EACH, version=EVIL, notes=[EVIL], code=3, **few),
            *(savedruns.write(place / f"podman@{name}", **podman) for name in ("trixie", "sid")),
            savedruns.nothing(place / "docker@sid", f"no root {EVIL}"),
            savedruns.write(place / "runc", **few),
        ],
        offline.GOLDEN,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory, matrix):
    """Return the two pages as files, by name."""
    place = tmp_path_factory.mktemp("pages")
    (place / "matrix").with_suffix(".html").write_text(page(matrix))
    red = {"red": PODMAN + EACH, "of": FEW}
    run = savedruns.write(place / "podman", dialect="podman-4.3", **red)
    text = html.page(result.read(run), offline.CLAUSES, load_dialects(offline.GOLDEN)["podman-4.3"])
    (place / "report").with_suffix(".html").write_text(text)
    return {name: (place / name).with_suffix(".html") for name in ("matrix", "report")}


@pytest.fixture(scope="module")
def browser():
    """Keep a browser running."""
    with browsing.sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE_MS)
        found = playwright.chromium.launch(executable_path=CHROMIUM)
        yield found
        found.close()


@pytest.fixture
def visit(browser, files):
    """Return a function that opens a page; at the end nothing was asked for nor complained of."""
    said, pages = [], []

    def open_page(name="matrix", size=DESK, **options):
        made = browser.new_page(viewport=size, **options)
        made.on("request", lambda request: said.append(request.url))
        made.on("console", lambda message: said.append(message.text))
        made.on("pageerror", lambda error: said.append(str(error)))
        made.on("dialog", lambda dialog: said.append(dialog.message))
        made.set_default_timeout(PATIENCE_MS)
        made.goto(files[name].as_uri())
        pages.append(made)
        return made

    yield open_page
    asked = [files[name].as_uri() for name in files]
    for one in pages:
        one.close()
    assert [line for line in said if line not in asked] == []


def cell(page, clause, target):
    return page.get_by_role("button", name=f"{clause}, {target}:")


def opened(page):
    return page.locator(".card:popover-open")


def test_a_cell_opens_its_evidence_and_the_dialects_reason(visit):
    page = visit()

    cell(page, DEFECT, "podman@sid").click()

    for word in ("known defect", "podman@trixie, podman@sid", "observed", "look", "source",
                 "a container whose start failed", "✓ conforms: docker"):  # fmt: skip
        expect(opened(page)).to_contain_text(word)
    link = opened(page).get_by_role("link")
    assert link.get_attribute("href").startswith("https://github.com/containers/podman/issues/")
    opened(page).get_by_role("button", name="close").click()
    expect(opened(page)).to_have_count(0)


def test_every_cell_has_something_to_open_and_what_is_shared_stands_once(files, matrix):
    text = files["matrix"].read_text()
    asked = re.findall(r"<td><button class=[a-z-]+ popovertarget=(o\d+)", text)
    there = re.findall(r"<div popover id=(o\d+)", text)
    shared = [one.targets for row in matrix.rows for one in row.outcomes]

    assert len(asked) == sum(map(len, shared))
    assert (sorted(set(asked)), len(there)) == (sorted(there), len(shared))


def test_the_keyboard_alone_goes_to_a_cell_opens_and_closes_it(visit):
    page = visit()
    focused = page.locator(":focus")

    page.get_by_role("checkbox").focus()
    page.keyboard.press("Tab")  # one stop for the whole table
    expect(focused).to_have_attribute("aria-label", re.compile("^lifecycle.create.state, docker:"))
    for key in ("ArrowDown", "PageDown", "PageUp", "End", "Home", "ArrowRight"):
        page.keyboard.press(key)
    expect(focused).to_have_attribute(
        "aria-label", re.compile("^lifecycle.exit.signal, podman@tri")
    )
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"

    page.keyboard.press("Enter")
    expect(opened(page)).to_have_count(1)
    expect(focused).to_have_text("close")
    page.keyboard.press("Escape")
    expect(opened(page)).to_have_count(0)
    expect(focused).to_have_attribute(
        "aria-label", re.compile("^lifecycle.exit.signal, podman@tri")
    )
    page.keyboard.press("Tab")
    expect(focused).to_have_attribute("aria-label", re.compile("^runtime.*, runc:"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("name", "size"),
    [("matrix", DESK), ("matrix", PHONE), ("report", PHONE)],
    ids=["matrix-desk", "matrix-phone", "report-phone"],
)
def test_everybody_can_read_it_by_day_and_by_night(visit, name, size, scheme):
    page = visit(name, size, color_scheme=scheme)
    if name == "matrix":
        cell(page, "bundle.place", "podman@sid").click()

    found = axe.Axe().run(page).response

    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]


@pytest.mark.parametrize("name", ["matrix", "report"])
def test_on_a_phone_the_page_does_not_scroll_sideways(visit, name):
    page = visit(name, PHONE)

    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    if name == "matrix":
        box = page.locator(".box.clauses").first
        box.evaluate("one => { one.scrollLeft = 1000 }")
        first = box.locator("th[scope=row]").first.bounding_box()
        assert 0 <= first["x"] < 20  # the clause stays in sight
        cell(page, "bundle.place", "podman@sid").click()
        assert opened(page).bounding_box()["width"] == PHONE["width"]


def test_what_an_engine_says_stays_text(visit):
    page = visit()

    cell(page, "bundle.mode", "docker").click()

    expect(opened(page)).to_contain_text("<script>document.title='evil'</script>")
    assert page.title() == "The golden spec and 5 targets"
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1


def test_a_script_that_is_not_the_pages_own_is_not_run(browser, files):
    page = browser.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(files["matrix"].as_uri())

    page.evaluate(
        "document.body.append(document.createRange().createContextualFragment("
        "'<script>document.title = 1</script>'))"
    )

    assert page.title() == "The golden spec and 5 targets"
    assert "Content Security Policy" in complaints[0]
    page.close()


FILTERS = {  # label -> (what is put in, the rows that stay)
    "search": (
        "PLACE directory",
        lambda row: row.clause in ("bundle.place", "containerd.state.place"),
    ),
    "area": ("io", lambda row: row.area == "io"),
    "level": ("ARTICLE", lambda row: row.level == "ARTICLE"),
    "target": ("runc", lambda row: row.area == "runtime"),
    "only what differs": (
        True,
        lambda row: any(one.status not in ("conforms", "not-applicable") for one in row.outcomes),
    ),
}


@pytest.mark.parametrize("field", FILTERS)
def test_a_filter_leaves_the_rows_that_are_asked_for(visit, matrix, field):
    value, wanted = FILTERS[field]
    number = sum(map(wanted, matrix.rows))
    page = visit()
    control = page.get_by_label(field, exact=True)

    if field == "search":
        control.fill(value)
    elif value is True:
        control.check()
    else:
        control.select_option(value)

    expect(page.locator("tr[data-level]:visible")).to_have_count(number)
    expect(page.locator("output")).to_have_text(f"{number} of {len(matrix.rows)} clauses")
    assert 0 < number < len(matrix.rows)


def test_without_any_script_a_cell_opens(visit):
    page = visit(java_script_enabled=False)

    expect(page.get_by_role("search")).to_be_hidden()
    cell(page, DEFECT, "podman@sid").click()
    expect(opened(page)).to_contain_text("known defect")


def test_what_is_not_as_expected_is_told_in_its_row(visit):
    page = visit()

    expect(page.locator(".sum")).to_contain_text("exit 3: 2 of 5 targets not as expected")
    row = page.locator(".targets tr", has_text="docker").first
    expect(row).to_contain_text("1 differs, 1 stale, 1 broken, 1 without evidence")


def test_a_target_that_was_not_judged_is_told_in_its_row(visit):
    page = visit()

    row = page.get_by_role("row", name=re.compile("^docker@sid not judged: no root"))
    expect(row).to_have_count(1)
    expect(page.locator("th[data-target='docker@sid']")).to_have_text(re.compile("not judged"))


def test_a_page_of_all_is_small(tmp_path):
    places = []
    for number in range(7):
        for name in ("engine", "runtime"):
            red = [
                (clause, "expected-difference", f"{number % 3}" * 200, "r" * 100)
                for clause in savedruns.CONFORMING
                if clause.startswith("runtime") == (name == "runtime")
            ]
            places.append(savedruns.write(tmp_path / f"{name}{number}", red=red))

    text = page(table.build(places, offline.GOLDEN))

    assert len(text.encode()) < 2e6
