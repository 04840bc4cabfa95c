"""Init: what the cloned process does on its way to the user's program.

Rule: it tells the runtime one of three things over its pipe, `hooks`, `ready` or an error,
and never returns. Once the rootfs is entered nothing can be imported any more: a
module found then would be the container's, run as root.

INIT is the way in, step by step; the seam for lessons and mutants.

Source: OCI runtime.md Lifecycle, config.md; namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
import sys
from _frozen_importlib import BuiltinImporter

from startkit import kernel, steps
from startkit.runtime import (
    caps,
    cgroup,
    devices,
    mounts,
    namespaces,
    process,
    rootfs,
    trampoline,
)
from startkit.runtime.text import ContainerError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from startkit.runtime import seccomp
    from startkit.runtime.bundle import Bundle
    from startkit.runtime.create import Creation
    from startkit.runtime.enter import Visit

SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
KEYCTL_JOIN_SESSION_KEYRING = 1
EXIT_FAILED, ENOSYS = 1, 38


class Init:
    """What the steps share: the creation as the runtime prepared it, and what was opened."""

    def __init__(self, creation: Creation) -> None:
        bundle = creation.bundle
        self.creation, self.bundle = creation, bundle
        self.process, self.linux = bundle.process, bundle.linux
        self.namespaces = bundle.namespace_types()
        self.mounts, self.filter = creation.mounts, creation.filter
        self.identity: process.Identity
        self.root = -1
        self.slave = -1
        self.state_fd = os.open(creation.container.directory, os.O_PATH | os.O_DIRECTORY)
        self.program = ""
        # The ways out of the interpreter, and the descriptor that they tell a failure on.
        self.hop = self.hook_hop = -1
        self.report = creation.up[1]
        self.environment: dict[str, str] = {}

    def ask_to_listen(self, listener: int) -> None:
        """Have the runtime give the seccomp agent our listener. Only write(2) is safe before."""
        self.creation.tell({"listener": listener})
        self.creation.wait_for("heard")

    def is_new(self, kind: str) -> bool:
        """Whether a namespace of this type was made for the container."""
        entries = self.linux.get("namespaces") or ()
        return any(e["type"] == kind and not e.get("path") for e in entries)


def main(creation: Creation) -> NoReturn:
    """Be init. Any failure goes to the runtime as its words, then the process ends."""
    try:
        creation.log.debug("child process in init()")
        init = Init(creation)
        steps.run(INIT, init)
        creation.tell({"ready": True})
        wait_for_start(init)
    except BaseException as error:
        creation.tell({"error": reason(error)})
    finally:
        os._exit(EXIT_FAILED)


def wait_for_start(init: Init) -> NoReturn:
    """Wait in open(2) until `start` opens the FIFO's other end, then become the user's program.

    The FIFO tells `start` how that went: `0`, and the words when exec failed; exec closes it.
    """
    fifo = os.open("exec.fifo", os.O_WRONLY, dir_fd=init.state_fd)
    os.close(init.state_fd)
    try:
        run_own_hooks(init, "startContainer", "created")
        os.dup2(fifo, init.report)
        process.execute(init)
    except BaseException as error:
        os.write(fifo, reason(error).encode())
    os._exit(EXIT_FAILED)


def last_filter(init: Init | Visit) -> seccomp.Filter | None:
    """Return the seccomp filter if it is loaded as the last thing before exec.

    `become_user` does it before where there is no no_new_privs, as then loading takes
    CAP_SYS_ADMIN, and where the runtime has to pass a listener on.
    """
    late = init.process.get("noNewPrivileges") and init.filter and not init.filter.listener
    return init.filter if late else None


def build_hop(init: Init | Visit) -> int:
    """Return the way out of the interpreter."""
    last = last_filter(init)
    words = f'{process.START_ERROR}exec: "{init.process["args"][0]}": '
    return trampoline.build(init.report, words, last)


def detach(init: Init) -> None:
    """Become unreachable: a session of our own, no descriptor that survives exec."""
    os.setsid()
    process.close_on_exec(3 + init.creation.preserve_fds)
    os.umask(0)
    if init.creation.new_keyring:
        join_keyring(init.creation.container.id)


def join_keyring(container_id: str) -> None:
    """Leave the caller's session keyring for one of our own; a kernel without any has no call."""
    name = f"_ses.{container_id}".encode()
    if kernel.libc.syscall(SYS_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, name) == -1:
        code = ctypes.get_errno()
        if code != ENOSYS:
            raise ContainerError(f"unable to join session keyring: {os.strerror(code).lower()}")


