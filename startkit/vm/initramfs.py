"""What the kernel starts: an archive of busybox, the modules that it needs, and one script.

The script mounts the host's root read-only, memory over it, new /proc, /sys, /dev, /run and
/tmp, the cgroups as they were asked for, and runs the command; signs of life and at last its
exit code go through a port of its own.

Source: kernel's early-userspace/buffer-format.rst (cpio), 9p.rst, cgroups(7).
"""

from __future__ import annotations

import lzma
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from startkit.vm import VmError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from startkit.vm.kernel import Kernel
    from startkit.vm.machine import Settings

MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
INIT = """\
#!/busybox sh
/busybox --install -s /bin; export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
for module in {modules}; do insmod /modules/$module.ko; done
. /guest
sync
poweroff -f
"""
# $NAME is the shell's. `laid`: places of the host that the root lacks, each under an overlay.
GUEST = """\
umask 022
mkdir /host /memory /new
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose host /host
mount -t tmpfs -o size=75% memory /memory
over() {{
    mkdir -p /memory/upper$3 /memory/work$3 $2
    mount -t overlay -o lowerdir=/host$1,upperdir=/memory/upper$3,workdir=/memory/work$3 root $2
}}
over {root} /new 0
for place in proc sys dev; do mount --move /$place /new/$place; done
cd /new
exec 2> dev/ttyS0
mkdir -p dev/pts dev/shm
mount -t devpts -o mode=620,ptmxmode=666,gid=5 devpts dev/pts
for place in dev/shm run tmp; do mount -t tmpfs -o mode=1777 tmpfs $place; done
mkdir -p run/lock lib/modules/{version}
mount --bind /host{modules} lib/modules/{version}
ln -sf /proc/self/fd dev/fd
ln -sf fd/0 dev/stdin; ln -sf fd/1 dev/stdout; ln -sf fd/2 dev/stderr
ip link set lo up
number=0
for place in {laid}; do
    number=$((number + 1))
    if [ -d /host$place ]; then over $place /new$place $number; else cp /host$place /new$place; fi
done
{more}
cd /new
port() {{ for p in sys/class/virtio-ports/*; do
    read -r name < $p/name; [ "$name" != "$1" ] || echo dev/${{p##*/}}; done; }}
in=$(port in) out=$(port out) err=$(port err) end=$(port end)
: > /dev/null  # the shell opens one for what runs beside it, and the real one has moved
exec 3> $end
while echo .; do sleep 2; done >&3 &
mount --move . /  # or else it counts as a chroot, where no user namespace can be made
chroot . /usr/bin/env -i {environment} /bin/sh -c {command} < $in > $out 2> $err 3>&-
echo $? >&3
"""
V1 = ("cpuset", "cpu,cpuacct", "blkio", "memory", "devices", "freezer", "pids")
LAYOUTS = {
    "v2": "mount -t cgroup2 cgroup2 sys/fs/cgroup\n",
    "v1": "mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup; cd sys/fs/cgroup\n"
    + "".join(f"mkdir {name}; mount -t cgroup -o {name} cgroup {name}\n" for name in V1)
    + "ln -s cpu,cpuacct cpu; ln -s cpu,cpuacct cpuacct\n"  # as systemd does; crun asks for cpu
    + "mkdir systemd; mount -t cgroup -o none,name=systemd cgroup systemd\n",
}
LAYOUTS["hybrid"] = LAYOUTS["v1"] + "mkdir unified; mount -t cgroup2 cgroup2 unified\n"


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
    directories = [(name, b"", 0o40755) for name in ("bin", "proc", "sys", "dev", "modules")]
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


def laid_in(root: Path | None) -> list[Path]:
    """Return what a guest's root lacks of the host's: where we are, and our Python.

    A root that is the host's lacks what new file systems cover.
    """
    places = {Path.cwd(), Path(sys.prefix)}
    if root is None:
        return sorted(one for one in places if one.parts[1:2] in (("tmp",), ("run",)))
    if sys.base_prefix == "/usr":
        places |= {Path(os.path.realpath(sys.executable)), Path(sysconfig.get_path("stdlib"))}
    else:
        places.add(Path(sys.base_prefix))
    return sorted(places)


def guest(
    argv: list[str], kernel: Kernel, settings: Settings, environment: dict[str, str]
) -> bytes:
    """Return the archive with what one guest does: it comes after `base`."""
    more = ""
    if settings.shared:
        place = "/new" + shlex.quote(str(settings.shared))
        options = "trans=virtio,version=9p2000.L"
        more += f"mkdir -p {place}\nmount -t 9p -o {options} shared {place}\n"
    if settings.root:  # its own Python is a later one, and a virtual environment asks for `python3`
        more += f"ln -sf {os.path.realpath(sys.executable)} usr/bin/python3\n"
    pairs = " ".join(shlex.quote(f"{key}={value}") for key, value in environment.items())
    command = f"cd {shlex.quote(str(Path.cwd()))} && exec {shlex.join(argv)}"
    text = GUEST.format(
        root=shlex.quote(str(settings.root or "/")),
        version=kernel.version,
        modules=shlex.quote(str(kernel.modules)),
        laid=shlex.join(map(str, laid_in(settings.root))),
        more=more + LAYOUTS[settings.cgroup],
        environment=pairs,
        command=shlex.quote(command),
    )
    return archive([("guest", text.encode(), 0o100644)])
