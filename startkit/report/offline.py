"""Evidence in, verdicts out: the suite's tests as plain functions, without an engine.

Rule: a test of `suites/conformance/` is a function of `(seen, expect)` and is called here in
one way, whether a target is running or the evidence is a file of last week.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from typing import TYPE_CHECKING, Any

from startkit.judge.clause import load_clauses
from startkit.judge.dialect import choose
from startkit.judge.judge import UNSET, judge, verdict_of
from startkit.judge.needs import unmet
from startkit.observe.view import NoEvidence
from startkit.report.run import Run
from startkit.targets.watch import load_evidence, view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from startkit.judge.clause import Clause
    from startkit.judge.dialect import Dialect
    from startkit.judge.verdict import Verdict
    from startkit.observe.evidence import Seen
    from startkit.targets.watch import View

    Test = Callable[..., None]


def run(place: Path, root: Path, *, strict: bool, results: Path | None) -> Run:
    """Judge the evidence in a file with golden/ and suites/ of `root`; write what is asked for.

    Raises GoldenError, ValueError for evidence that cannot be read, ImportError without pytest.
    """
    seen = load_evidence(place)
    clauses = load_clauses(root / "golden")
    tests = {clause: test for clause, _, test in marks(root / "suites" / "conformance") if clause}
    made = Run(
        target=seen.target,
        strict=strict,
        results=results,
        clauses=judged(clauses, seen),
        dialect=choose(root / "golden", seen.engine, seen.version),
        parts=[seen],
    )
    made.verdicts = list(verdicts(made.clauses, tests, seen, made.dialect))
    made.write()
    return made


def marks(suite: Path) -> Iterator[tuple[str | None, str, Test]]:
    """Yield (clause id, area of the file, test); a test that names no clause has None.

    Raises ImportError where a file of the suite, or pytest for its marks, cannot be imported.
    """
    for path in sorted(suite.glob("test_*.py")):
        spec = importlib.util.spec_from_file_location(f"offline_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path}: no Python file")
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        area = path.stem.split("_")[1]
        for name, function in vars(module).items():
            if name.startswith("test_"):
                named = [one for one in getattr(function, "pytestmark", []) if one.name == "clause"]
                yield from ((mark and mark.args[0], area, function) for mark in named or [None])


def judged(clauses: Mapping[str, Clause], seen: Seen) -> dict[str, Clause]:
    """Return the clauses of the areas that evidence is of: a runtime's, an engine's, or both."""
    return {
        name: clause
        for name, clause in clauses.items()
        if (seen.trials if clause.area == "runtime" else seen.scenes)
    }


def verdicts(
    clauses: Mapping[str, Clause], tests: Mapping[str, Test], seen: Seen, dialect: Dialect | None
) -> Iterator[Verdict]:
    """Yield the verdict of each clause, in their order."""
    dialect = dialect and dialect.on(seen)
    for name, clause in clauses.items():
        yield verdict(clause, tests[name], view(seen, clause.scene), dialect)


def verdict(clause: Clause, test: Test, seen: View, dialect: Dialect | None) -> Verdict:
    """Return what becomes of one clause when its test looks at a scene."""
    if why := unmet(clause.needs, seen.seen):
        return verdict_of(clause, "not-applicable", why)
    made: list[Verdict] = []

    def expect(observed: Any, *, want: Any = UNSET) -> None:
        made.append(judge(clause, observed, dialect, want=want, names=seen.names()))

    try:
        test(seen, expect)
    except NoEvidence as error:
        if dialect and (lack := dialect.lacks(clause)):
            return verdict_of(clause, "not-applicable", f"no {lack.what}: {lack.reason}")
        if refused := seen.refusal():
            want = None if clause.expected is UNSET else UNSET
            return judge(clause, f"refused: {refused}", dialect, want=want, names=seen.names())
        return verdict_of(clause, "no-evidence", str(error))
    except Exception as error:
        reason = traceback.format_exception_only(error)[-1].strip()
        return verdict_of(clause, "broken", f"{reason} ({place_of(error)})")
    if len(made) != 1:
        return verdict_of(clause, "broken", f"the test judges {len(made)} times")
    return made[0]


def place_of(error: Exception) -> str:
    """Return file and line of the test that raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/conformance/test_" in frame.filename]
    return f"{own[-1].filename.rpartition('/')[2]}:{own[-1].lineno}" if own else "outside the test"
