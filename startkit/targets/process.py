"""Processes of a target: wait until it answers, end it, sweep up after it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time

from startkit import kernel
from startkit.client import Client, ClientError
from startkit.observe import procfs

READY_S = 45.0  # in an emulated machine that shares its cpus; with LOAD_S below a test's limit
END_S = 20.0
POLL_S = 0.02


def answers(child: subprocess.Popen[bytes], socket_path: str) -> bool:
    """Wait until GET /_ping is answered; False when the child ends or READY_S are over."""
    return not silence(child, socket_path)


def silence(child: subprocess.Popen[bytes], socket_path: str) -> str:
    """Wait until GET /_ping is answered with 200; return why it is not within READY_S, or ""."""
    client = Client(socket_path, timeout_s=READY_S)
    client.until = time.monotonic() + READY_S
    why = ""
    while child.poll() is None and time.monotonic() < client.until:
        try:
            reply = client.get("/_ping")
        except ClientError as error:
            why = str(error)
            time.sleep(POLL_S)
        else:
            return "" if reply.status == 200 else f"GET /_ping: {reply.status} {reply.message}"
    return f"ended with {child.returncode}" if child.returncode is not None else why


def end(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Ask a child to end, insist after END_S, and reap it."""
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(number)
    try:
        child.wait(END_S)
    except subprocess.TimeoutExpired:
        child.kill()
    child.wait()


def sweep(root: str) -> list[str]:
    """End, unmount and remove what still belongs to `root`; return what had to be done.

    What cannot be unmounted is not removed: it may be the host's.
    """
    done = [f"killed {pid}" for pid in procfs.naming(f"{root}/") if kill(pid)]
    for mount in reversed(procfs.mounts()):
        if mount.target == root or mount.target.startswith(f"{root}/"):
            with contextlib.suppress(OSError):
                kernel.umount(mount.target, kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)
                done.append(f"unmounted {mount.target}")
    # not shutil.rmtree, whose stack is not as deep as a directory can be
    subprocess.run(
        ["rm", "-rf", "--one-file-system", "--", root], stderr=subprocess.DEVNULL, check=False
    )
    return done


def kill(pid: int) -> bool:
    """Kill a process that is not our child and wait until it is gone; say whether it was there."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return bool(select.select([handle], [], [], END_S)[0])
    except OSError:
        return False
    finally:
        os.close(handle)