def become_root() -> None:
    """Become root of the user namespace; that must not make us dumpable, see `process.become`."""
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def join_cgroups(init: Init) -> None:
    """Enter the container's cgroups, then, if asked for, a namespace that starts at them."""
    cgroup.join(init.creation.cgroups, unified=False)
    if init.is_new("user"):
        init.creation.wait_for("mapped")
    if "user" in init.namespaces:
        become_root()
    if init.is_new("cgroup"):
        kernel.unshare(kernel.CLONE_NEWCGROUP)
    if init.is_new("time"):
        namespaces.enter_time(init.linux.get("timeOffsets") or {})


def adjust_oom_score(init: Init) -> None:
    """Set how readily the kernel kills the process when memory runs out."""
    wanted = init.process.get("oomScoreAdj")
    if wanted is None:
        return
    path = "/proc/self/oom_score_adj"
    try:
        if int(cgroup.read(path)) != wanted:
            cgroup.write(path, str(wanted))
    except OSError as error:
        raise ContainerError(
            f"config.json /process/oomScoreAdj: setting {wanted}: {reason(error)}"
            " (lowering it takes CAP_SYS_RESOURCE)"
        ) from None


def name_host(init: Init) -> None:
    """Set the names of the uts namespace and bring `lo` up in a new network namespace."""
    libc, config = kernel.libc, init.bundle.config
    for key, call in (("hostname", libc.sethostname), ("domainname", libc.setdomainname)):
        if config.get(key):
            name = os.fsencode(config[key])
            kernel.check(call(name, len(name)), f"set {key}", config[key])
    if init.is_new("network"):
        namespaces.raise_loopback()
    for name, value in (init.linux.get("sysctl") or {}).items():
        rootfs.write_sysctl(name, value)


def mount_all(init: Init) -> None:
    """Open the rootfs and carry out the config's mounts in order."""
    init.root = rootfs.open_rootfs(init.bundle.rootfs, init.linux.get("rootfsPropagation") or "")
    for mount in init.mounts:
        if mount.fstype in ("cgroup", "cgroup2"):
            own = init.is_new("cgroup")
            cgroup.mount_inside(init.root, mount, init.creation.cgroups, own_namespace=own)
        else:
            mounts.mount_entry(init.root, mount, init.bundle.path)


def fill_dev(init: Init) -> None:
    """Make devices and links, unless /dev is a bind of somebody else's; open the terminal."""
    if not any(mount.target == "/dev" and mount.bind for mount in init.mounts):
        bound = "user" in init.namespaces
        devices.make_devices(init.root, init.linux.get("devices") or [], bound=bound)
    if init.process.get("terminal"):
        from startkit.runtime import console

        master, init.slave = console.open_pty(init.root, init.process.get("consoleSize"))
        mounts.bind_file(init.root, init.slave, "/dev/console")
        console.send_descriptor(init.creation.console, master, b"/dev/ptmx")


def call_hooks(init: Init) -> None:
    """Let the runtime run its hooks, then run those that belong inside, before the root changes."""
    if init.creation.runtime_hooks():
        init.creation.tell({"hooks": True})
        init.creation.wait_for("hooked")
    os.fchdir(init.root)  # as under runc; nothing of ours looks at where it stands
    run_own_hooks(init, "createContainer", "creating")
    if init.bundle.hooks("startContainer"):
        init.hook_hop = trampoline.build(init.report, "", last_filter(init))


def run_own_hooks(init: Init, kind: str, status: str) -> None:
    """Run hooks inside the container's namespaces."""
    found = init.bundle.hooks(kind)
    if found:
        from startkit.runtime import hooks

        container = init.creation.container
        container.record["pid"] = os.getpid()
        way = (init.hook_hop, init.report)
        hooks.run_hooks(kind, found, container.describe(status), way)


def cover_paths(init: Init) -> None:
    """Make /proc and /sys safe: masked and read-only paths; seal what was left writable."""
    rootfs.make_cwd(init.root, init.process["cwd"])
    rootfs.make_read_only(init.root, init.mounts, init.linux.get("readonlyPaths") or [])
    rootfs.mask(init.root, init.mounts, init.linux.get("maskedPaths") or [])
    for mount in init.mounts:
        mounts.seal(mount)


