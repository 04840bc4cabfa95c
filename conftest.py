"""Options of a run, the check of golden/ before it, and the results after it.

Rule: no fixtures here, and no judging. What is wrong with the command line or with
golden/ is said in one line by the controller, before anything starts, with exit 2.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import pytest
from hypothesis import settings
from scheduler import CONFORMANCE, ByScene

from startkit.judge.clause import load_clauses
from startkit.judge.dialect import Dialect, check, choose, load_dialects
from startkit.judge.golden import GoldenError
from startkit.judge.verdict import Verdict
from startkit.observe.evidence import Seen
from startkit.observe.life import load_recipes
from startkit.report import offline, result, text
from startkit.report.run import Run
from startkit.targets.guest import Guest
from startkit.targets.target import TargetError, find_target, is_runtime
from startkit.targets.trials import Trials
from startkit.targets.watch import Live, Saved, Source
from startkit.vm import CGROUPS, VmError, image, returned, workers
from startkit.vm.machine import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent
GOLDEN = ROOT / "golden"
USAGE = 2

# no deadline: what a mount or a process takes is the machine's affair
settings.register_profile("dev", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a run can be asked for."""
    group = parser.getgroup("startkit", "judging an engine")
    group.addoption(
        "--target",
        default="startkit",
        metavar="WHAT",
        help="unix:///PATH of a running engine, a recipe (startkit, docker, podman) or its file; "
        "with @RELEASE, or a runtime with @RELEASE, in a virtual machine",
    )
    group.addoption(
        "--runtime",
        metavar="PATH",
        help="judge an OCI runtime alone: a program with runc's command line",
    )
    # --strict is pytest's own; here it also makes SHOULD clauses count
    group.addoption(
        "--evidence",
        type=Path,
        metavar="PATH",
        help="judge an evidence.json, or a directory with one",
    )
    group.addoption(
        "--vm",
        choices=workers.WISHES,
        default="auto",
        help="workers in virtual machines: where KVM works or you are not root (auto)",
    )
    group.addoption("--cgroup", choices=CGROUPS, default="v2", help="a machine's (v2)")
    group.addoption("--kernel", type=Path, metavar="PATH", help="a machine's (startkit vm fetch's)")
    group.addoption("--memory", type=int, metavar="MIB", help="a machine's (1024; 2048 for @...)")
    group.addoption("--cpus", type=int, default=1, metavar="N", help="a machine's (1)")
    group.addoption(
        "--results", type=Path, metavar="DIR", help="where results go (.startkit/TARGET)"
    )


def is_worker(config: pytest.Config) -> bool:
    """Say whether this is a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read golden/ and the command line; make the run."""
    try:
        config.startkit = Session(config)
    except (GoldenError, TargetError, ValueError) as error:
        usage(str(error))
    if config.option.results:
        config.option.xmlpath = config.option.xmlpath or str(config.option.results / "junit.xml")
        if config.pluginmanager.hasplugin("ctrf"):
            config.option.ctrf = config.option.ctrf or str(config.option.results / "ctrf.json")
    if is_worker(config):
        # The controller's place for temporary files need not exist in a machine of its own.
        Path(config.option.basetemp).parent.mkdir(parents=True, exist_ok=True)
        if config.workerinput["machine"]:
            config.startkit.files = returned.states(ROOT)
    else:
        # what was begun is ended by whoever began it, as with Ctrl-C
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        claim(config)
        machines = take_machines(config)
        config.pluginmanager.register(Controller(config.startkit, machines))
        config.pluginmanager.register(Bar(config.startkit.run))
        if os.environ.get("STARTKIT_NO_SKIPS"):
            config.pluginmanager.register(NoSkips())


def only_judges(config: pytest.Config) -> bool:
    """Say whether all that was named is of the conformance suite."""
    return all("conformance" in str(word) for word in config.args)


