"""startkit-runc on odd documents: it does what they say or says in one line why not.

No hang, no traceback, and once the container is deleted nothing is left of it.
"""

from __future__ import annotations

import collections
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cage
import pytest
from drawn import THOROUGH, mangled, none, odd
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_runtime_mutated_config import FULL

ROOT = Path(__file__).parents[3]
CONTAINER = f"startkit-tests-{os.getpid()}"  # the sweep knows it
CGROUP = f"/{CONTAINER}/fuzz"  # drawn ones would be anywhere in file systems that have no cage
RUNTIME = [sys.executable, "-I", "-m", "startkit.runtime", "--root", "state", "--log", "log"]
LIVE = json.loads((ROOT / "golden/bundle.json").read_text())
LIVE["process"]["args"] = ["/bin/busybox", "sleep", "100"]
MORE = [(part, key) for part in ("process", "linux") for key in FULL[part] if key not in LIVE[part]]
MORE += [("", "hooks"), ("", "annotations"), ("linux", "namespaces")]
VISIT = {**FULL["process"], "args": ["/bin/busybox", "true"], "user": {"uid": 0, "gid": 0},
         "capabilities": LIVE["process"]["capabilities"]}  # fmt: skip
LIMITS = {key: FULL["linux"]["resources"][key] for key in ("devices", "pids", "memory")}
LIMITS["cpu"] = {"shares": 9, "quota": 9000, "period": 90000}
TOKENS = [b"\0", b"\xff", b"\xed\xa0\x80", b'"', b"{", b"[", b"]", b"}", b",", b":", b"null", b"-1",
          b"1e999", b"9" * 5000, b"[" * 9999, b'\\ud800"', b"\xef\xbb\xbf", b"NaN"]  # fmt: skip
CREATE = ["create", "--bundle", ".", "--pid-file", "pid", CONTAINER]
EXEC = ["exec", "--process", "process.json", "--pid-file", "pid2", CONTAINER]
UPDATE = ["update", "--resources", "resources.json", CONTAINER]
CALLS = {
    "config": [CREATE, ["start", CONTAINER]],
    "process": [CREATE, ["start", CONTAINER], EXEC],
    "resources": [CREATE, UPDATE, ["start", CONTAINER]],
    "run": [["run", "--bundle", ".", CONTAINER]],
}


def written(document):
    """Return a document as a file's text, one character for a byte."""
    return json.dumps(document)


def pinned(text):
    """Return a config.json with the one cgroup that is ours, where that can be told."""
    try:
        document = json.loads(text.encode("latin-1").decode())
    except (ValueError, RecursionError):
        return text
    if not isinstance(document, dict) or not isinstance(document.get("linux"), dict):
        return text
    document["linux"]["cgroupsPath"] = CGROUP
    return written(document)


@st.composite
def asked(draw):
    """Draw which document is odd, and all of them."""
    kind = draw(st.sampled_from([*CALLS]))
    config = json.loads(json.dumps(LIVE))
    if kind == "run":
        config["process"]["args"][1:] = ["true"]
    for part, key in draw(st.sets(st.sampled_from(MORE), max_size=4)) if kind[0] in "cr" else ():
        (config[part] if part else config)[key] = (FULL[part] if part else FULL)[key]
    made = {"config": config, "process": VISIT, "resources": LIMITS}
    target = "config" if kind == "run" else kind
    made[target] = draw(odd(made[target]))
    texts = {name: written(document) for name, document in made.items()}
    if draw(st.integers(0, 5)) == 0:
        texts[target] = draw(mangled(texts[target].encode(), TOKENS)).decode("latin-1")
    texts["config"] = pinned(texts["config"])
    return kind, {f"{name}.json": text for name, text in texts.items()}


class Caged:
    """A bundle, and what calls of the runtime came to in cages over it."""

    def __init__(self, place):
        self.bundle, self.disk, self.codes = place / "bundle", place / "disk", collections.Counter()
        self.disk.mkdir()
        for name in ("bin", "proc", "sys", "dev", "tmp"):
            (self.bundle / "rootfs" / name).mkdir(parents=True)
        shutil.copy2(shutil.which("busybox"), self.bundle / "rootfs/bin")

    def ask(self, kind, files):
        """Return what was wrong with the calls, or is left."""
        calls = [*CALLS[kind], ["delete", "--force", CONTAINER]]
        inside = '"path": "rootfs"' in files["config.json"]
        request = {"runtime": RUNTIME, "calls": calls, "files": files, "inside": inside}
        own = ["--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--ipc", "--uts"]
        disk = [f"{self.disk}/cage", str(self.disk)]
        done = subprocess.run(
            ["unshare", *own, "sh", "-c", cage.ENTER + cage.CAGE, "cage", *disk,
             sys.executable, "-I", cage.__file__, str(self.bundle), f"{disk[0]}/up"],
            input=json.dumps(request), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            return [f"the cage ended with {done.returncode}: {done.stderr}"]
        told = json.loads(done.stdout)
        wrong = told["left"] + [told["log"]] * ("Traceback" in told["log"])
        for words, (code, said) in zip(calls, told["said"], strict=True):
            self.codes[words[0], code] += 1
            if (fault := self.fault(words[0], code, said)) is not None:
                wrong.append(f"{words[0]} {fault}: {said}")
        found = Path("/sys/fs/cgroup").glob(f"*/{CONTAINER}/*/")
        return wrong + [f"cgroup: {p}" for p in found]

    def fault(self, command, code, said):
        """Return what is wrong with a call's end, None for nothing."""
        if code is None:
            return "hangs"
        if re.search(r"Traceback|[a-z]Error\b", said):
            return f"ends with {code}"
        own = command in ("run", "exec")  # the status may be the program's
        lines = {0, 1} if own and code != 1 else {1}
        return None if not code or said.count("\n") in lines else f"ends with {code}, not in a line"


@pytest.fixture
def caged(tmp_path):
    """Give a bundle of busybox; print at the end which statuses there were."""
    if os.geteuid() != 0 or not shutil.which("busybox"):
        pytest.skip("needs root and busybox-static")
    made = Caged(tmp_path)
    yield made
    print(dict(sorted(made.codes.items(), key=str)))  # noqa: T201 -- with -s


def test_the_documents_are_carried_out_as_long_as_nothing_is_odd(caged):
    files = {"config": LIVE, "process": VISIT, "resources": LIMITS}
    files = {f"{name}.json": written(document) for name, document in files.items()}
    files["config.json"] = pinned(files["config.json"])

    none([*caged.ask("process", files), *caged.ask("resources", files)], files.items())

    assert {code for _, code in caged.codes} == {0}


@pytest.mark.timeout(0 if THOROUGH else 120)
@settings(
    max_examples=2000 if THOROUGH else 20,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(asked=asked())
def test_the_runtime_does_what_an_odd_document_says_or_says_why_not(caged, asked):
    none(caged.ask(*asked), asked[1].items())
