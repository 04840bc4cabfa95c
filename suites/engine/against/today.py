"""Our container's portrait in the words of another dialect: each change one function.

Rule: a change turns what startkit shows into what a Docker 20.10 shows, for one reason,
which stands under its name in golden/dialects/ as `[[change]]`: in docker-20.10 where
the times have changed, in startkit-0.1 where startkit does less. It changes a portrait
in place; where it leaves one as it is, the two engines do not differ.
"""

from __future__ import annotations

import copy
import os

MASKED = ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
          "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
          "/sys/firmware"]  # fmt: skip
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
CAPS = [f"CAP_{name}" for name in (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP",
    "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE")]  # fmt: skip
DIRECTORY = {"root": "/", "fstype": "tmpfs", "source": "tmpfs", "options": ["ro", "relatime"],
             "super": ["ro"], "propagation": ""}  # fmt: skip
UNPRIVILEGED = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}
TASKS = "containerd/daemon/io.containerd.runtime.v2.task/moby"
BUNDLE = {
    **dict.fromkeys(("address", "config.json", "init.pid", "log.json"), "file 0644"),
    **dict.fromkeys(("options.json", "runtime", "shim-binary-path"), "file 0600"),
    "log": "fifo 0700", "rootfs": "directory 0711", "work": "symlink 0777",
}  # fmt: skip
SHM_BYTES = 64 << 20
SHM_OPTIONS = ["nosuid", "noexec", "nodev", "mode=1777"]


def named(rows, key, name):
    """Return the last row of this name, or None."""
    return next((row for row in reversed(rows) if row[key] == name), None)


def networked(ours):
    """Say whether the container has a network namespace of its own."""
    return "network" in [one["type"] for one in ours["config"]["linux"]["namespaces"]]


def spec_version(ours, asked):
    ours["config"]["ociVersion"] = "1.0.2-dev"


def masked_paths(ours, asked):
    ours["config"]["linux"] |= {"maskedPaths": MASKED, "readonlyPaths": READONLY}
    device = {**named(ours["mounts"], "target", "/dev"), "root": "/null"}
    ours["mounts"] = [row for row in ours["mounts"] if row["target"] not in MASKED]
    for path in MASKED:  # those that this machine has
        if os.path.exists(path):
            cover = DIRECTORY if os.path.isdir(path) else device
            ours["mounts"].append({**cover, "target": path})


def dev_size(ours, asked):
    named(ours["config"]["mounts"], "destination", "/dev")["options"].append("size=65536k")
    for row in ours["mounts"]:
        if row["super"] == ["mode=755", "rw"] and row["target"].startswith(("/dev", "/proc")):
            row["super"].append("size=65536k")


def private_shm(ours, asked):
    mounts = ours["config"]["mounts"]
    shm = named(mounts, "destination", "/dev/shm")
    if shm["source"] != "<ROOT>/containers/<ID>/shm":
        return
    if asked.get("IpcMode") == "shareable":
        shm["source"] = "<ROOT>/containers/<ID>/mounts/shm"
        return
    size = asked.get("ShmSize") or SHM_BYTES
    shm |= {"type": "tmpfs", "source": "shm", "options": [*SHM_OPTIONS, f"size={size}"]}
    for rows, key in ((mounts, "destination"), (ours["mounts"], "target")):
        row = named(rows, key, "/dev/shm")
        rows.remove(row)
        rows.insert(rows.index(named(rows, key, "/dev/mqueue")) + 1, row)


def mounts_directory(ours, asked):
    directory = ours["directory"]
    shm = directory.pop("shm", None)
    directory["mounts"] = "directory 0710"
    if asked.get("IpcMode") == "shareable":
        directory["mounts/shm"] = shm


def containerd_bundle(ours, asked):
    ours["bundle"] = {"place": f"<RUN>/{TASKS}/<ID>", ".": "0700", **BUNDLE}