def import_late(creation: Creation) -> None:
    """In the runtime: import what only this config needs, for init cannot.

    The root of a user namespace may not search the way to the host's modules, and once
    the root has changed they would be the container's.
    """
    bundle = creation.bundle
    if bundle.process.get("rlimits"):
        import resource  # noqa: F401
    if has_attributes(bundle):
        import startkit.runtime.attributes
    if bundle.config.get("hooks"):
        import startkit.runtime.hooks
    if bundle.process.get("terminal"):
        import startkit.runtime.console
    if any(mount.recursive or mount.copy_up for mount in creation.mounts):
        import startkit.runtime.mountattr  # noqa: F401


def has_attributes(init: Init | Visit | Bundle) -> bool:
    """Whether the config names what `attributes.py` sets."""
    own = init.process
    return bool(own.get("scheduler") or own.get("ioPriority") or init.linux.get("personality"))


def enter_root(init: Init) -> None:
    """Read what is still needed of the host, forget how to import, and change the root."""
    sets = caps.Sets(init.process.get("capabilities") or {})
    init.identity = process.Identity(init.process, sets, caps.bounding_set())
    for name in sets.unavailable:
        init.creation.tell({"warning": f"capability {name} is not available, it is left out"})
    init.hop = build_hop(init)
    forget_imports()
    rootfs.enter(init.root, pivot=init.creation.pivot)
    os.close(init.root)
    propagation = init.linux.get("rootfsPropagation") or ""
    rootfs.finish_root(propagation, readonly=bool(init.bundle.config["root"].get("readonly")))


def forget_imports() -> None:
    """Let nothing be imported from files any more: they would be the container's."""
    sys.path.clear()
    sys.meta_path[:] = [BuiltinImporter]  # finds no files
    sys.path_hooks.clear()


def become_user(init: Init | Visit) -> None:
    """Take the terminal, give up root, and find the program as its user would."""
    identity = init.identity
    if init.slave != -1:
        from startkit.runtime import console

        console.take_over(init.slave)
    own_process = init.process
    environment = dict(word.split("=", 1) for word in own_process.get("env") or ())
    if not environment.get("HOME"):
        environment["HOME"] = process.home_of(identity.uid)
    if has_attributes(init):
        from startkit.runtime import attributes

        attributes.apply(own_process, init.linux)
    process.own_stdio(identity.uid)
    entered = process.enter_cwd(own_process["cwd"], last=False)
    process.set_rlimits(own_process.get("rlimits") or [])  # after what takes descriptors
    early = init.filter is not last_filter(init)
    if early and not own_process.get("noNewPrivileges"):
        load_filter(init)
    process.become(identity, no_new_privileges=bool(own_process.get("noNewPrivileges")))
    if not entered:
        process.enter_cwd(own_process["cwd"])
    init.program = process.find_program(own_process["args"][0], environment)
    init.environment = environment
    if early and own_process.get("noNewPrivileges"):
        load_filter(init)


def load_filter(init: Init | Visit) -> None:
    """Load the seccomp filter; its listener goes to the agent before anything else is done."""
    assert init.filter is not None
    listener = init.filter.load()
    if init.filter.listener:
        init.ask_to_listen(listener)
        os.close(listener)


INIT = (
    steps.Step("detach", detach, says="leave the runtime's session, keep no descriptor"),
    steps.Step("join-cgroups", join_cgroups, says="stand in the container's cgroups"),
    steps.Step("adjust-oom-score", adjust_oom_score, says="how readily the kernel kills it"),
    steps.Step("name-host", name_host, says="hostname, lo, kernel parameters"),
    steps.Step("mount-all", mount_all, says="the rootfs and everything mounted in it"),
    steps.Step("fill-dev", fill_dev, says="device nodes, links, the terminal"),
    steps.Step("call-hooks", call_hooks, says="programs of the config that want to look in"),
    steps.Step("cover-paths", cover_paths, says="mask and write-protect parts of /proc and /sys"),
    steps.Step("enter-root", enter_root, says="pivot_root: the rootfs becomes /"),
    steps.Step("become-user", become_user, says="user, capabilities, cwd; find the program"),
)