def claim(config: pytest.Config) -> None:
    """Be the only run that writes its results there, for as long as this process lives."""
    if not config.option.collectonly and only_judges(config):
        results = config.startkit.run.results
        with contextlib.suppress(OSError):  # where nothing can be written is said at the end
            results.mkdir(parents=True, exist_ok=True)
            place = os.open(results, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                usage(f"{results}: another run writes its results there: give --results DIR")


def take_machines(config: pytest.Config) -> bool:
    """Put the workers into virtual machines where that is asked for; say so."""
    options, release = config.option, config.startkit.release
    judging = not options.evidence and only_judges(config)
    count = max(len(options.tx or []), 1)
    wish = options.vm if judging or options.vm == "always" else "never"
    try:
        taken, why = workers.choose("always" if release else wish, options.kernel)
        machines = Settings(
            cgroup=options.cgroup,
            # images and containers of a large engine
            memory_mib=options.memory or (2048 if release else 1024),
            cpus=options.cpus,
            kernel=options.kernel,
            root=image.find(release) if release else None,
        )
        if taken:
            workers.check_room(count, machines, config.startkit.run.results)
    except VmError as error:
        usage(str(error))
    if taken:
        options.tx = [workers.gateway(machines)] * count
        options.dist = "load" if options.dist == "no" else options.dist
    config.startkit.run.note(why or None)
    return taken


def usage(text: str) -> NoReturn:
    """End before anything was started."""
    pytest.exit(" ".join(text.split()), returncode=USAGE)


class Session:
    """What the options come to; the suite finds it as `config.startkit`."""

    def __init__(self, config: pytest.Config) -> None:
        options = config.option
        self.golden = GOLDEN
        self.recipes = load_recipes(GOLDEN / "scenes.toml")
        self.saved = Saved(options.evidence) if options.evidence else None
        word, _, self.release = (options.runtime or options.target).partition("@")
        alone = options.runtime or (self.release and is_runtime(word))
        self.target = None if alone else find_target(word)
        self.runtime = self.target.runtime if self.target else word
        clauses = load_clauses(GOLDEN)
        name = self.name()
        self.run = Run(
            target=name,
            strict=bool(options.strict),
            results=options.results or ROOT / ".startkit" / name,
            clauses=offline.judged(clauses, self.saved.seen)
            if self.saved
            else {key: one for key, one in clauses.items() if self.judges(one.area)},
        )
        self.files: dict[str, int] = {}  # in a machine: what was there at the start
        self.others = clauses.keys() - self.run.clauses.keys()
        for name, dialect in load_dialects(GOLDEN).items():
            check(dialect, clauses, GOLDEN / "dialects" / f"{name}.toml")

    def name(self) -> str:
        """Return the name of what is judged."""
        if self.saved:
            return self.saved.seen.target
        name = self.target.name if self.target else Path(self.runtime).name
        return f"{name}@{self.release}" if self.release else name

    def judges(self, area: str) -> bool:
        """Say whether an area of a live run is judged: a runtime's, an engine's or both."""
        return bool(self.runtime if area == "runtime" else self.target)

    def dialect(self, seen: Seen | None) -> Dialect | None:
        """Return the dialect of what was seen, by what it says of itself."""
        found = choose(self.golden, seen.engine, seen.version) if seen else None
        return found.on(seen) if found and seen else None

    def source(self, tag: str) -> Source | Live:
        """Return where evidence comes from; a Live one is still to be entered."""
        trials = Trials(self.runtime, GOLDEN) if self.runtime else None
        return self.saved or Live(self.target, self.recipes, tag, trials)


class Controller:
    """Gathers verdicts and evidence from all workers; writes and prints them."""

    def __init__(self, session: Session, machines: bool) -> None:
        self.session = session
        self.machines = machines
        self.run = session.run
        self.judging = False
        self.status: Callable[[], int] = self.run.code
        self.guest = Guest(session.target)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the verdict that came with a test; a test that died without one is broken."""
        if not report.nodeid.startswith(CONFORMANCE):
            return
        self.judging = True
        properties = dict(report.user_properties)
        found = properties.get("verdict")
        if found:
            self.run.keep(msgspec.convert(found, Verdict))
        elif report.failed:
            self.run.keep(broken_verdict(report, properties.get("clause")))

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any, sched: Any) -> None:
        """Say which test lost its worker; it is judged when it runs again, or broken."""
        if not crashitem.startswith(CONFORMANCE):
            return
        if sched.lost[crashitem] == 1:
            self.run.note(f"a worker was lost in {crashitem} and replaced")
            report.outcome = "rerun"
        else:
            clauses = {test.__name__: name for name, _, test in offline.marks(ROOT / CONFORMANCE)}
            name = crashitem.partition("::")[2].partition("[")[0]
            report.user_properties.append(("clause", clauses.get(name)))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker whether it has a machine of its own."""
        node.workerinput["machine"] = self.machines

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take a worker's evidence and files; a worker that crashed took its own along."""
        files = getattr(node, "workeroutput", {}).get("files", {})
        returned.unpack(
            ROOT, files, snapshots=bool(node.config.getoption("update_snapshots", False))
        )
        for part in getattr(node, "workeroutput", {}).get("startkit", []):
            self.run.parts.append(msgspec.json.decode(part, type=Seen))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the results; turn the verdicts into the exit status."""
        self.guest.leave()
        self.status = lambda: int(session.exitstatus)  # others may still change it
        if self.judging:
            self.run.dialect = self.session.dialect(result.merge(self.run.parts))
            try:
                self.run.write()
            except OSError as error:
                self.run.note(f"no results written: {error}")
            failed = session.exitstatus if session.exitstatus in {0, 1} else 0
            code = self.run.code()
            if session.exitstatus in {0, 1}:
                session.exitstatus = code or failed

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the scoreboard."""
        if self.judging:
            terminalreporter.section("verdicts")
            markup = terminalreporter._tw.hasmarkup
            terminalreporter.write_line(self.run.summary(self.status(), color=markup))


class Bar:
    """A bar in place of pytest's dots, where a person looks on."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.reporter: Any = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """See whether there is a terminal, and nobody wants to see names."""
        reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter and reporter.isatty and session.config.get_verbosity() <= 0:
            self.reporter = reporter

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> Any:
        """Leave out the letter of a clause's test."""
        found = yield
        judged = self.reporter and report.nodeid.startswith(CONFORMANCE)
        return (found[0], "", "") if judged else found

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Draw the bar anew."""
        if self.reporter and report.when == "teardown" and report.nodeid.startswith(CONFORMANCE):
            self.reporter.showfspath = False
            color = self.reporter._tw.hasmarkup
            line = text.progress(self.run.verdicts, len(self.run.clauses), color=color)
            self.reporter.write(f"\r{line}\x1b[K", flush=True)


class NoSkips:
    """Makes a skip fail the run: the gate's machine has all that the tests can use.

    Only a clause that does not apply to the target, said by the judge, is no skip, nor is
    a comparison with the article itself, of which a clone has no copy.
    """

    ALLOWED = ("not-applicable", "no copy of the")

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a skip and its reason."""
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = str(report.longrepr[-1] if report.longrepr else "").removeprefix("Skipped: ")
            if not reason.startswith(self.ALLOWED):
                self.skipped.append(f"{report.nodeid}: {reason}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a whole file that was skipped."""
        if report.skipped:
            self.skipped.append(f"{report.nodeid}: {report.longrepr}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn skips into a failure."""
        if self.skipped and session.exitstatus == 0:
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which."""
        if self.skipped:
            terminalreporter.section("skipped, and STARTKIT_NO_SKIPS is set")
            for line in self.skipped:
                terminalreporter.write_line(line)


def broken_verdict(report: pytest.TestReport, clause: str | None) -> Verdict:
    """Return the verdict of a test that died before it had one, such as on a crashed worker."""
    return Verdict(
        clause=clause or report.nodeid.rpartition("::")[2],
        status="broken",
        expected=None,
        observed=None,
        reason=str(report.longrepr).strip().rpartition("\n")[2],
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test whose cases hypothesis draws."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("generated")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send a worker's evidence to the controller, and from a machine what is to be kept."""
    if is_worker(session.config):
        parts = session.config.startkit.run.parts
        session.config.workeroutput["startkit"] = [msgspec.json.encode(part) for part in parts]
        if session.config.workerinput["machine"]:
            before = session.config.startkit.files
            session.config.workeroutput["files"] = returned.pack(ROOT, before)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByScene:
    """Keep a scene on one worker: it is started once."""
    return ByScene(config, log)
