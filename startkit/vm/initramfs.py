"""What the kernel starts: an archive of busybox, the modules that it needs, and one script.

The script mounts the host's root read-only, a tmpfs over it, new /proc, /sys, /dev, /run and
/tmp, the cgroups as they were asked for, and runs the command; its exit code goes through a
port of its own. Source: kernel's early-userspace/buffer-format.rst (cpio), 9p.rst, cgroups(7).
"""

from __future__ import annotations

import lzma
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from startkit.vm import VmError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from startkit.vm.kernel import Kernel

MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
INIT = """\
#!/busybox sh
b=/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev
for module in {modules}; do $b insmod /modules/$module.ko; done
$b mkdir /host /memory /new
$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose host /host
$b mount -t tmpfs -o size=75% memory /memory; $b mkdir /memory/upper /memory/work
$b mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /new
for place in proc sys dev; do $b mount --move /$place /new/$place; done
$b sh /guest
$b sync
$b poweroff -f
"""
GUEST = """\
cd /new
port() {{ for p in sys/class/virtio-ports/*; do
    read -r name < $p/name; [ "$name" != "$1" ] || echo dev/${{p##*/}}; done; }}
in=$(port in) out=$(port out) err=$(port err) end=$(port end)
/busybox chroot . /bin/sh -c {setup} > dev/ttyS0 2>&1
/busybox chroot . /usr/bin/env -i {environment} /bin/sh -c {command} < $in > $out 2> $err
echo $? > $end
"""
SETUP = """\
umask 022
mkdir -p /dev/pts /dev/shm /.tmp
mount --bind /tmp /.tmp
mount -t devpts -o mode=620,ptmxmode=666,gid=5 devpts /dev/pts
for place in /dev/shm /run /tmp; do mount -t tmpfs -o mode=1777 tmpfs $place; done
mkdir -p /run/lock
for place in {kept}; do mkdir /tmp/$place; mount --bind /.tmp/$place /tmp/$place; done
ln -sf /proc/self/fd /dev/fd
ln -sf fd/0 /dev/stdin; ln -sf fd/1 /dev/stdout; ln -sf fd/2 /dev/stderr
ip link set lo up || ifconfig lo up
mkdir -p /lib/modules/{version}; mount --bind {modules} /lib/modules/{version}
"""
V1 = ("cpuset", "cpu,cpuacct", "blkio", "memory", "devices", "freezer", "pids")
CGROUPS = {
    "v2": "mount -t cgroup2 cgroup2 /sys/fs/cgroup\n",
    "v1": "mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup; cd /sys/fs/cgroup\n"
    + "".join(f"mkdir {name}; mount -t cgroup -o {name} cgroup {name}\n" for name in V1)
    + "mkdir systemd; mount -t cgroup -o none,name=systemd cgroup systemd\n",
}
CGROUPS["hybrid"] = CGROUPS["v1"] + "mkdir unified; mount -t cgroup2 cgroup2 unified\n"


def archive(files: Iterable[tuple[str, bytes, int]]) -> bytes:
    """Return a cpio archive in the `newc` format; (path, content, mode of stat(2)) each."""
    parts = []
    for number, (path, content, mode) in enumerate([*files, ("TRAILER!!!", b"", 0)]):
        name = path.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + "".join(f"{field:08X}" for field in fields).encode() + name
        for part in (head, content):
            parts.append(part + b"\0" * (-len(part) % 4))
    return b"".join(parts)


def base(kernel: Kernel) -> bytes:
    """Return what is the same for every guest of a kernel. Raises VmError."""
    busybox = shutil.which("busybox")
    if busybox is None or b"/lib64/ld-linux" in (program := Path(busybox).read_bytes()):
        raise VmError("no busybox-static is here: apt-get install busybox-static")
    paths = {path.name.partition(".")[0]: path for path in kernel.modules.rglob("*.ko*")}
    found: dict[str, bytes] = {}
    for name in MODULES:
        add_module(name, paths, found)
    directories = [(name, b"", 0o40755) for name in ("proc", "sys", "dev", "modules")]
    init = INIT.format(modules=" ".join(found)).encode()
    files = [("busybox", program, 0o100755), ("init", init, 0o100755)]
    modules = [(f"modules/{name}.ko", content, 0o100644) for name, content in found.items()]
    return archive([*directories, *files, *modules])


def add_module(name: str, paths: dict[str, Path], found: dict[str, bytes]) -> None:
    """Add a module, after those that it depends on. Raises VmError."""
    key = name if name in paths else name.replace("_", "-")
    if key not in paths:
        raise VmError(f"this kernel has no module {name}: take another one (startkit vm fetch)")
    content = paths[key].read_bytes()
    if paths[key].suffix == ".xz":
        content = lzma.decompress(content)
    for needed in depends(content):
        if needed not in found:
            add_module(needed, paths, found)
    found[key] = content


def depends(module: bytes) -> list[str]:
    """Return the names of the modules that one says it needs, in its .modinfo."""
    _, _, after = module.partition(b"\0depends=")
    return [name for name in after.partition(b"\0")[0].decode().split(",") if name]


def kept() -> list[str]:
    """Return what the new /tmp still has to show of the host's: where we are, and our Python."""
    places = {Path.cwd(), Path(sys.prefix)}
    return sorted({place.parts[2] for place in places if place.is_relative_to("/tmp")})


def guest(
    argv: list[str], kernel: Kernel, cgroup: str, environment: dict[str, str], shared: Path | None
) -> bytes:
    """Return the archive with what one guest does: it comes after `base`."""
    modules = shlex.quote(str(kernel.modules))
    setup = SETUP.format(version=kernel.version, modules=modules, kept=shlex.join(kept()))
    setup += CGROUPS[cgroup]
    if shared:
        place = shlex.quote(str(shared))
        setup += f"mkdir -p {place}\nmount -t 9p -o trans=virtio,version=9p2000.L shared {place}\n"
    pairs = " ".join(shlex.quote(f"{key}={value}") for key, value in environment.items())
    command = f"cd {shlex.quote(str(Path.cwd()))} && exec {shlex.join(argv)}"
    text = GUEST.format(setup=shlex.quote(setup), environment=pairs, command=shlex.quote(command))
    return archive([("guest", text.encode(), 0o100644)])
