"""The files that a container sees but does not own: `containers/ID/...`.

Rule: texts are built by pure functions, files are written anew at every start, so an
edit lives only until then. Only the log goes on over restarts (`logs`).
Source: article, heading on the files inside the container; era.md section 3.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import re
from typing import TYPE_CHECKING

from startkit import kernel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from startkit.daemon.start import Start
    from startkit.daemon.types import HostConfig

SHM_BYTES = 64 * 1024 * 1024
LOCAL_NAMES = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::0", "ip6-localnet"),
    ("ff00::0", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)
FALLBACK_DNS = ("8.8.8.8", "8.8.4.4")


def hostname_text(hostname: str) -> str:
    """Return the file `hostname`: the short name and a newline."""
    return f"{hostname}\n"


def hosts_text(extra: Iterable[str]) -> str:
    """Return the file `hosts`: the local names, then `NAME:ADDRESS` words of `--add-host`."""
    rows = list(LOCAL_NAMES)
    for word in extra:
        name, _, address = word.partition(":")
        rows.append((address, name))
    return "".join(f"{address}\t{names}\n" for address, names in rows)


def resolv_conf_text(host: HostConfig, of_machine: str) -> str:
    """Return the file `resolv.conf`, from `--dns*` or else from the machine's own file.

    With the machine's network the machine's file is taken as it is; with a network
    of its own, name servers on the machine's loopback cannot be reached and are dropped.
    """
    if as_machine(host):
        return of_machine
    if not any((host.dns, host.dns_search, host.dns_options)):
        return without_loopback(of_machine)
    own = dict.fromkeys(("nameserver", "search", "options"), "")
    for line in of_machine.splitlines():
        key, _, rest = line.strip().partition(" ")
        if key in own:
            own[key] = f"{own[key]} {rest.strip()}" if key == "nameserver" else rest.strip()
    servers = host.dns or own["nameserver"].split()
    search = host.dns_search or own["search"].split()
    words = host.dns_options or own["options"].split()
    text = f"search {' '.join(search)}\n" if search and search != ["."] else ""
    text += "".join(f"nameserver {server}\n" for server in servers)
    return text + (f"options {' '.join(words)}\n" if words else "")


def as_machine(host: HostConfig) -> bool:
    """Say whether the container asks the machine's own name servers, over its network."""
    return host.network_mode == "host" and not (host.dns or host.dns_search or host.dns_options)


def without_loopback(text: str) -> str:
    """Return a resolv.conf without name servers on the loopback or with IPv6 addresses.

    Where none is left, two public ones are named.
    """
    kept = []
    servers = 0
    for line in text.splitlines(keepends=True):
        match = re.match(r"\s*nameserver\s+(\S+)", line)
        if match and not reachable(match[1]):
            continue
        servers += bool(match)
        kept.append(line)
    if not servers:
        kept.extend(f"nameserver {server}\n" for server in FALLBACK_DNS)
    return "".join(kept)


def reachable(address: str) -> bool:
    """Say whether a container with its own network, without IPv6, can ask this address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return parsed.version == 4 and not parsed.is_loopback


def hash_text(resolv_conf: str) -> str:
    """Return the file `resolv.conf.hash`: `sha256:` and 64 digits, no newline."""
    return f"sha256:{hashlib.sha256(resolv_conf.encode()).hexdigest()}"


def of_machine(path: str) -> str:
    """Return a text of the machine's, empty where there is none."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def put(path: Path, text: str) -> None:
    """Write one file, 0644. Not synced: the next start writes it anew."""
    path.write_text(text)
    path.chmod(0o644)


def write_hostname(start: Start) -> None:
    """Step: `hostname`."""
    put(start.container.dir / "hostname", hostname_text(start.container.hostname))


def write_hosts(start: Start) -> None:
    """Step: `hosts`; with the machine's network, and no `--add-host`, it is the machine's."""
    host = start.container.host
    machines = host.network_mode == "host" and not host.extra_hosts
    text = of_machine("/etc/hosts") if machines else ""
    put(start.container.dir / "hosts", text or hosts_text(host.extra_hosts or []))


def write_resolv_conf(start: Start) -> None:
    """Step: `resolv.conf`, and `resolv.conf.hash` where it is the container's own."""
    host = start.container.host
    text = resolv_conf_text(host, of_machine("/etc/resolv.conf"))
    put(start.container.dir / "resolv.conf", text)
    if not as_machine(host):
        put(start.container.dir / "resolv.conf.hash", hash_text(text))


def own_shm(host: HostConfig) -> bool:
    """Say whether the container gets a /dev/shm of its own."""
    return host.ipc_mode in ("", "private", "shareable")


def mount_shm(start: Start) -> None:
    """Step: `shm`, a tmpfs that is bound to /dev/shm inside.

    With `--ipc host` the machine's is bound, with `--ipc container:X` the one of X.
    Raises OSError, NotFound.
    """
    container = start.container
    mode, target = container.host.ipc_mode, container.dir / "shm"
    container.record.shm_path = os.fspath(target)
    if mode == "host":
        container.record.shm_path = "/dev/shm"
    elif mode.startswith("container:"):
        container.record.shm_path = start.daemon.find(mode.partition(":")[2]).record.shm_path
    if not own_shm(container.host):
        return
    target.mkdir(mode=0o700, exist_ok=True)
    unmount_shm(start)
    size = container.host.shm_size or SHM_BYTES
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("shm", target, "tmpfs", flags, f"mode=1777,size={size}")


def unmount_shm(start: Start) -> None:
    """Undo of `mount_shm`; fine where nothing is mounted."""
    target = start.container.dir / "shm"
    with contextlib.suppress(FileNotFoundError):
        if os.path.ismount(target):
            kernel.umount(target, kernel.MNT_DETACH)
