"""Three fixtures: `seen` is the evidence of a clause's scene, `expect` judges, `source` gives.

Rule: one test, one clause, one `expect`, on the last line. A test that sees nothing
raises NoEvidence, anything else that it raises is our own fault and `broken`.
"""

from __future__ import annotations

import traceback

import msgspec
import pytest

from startkit.judge.judge import UNSET, judge
from startkit.judge.needs import unmet
from startkit.judge.text import failure_text
from startkit.judge.verdict import Verdict, counts_against
from startkit.observe.view import NoEvidence
from startkit.targets.watch import Live

UNKNOWN = "unknown"


def clause_id(item):
    """Return the id on a test's marker, or None."""
    marker = item.get_closest_marker("clause")
    return marker.args[0] if marker else None


def pytest_generate_tests(metafunc):
    """Write the clause's scene into the test's id: the scheduler reads it there."""
    if "seen" in metafunc.fixturenames:
        clauses = metafunc.config.startkit.run.clauses
        clause = clauses.get(clause_id(metafunc.definition))
        scene = clause.scene if clause else UNKNOWN
        metafunc.parametrize("seen", [scene], indirect=True, ids=[scene])


def pytest_collection_modifyitems(config, items):
    """Leave out the areas that are not judged; tell every report which clause it is about."""
    others = [item for item in items if clause_id(item) in config.startkit.others]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]
    for item in items:
        if name := clause_id(item):
            item.user_properties.append(("clause", name))


@pytest.fixture(scope="session")
def source(request):
    """Keep the target running as long as somebody asks for a scene of it."""
    session = request.config.startkit
    tag = getattr(request.config, "workerinput", {}).get("workerid", "main")
    found = session.source(tag)
    if isinstance(found, Live):
        with found.watching():
            yield prepare(session, found)
    else:
        yield prepare(session, found)
    session.run.parts.append(found.seen)


def prepare(session, source):
    """Choose the dialect by what the target says of itself."""
    session.run.dialect = session.dialect(source.seen)
    session.run.note(source.note)
    return source


@pytest.fixture
def seen(request, source):
    """Return the scene of the clause."""
    return source.scene(request.param)


@pytest.fixture
def expect(request, seen, source):
    """Return the one call that judges."""
    return Expect(request.node, seen, source)


class Expect:
    """Judges what a test saw, and tells pytest."""

    def __init__(self, item, seen, source):
        self.item = item
        self.seen = seen
        self.source = source
        self.run = item.config.startkit.run
        self.clause = self.run.clauses.get(clause_id(item))
        if self.clause is None:
            pytest.fail(f"no clause {clause_id(item)!r} in golden/clauses", pytrace=False)

    def __call__(self, observed, *, want=UNSET):
        names = self.seen.names()
        self.settle(judge(self.clause, observed, self.run.dialect, want=want, names=names))

    def settle(self, verdict):
        """Record a verdict; fail, skip or pass by its status."""
        verdict = msgspec.structs.replace(verdict, scene=self.seen.scene.name)
        self.item.user_properties.append(("verdict", msgspec.to_builtins(verdict)))
        text = f"{verdict.clause}: {verdict.reason}"
        if verdict.status in {"not-applicable", "no-evidence"}:
            pytest.skip(f"{verdict.status}: {verdict.reason}")
        if verdict.status == "expected-difference":
            pytest.xfail(text)
        if verdict.status == "conforms":
            return
        path = str(self.run.results / "evidence.json")
        text = failure_text(verdict, self.clause, self.run.dialect, path)
        if verdict.status == "differs" and not self.counts(verdict):
            pytest.xfail(text)
        pytest.fail(text, pytrace=False)

    def counts(self, verdict):
        """Say whether a verdict fails the run."""
        return counts_against(verdict, self.clause, strict=self.run.strict)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Turn what a test raises instead of judging into a verdict."""
    expect = pyfuncitem.funcargs.get("expect")
    if not isinstance(expect, Expect):
        return (yield)
    if why := unmet(expect.clause, expect.seen.seen, expect.source.lacks):
        expect.settle(verdict_of(expect, "not-applicable", why))
    try:
        return (yield)
    except NoEvidence as error:
        verdict = verdict_of(expect, "no-evidence", str(error))
    except Exception as error:
        reason = traceback.format_exception_only(error)[-1].strip()
        verdict = verdict_of(expect, "broken", f"{reason} ({place_of(error)})")
    return expect.settle(verdict)


def place_of(error):
    """Return file and line of the test that raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/conformance/test_" in frame.filename]
    return f"{own[-1].filename.rpartition('/')[2]}:{own[-1].lineno}" if own else "outside the test"


def verdict_of(expect, status, reason):
    """Return a verdict that nobody judged."""
    return Verdict(
        clause=expect.clause.id,
        status=status,
        expected=None,
        observed=None,
        reason=reason,
        scene=expect.seen.scene.name,
    )
