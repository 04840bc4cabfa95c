"""The inside of a cage for startkit-runc: calls it, and says what each call said and all have left.

Its own mounts, processes, network and devices; its disk goes with it. A program: the cage's
first process. Reads JSON from stdin, its calls and files among it, and writes JSON to stdout.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

CALL_S = 20.0  # the busiest machine's start of an interpreter is a tenth
SETTLE_S = 5.0
CAGE = r"""
set -e
cd "$1"; mkdir -p up work new
mount -t overlay -o lowerdir=/,upperdir=up,workdir=work none new
for d in proc sys dev; do mount --rbind /$d new/$d; done
mount --bind "$2" "new$2"
cd new; pivot_root . tmp; umount -l tmp
shift 2; exec "$@"
"""
# The machine's own /dev is not there: a root without a /dev would have its nodes made in it.
ENTER = r"""
set -e
mount -t tmpfs none "$2"; mkdir "$1" "$2/dev"
for n in null zero full random urandom tty; do cp -a /dev/$n "$2/dev"; done
mount --bind "$2/dev" /dev
"""


def call(words):
    """Return what one call came to: its status, None for one that hung, and its stderr."""
    with open("out", "wb+") as out, open("err", "wb+") as err:
        try:
            code = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=CALL_S, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
        err.seek(0)
        return code, err.read().decode(errors="replace")


def mounts():
    """Return the mount points that there are."""
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def living():
    """Return the command lines of all processes but our own; the dead are buried."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.name != str(os.getpid()):
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:99])
    return found


def main():
    """Make the calls in a bundle, the first argument; what is written is below the second."""
    bundle, up = Path(sys.argv[1]), Path(sys.argv[2])
    os.chdir(bundle)
    asked = json.load(sys.stdin)
    for path, text in asked["files"].items():
        Path(path).write_bytes(text.encode("latin-1"))
    Path("log").touch()
    before = mounts()
    said = [call([*asked["runtime"], *words]) for words in asked["calls"]]
    end = time.monotonic() + SETTLE_S
    while (processes := living()) and time.monotonic() < end:
        time.sleep(0.01)
    left = [f"process: {line}" for line in processes]
    left += [f"mount: {point}" for point in mounts() if point not in before]
    left += [f"state: {path}" for path in Path("state").rglob("*")]
    left += [f"file: {path}" for path in Path().glob("*.new")]
    if asked["inside"]:
        wrote = [p.relative_to(up) for p in up.rglob("*") if not p.is_dir()]
        wrote = [p for p in wrote if "__pycache__" not in p.parts]
        left += [f"outside: {p}" for p in wrote if not p.is_relative_to(str(bundle)[1:])]
    json.dump({"said": said, "left": left, "log": Path("log").read_text()}, sys.stdout)


if __name__ == "__main__":
    main()