def containerd_shim(ours, asked):
    socket = "<RUN>/containerd/containerd.sock"
    words = ["-namespace", "moby", "-id", "<ID>", "-address", socket]
    ours["processes"][1:] = [["/usr/bin/containerd-shim-runc-v2", *words]]


def domain_name(ours, asked):
    config = ours["config"]
    domain = ours["inspect"]["Domainname"]
    if domain:
        config["hostname"] = config["hostname"].removesuffix(f".{domain}")
        config["linux"].setdefault("sysctl", {})["kernel.domainname"] = domain
        ours["inside"]["hostname"] = [config["hostname"]]
        ours["inside"]["sysctls"][1] = domain


def primary_group(ours, asked):
    user = ours["config"]["process"]["user"]
    groups = user.get("additionalGids", [])
    user["additionalGids"] = sorted([user.get("gid", 0), *groups])
    status = ours["inside"]["status"]
    place = next(n for n, line in enumerate(status) if line.startswith("Groups"))
    listed = sorted({*map(int, status[place].split()[1:]), user.get("gid", 0)})
    status[place] = f"Groups:\t{' '.join(map(str, listed))} "


def unprivileged(ours, asked):
    if networked(ours):
        sysctl = ours["config"]["linux"].setdefault("sysctl", {})
        ours["config"]["linux"]["sysctl"] = UNPRIVILEGED | sysctl


def no_stdin(ours, asked):
    if not ours["inspect"]["Tty"] and not ours["inspect"]["OpenStdin"]:
        del ours["fifos"]["stdin"]
        ours["stdio"][0] = "/dev/null"


def repeated_capabilities(ours, asked):
    added, dropped = (
        [f"CAP_{word.upper().removeprefix('CAP_')}" for word in asked.get(key) or ()]
        for key in ("CapAdd", "CapDrop")
    )
    kept = [] if "CAP_ALL" in dropped else [word for word in CAPS if word not in dropped]
    for words in ours["config"]["process"].get("capabilities", {}).values():
        words[:] = kept + added


def unspoken_mode(ours, asked):
    for row in ours["mounts"]:
        if row["target"] in asked["Tmpfs"] and "mode" not in asked["Tmpfs"][row["target"]]:
            row["super"] = [word for word in row["super"] if not word.startswith("mode=")]


def writable_cgroup_root(ours, asked):
    row = named(ours["mounts"], "target", "/sys/fs/cgroup")
    row["options"] = ["rw", *row["options"][1:]]


def shared_root(ours, asked):
    named(ours["mounts"], "target", "/")["propagation"] = "master"


def no_network_hook(ours, asked):
    if networked(ours):
        words = ["libnetwork-setkey", "-exec-root=<RUN>", "<ID>", "<NETWORK>"]
        ours["config"]["hooks"] = {"prestart": [{"path": "/proc/N/exe", "args": words}]}


def machine_network(ours, asked):
    if not networked(ours):
        row = {"type": "network", "path": "<RUN>/netns/default"}
        ours["config"]["linux"]["namespaces"].insert(1, row)


def no_seccomp(ours, asked):
    if "seccomp=unconfined" not in (asked.get("SecurityOpt") or ()):
        ours["config"]["linux"]["seccomp"] = "a filter"
        status = ours["inside"]["status"]
        status[status.index("Seccomp:\t0")] = "Seccomp:\t2"


# networked() asks for the namespaces, so machine_network comes after those that ask
CHANGES = (
    *(spec_version, masked_paths, dev_size, private_shm, domain_name, primary_group, unprivileged),
    *(no_stdin, unspoken_mode, repeated_capabilities, writable_cgroup_root, shared_root),
    *(mounts_directory, containerd_bundle, containerd_shim),
    *(no_network_hook, machine_network, no_seccomp),
)


def translate(portrait, recipe, *, without=None):
    """Return a portrait of ours in today's words; a container that never ran has only its end."""
    found = copy.deepcopy(portrait)
    for change in CHANGES if "config" in portrait else ():
        if change is not without:
            change(found, recipe["HostConfig"])
    return found
