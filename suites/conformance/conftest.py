"""Three fixtures: `seen` is the evidence of a clause's scene, `expect` judges, `source` gives.

Rule: one test, one clause, one `expect`, on the last line. A test that sees nothing
raises NoEvidence, anything else that it raises is our own fault and `broken`. What a
test comes to is decided by `startkit.report.offline`, the same for saved evidence.
"""

from __future__ import annotations

import os

import msgspec
import pytest

from startkit.judge.text import failure_text
from startkit.judge.verdict import counts_against
from startkit.report import offline
from startkit.targets.watch import Live

UNKNOWN = "unknown"
TEST_S = 300  # an engine that hangs in each of its parts takes less, and pytest's own end is rough


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
        item.add_marker(pytest.mark.timeout(TEST_S))
        if name := clause_id(item):
            item.user_properties.append(("clause", name))


@pytest.fixture(scope="session")
def source(request):
    """Keep the target running as long as somebody asks for a scene of it."""
    session = request.config.startkit
    tag = getattr(request.config, "workerinput", {}).get("workerid", "main")
    tag = f"{tag}-{os.getpid()}"  # two runs may judge one engine at once
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
def expect():
    """Hold the place of the one call that judges, which `pytest_pyfunc_call` brings."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Call a clause's test as it is called offline, and tell pytest what came of it."""
    if "expect" not in pyfuncitem.fixturenames:
        return None
    run = pyfuncitem.config.startkit.run
    clause = run.clauses.get(clause_id(pyfuncitem))
    if clause is None:
        pytest.fail(f"no clause {clause_id(pyfuncitem)!r} in golden/clauses", pytrace=False)
    verdict = offline.verdict(clause, pyfuncitem.obj, pyfuncitem.funcargs["seen"], run.dialect)
    pyfuncitem.user_properties.append(("verdict", msgspec.to_builtins(verdict)))
    settle(run, clause, verdict)
    return True


def settle(run, clause, verdict):
    """Fail, skip or pass by the verdict's status."""
    if verdict.status in {"not-applicable", "no-evidence"}:
        pytest.skip(f"{verdict.status}: {verdict.reason}")
    if verdict.status == "expected-difference":
        pytest.xfail(f"{verdict.clause}: {verdict.reason}")
    if verdict.status == "conforms":
        return
    text = failure_text(verdict, clause, run.dialect, str(run.results / "evidence.json"))
    if verdict.status == "differs" and not counts_against(verdict, clause, strict=run.strict):
        pytest.xfail(text)
    pytest.fail(text, pytrace=False)
