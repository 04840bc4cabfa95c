"""Any life of a container, on our engine and on a real dockerd: one model, two targets.

The model is the states of `docker ps` and what each request answers in them. After every
step the engine says what the model says, and after a remove nothing is left.
"""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from served import Served

from startkit.observe import leftovers, look, procfs
from startkit.observe.life import IMAGE
from startkit.targets import process
from startkit.targets.target import find_target

LIVES = {"dev": 5, "ci": 15, "thorough": 100}
STEPS = 25
GONE_ON_S = 5
TRAPPED = 7  # what the program ends with on SIGTERM
PROGRAM = f"trap 'exit {TRAPPED}' TERM; echo ready; while :; do sleep 1000 & wait $!; done"
UP = ("running", "paused")


# what a request is answered in a state in which it has nothing to do
IDLE = {
    ("start", "running"): 304, ("start", "paused"): 409,
    ("stop", "created"): 304, ("stop", "exited"): 304,
    ("kill", "created"): 409, ("kill", "exited"): 409,
    ("pause", "created"): 409, ("pause", "exited"): 409, ("pause", "paused"): 409,
}  # fmt: skip


class Model:
    """One container as it has to be."""

    def __init__(self, container, stop_signal):
        self.id, self.stop_signal = container, stop_signal
        self.state, self.codes, self.starts = "created", {0}, 0

    def end(self, *codes):
        self.state, self.codes = "exited", set(codes)


def one(*states):
    """Draw a container that is in one of these states."""
    return st.runner().flatmap(lambda machine: st.sampled_from(machine.those(*states)))


def there_is(*states):
    """Allow a step where some container is in one of these states."""
    return precondition(lambda machine: machine.those(*states))


class Lives(RuleBasedStateMachine):
    """The steps of a life."""

    served: Served

    def __init__(self):
        super().__init__()
        self.models = []

    def those(self, *states):
        return [model for model in self.models if model.state in states]

    def ask(self, model, what, *expected, **query):
        """Send a request; it is answered with one of the statuses expected."""
        answer = self.served.api.ask("POST", f"/containers/{{id}}/{what}", model.id, **query)
        assert answer.status in expected, f"{what}: {answer.status} {answer.body}"

    def started(self, model):
        """Wait until the program has set its trap: before, a first process ignores SIGTERM."""
        model.state, model.codes = "running", {0}
        model.starts += 1
        said, client = b"", self.served.api.client
        with client.stream("GET", f"/containers/{model.id}/logs", follow=True, stdout=True) as log:
            while said.count(b"ready") < model.starts:
                said += next(log.pieces)

    @precondition(lambda self: len(self.models) < 3)
    @rule(stop_signal=st.sampled_from(["", "SIGTERM"]), start=st.sampled_from([True, True, False]))
    def create(self, stop_signal, start):
        body = {"Image": IMAGE, "Cmd": ["sh", "-c", PROGRAM], "StopSignal": stop_signal,
                "HostConfig": {"NetworkMode": "none"}}  # fmt: skip
        answer = self.served.api.ask("POST", "/containers/create", body=body)
        assert answer.status == 201
        self.models.append(Model(answer.body["Id"], stop_signal))
        if start:
            self.start(self.models[-1])

    @there_is("created", "exited")
    @rule(model=one("created", "exited"))
    def start(self, model):
        self.ask(model, "start", 204)
        self.started(model)

    @there_is(*UP)
    @rule(model=one(*UP))
    def stop(self, model):
        self.ask(model, "stop", 204, t=5)
        model.end(TRAPPED)

    @there_is("exited", *UP)
    @rule(model=one("exited", *UP))
    def restart(self, model):
        self.ask(model, "restart", 204, t=5)
        self.started(model)

    @there_is(*UP)
    @rule(model=one(*UP), word=st.sampled_from(["KILL", "TERM", "USR1"]))
    def kill(self, model, word):
        self.ask(model, "kill", 204, signal=word)
        if model.state == "paused" and model.stop_signal and word == "USR1":
            return
        model.state = "running"
        if word == "USR1":
            self.gone_on(model)
        else:
            self.ask(model, "wait", 200)
            model.end(137 if word == "KILL" else TRAPPED)

    def gone_on(self, model):
        """Wait until a paused container is known to go on: dockerd hears of it from containerd."""
        end = time.monotonic() + GONE_ON_S
        while self.served.api.inspect(model.id)["State"]["Paused"] and time.monotonic() < end:
            time.sleep(0.01)

    @there_is("running")
    @rule(model=one("running"))
    def pause(self, model):
        self.ask(model, "pause", 204)
        model.state = "paused"

    @there_is("paused")
    @rule(model=one("paused"))
    def unpause(self, model):
        self.ask(model, "unpause", 204)
        model.state = "running"

    @there_is(*UP)
    @rule(model=one(*UP))
    def kill_shim(self, model):
        pid = self.served.api.inspect(model.id)["State"]["Pid"]
        process.kill(procfs.process(pid).ppid)
        self.ask(model, "wait", 200)
        model.end(137, 255)

    @there_is("created", "exited", *UP)
    @rule(model=one("created", "exited", *UP))
    def ask_in_vain(self, model):
        for what in ("start", "stop", "kill", "pause"):
            if status := IDLE.get((what, model.state)):
                self.ask(model, what, status)
        if model.state != "paused":
            self.ask(model, "unpause", 409, 500)
        if model.state in UP:
            answer = self.served.api.ask("DELETE", "/containers/{id}", model.id)
            assert answer.status == 409

    @there_is(*UP)
    @rule()
    def restart_daemon(self):
        self.served.down()
        self.served.up()
        for model in self.those(*UP):
            model.end(TRAPPED)

    @precondition(lambda self: self.served.outlived and self.those(*UP))
    @rule()
    def crash_daemon(self):
        self.served.crash()
        self.served.up()

    @there_is("created", "exited", *UP)
    @rule(model=one("created", "exited", *UP))
    def remove(self, model):
        subject = self.served.collector.subject(model.id)
        look.look(subject)
        self.models.remove(model)
        force = model.state in UP
        answer = self.served.api.ask("DELETE", "/containers/{id}", model.id, force=force)
        assert answer.status == 204
        assert leftovers.settle(subject) == []

    @invariant()
    def it_is_as_the_model_says(self):
        for model in self.models:
            state = self.served.api.inspect(model.id)["State"]
            assert state["Status"] == model.state
            assert (state["Running"], state["Paused"]) == (
                model.state in UP, model.state == "paused"
            )  # fmt: skip
            assert state["ExitCode"] in model.codes
            assert (state["Pid"] > 0) is (model.state in UP)
            if state["Pid"]:
                assert procfs.process(state["Pid"]).status["State"][0] not in "ZX"

    @invariant()
    def all_are_listed_and_no_other(self):
        rows = self.served.api.client.get("/containers/json", all=True).json()
        assert {row["Id"] for row in rows} == {model.id for model in self.models}

    def teardown(self):
        for model in self.models:
            self.served.collector.clear(model.id)


@pytest.mark.generated
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["startkit", "docker"])
def test_a_container_is_at_any_time_where_its_life_has_led_it(name):
    if os.geteuid() != 0 or find_target(name).missing():
        pytest.skip(f"needs root and {name}")
    served = Served(name)
    try:
        machine = type("LivesHere", (Lives,), {"served": served.up()})
        lives = LIVES.get(settings.get_current_profile_name(), 4)
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=lives,
                stateful_step_count=STEPS,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        left = served.close()
    assert left == []
