"""Any life of a container, on our engine and on a real dockerd: one model, two targets.

The model is the states of `docker ps` and what each request answers in them. After every
step the engine says what the model says, and after a remove nothing is left.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from served import Served

from startkit.observe import leftovers, look, procfs
from startkit.observe.life import IMAGE
from startkit.targets import process

LIVES = {"dev": 4, "ci": 12, "thorough": 60}
STEPS = 25
TRAPPED = 7  # what the program ends with on SIGTERM
PROGRAM = f"trap 'exit {TRAPPED}' TERM; echo ready; while :; do sleep 1000 & wait $!; done"
UP = ("running", "paused")


class Model:
    """One container as it has to be."""

    def __init__(self, container, stop_signal):
        self.id, self.stop_signal = container, stop_signal
        self.state, self.codes, self.starts = "created", {0}, 0

    def end(self, *codes):
        self.state, self.codes = "exited", set(codes)


class Lives(RuleBasedStateMachine):
    """The steps of a life."""

    served: Served
    containers = Bundle("containers")

    def __init__(self):
        super().__init__()
        self.models = []

    def ask(self, model, what, **query):
        return self.served.api.ask("POST", f"/containers/{{id}}/{what}", model.id, **query).status

    def wait(self, model):
        self.ask(model, "wait")

    def started(self, model):
        """Wait until the program has set its trap: before, a first process ignores SIGTERM."""
        model.state, model.codes = "running", {0}
        model.starts += 1
        said, client = b"", self.served.api.client
        with client.stream("GET", f"/containers/{model.id}/logs", follow=True, stdout=True) as log:
            while said.count(b"ready") < model.starts:
                said += next(log.pieces)

    @rule(target=containers, stop_signal=st.sampled_from(["", "SIGTERM"]))
    def create(self, stop_signal):
        body = {"Image": IMAGE, "Cmd": ["sh", "-c", PROGRAM], "StopSignal": stop_signal,
                "HostConfig": {"NetworkMode": "none"}}  # fmt: skip
        answer = self.served.api.ask("POST", "/containers/create", body=body)
        assert answer.status == 201
        self.models.append(Model(answer.body["Id"], stop_signal))
        return self.models[-1]

    @rule(model=containers)
    def start(self, model):
        status = self.ask(model, "start")
        assert status == {"running": 304, "paused": 409}.get(model.state, 204)
        if status == 204:
            self.started(model)

    @rule(model=containers)
    def stop(self, model):
        assert self.ask(model, "stop", t=5) == (204 if model.state in UP else 304)
        if model.state in UP:
            model.end(TRAPPED)

    @rule(model=containers)
    def restart(self, model):
        assert self.ask(model, "restart", t=5) == 204
        self.started(model)

    @rule(model=containers, word=st.sampled_from(["KILL", "TERM", "USR1"]))
    def kill(self, model, word):
        assert self.ask(model, "kill", signal=word) == (204 if model.state in UP else 409)
        if model.state not in UP:
            return
        if model.state == "paused" and model.stop_signal and word == "USR1":
            return
        model.state = "running"
        if word != "USR1":
            self.wait(model)
            model.end(137 if word == "KILL" else TRAPPED)

    @rule(model=containers)
    def pause(self, model):
        assert self.ask(model, "pause") == (204 if model.state == "running" else 409)
        if model.state == "running":
            model.state = "paused"

    @rule(model=containers)
    def unpause(self, model):
        status = self.ask(model, "unpause")
        assert (status == 204) is (model.state == "paused")
        assert status in (204, 409, 500)
        if model.state == "paused":
            model.state = "running"

    @rule(model=containers)
    def kill_shim(self, model):
        if model.state in UP:
            pid = self.served.api.inspect(model.id)["State"]["Pid"]
            process.kill(procfs.process(pid).ppid)
            self.wait(model)
            model.end(137, 255)

    @rule()
    def restart_daemon(self):
        self.served.down()
        self.served.up()
        for model in self.models:
            if model.state in UP:
                model.end(TRAPPED)

    @precondition(lambda self: self.served.outlived)
    @rule()
    def crash_daemon(self):
        self.served.crash()
        self.served.up()

    @rule(model=consumes(containers), force=st.booleans())
    def remove(self, model, force):
        subject = self.served.subject(model.id)
        look.look(subject)
        answer = self.served.api.ask("DELETE", "/containers/{id}", model.id, force=force)
        refused = model.state in UP and not force
        assert answer.status == (409 if refused else 204)
        if refused:
            answer = self.served.api.ask("DELETE", "/containers/{id}", model.id, force=True)
            assert answer.status == 204
        self.models.remove(model)
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
        for model in list(self.models):
            self.remove(model, force=True)


@pytest.mark.generated
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["startkit", "docker"])
def test_a_container_is_at_any_time_where_its_life_has_led_it(name):
    served = Served(name)
    if os.geteuid() != 0 or served.target.missing():
        pytest.skip(f"needs root and {name}")
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
