"""The suites' image, made on the spot: no network, no registry, the same bytes each time.

`startkit image base -o base.tar` writes a `docker save` archive of five layers, base
first, tagged `startkit/base:latest`:

1. a root file system: busybox with its applets, or else the host's own shell and tools
   with the libraries they need; passwd and group; the usual directories
2. `/etc/gone` and `/opt/dir/{one,two}`, for the next ones to hide
3. a whiteout: `/etc/gone` is gone
4. an opaque directory: `/opt/dir` holds `three` alone; a symlink `/opt/link`
5. a setuid file: `/usr/bin/setuid-true`, 04755

Rule: times, owners, order and padding are fixed, so the same busybox gives the same
image id on every machine, and any engine that loads the archive agrees.
Source: Docker image-spec v1.2; OCI image-spec, layer.md (whiteouts).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

NAME = "startkit/base:latest"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # the kernel's word -> the image format's
CREATED = "2017-06-25T00:00:00Z"  # the article's day
MTIME = 1498348800
BUSYBOX = ("/usr/bin/busybox", "/bin/busybox")
# Without busybox: what the suites' containers run, as far as the host has it.
TOOLS = (
    "sh", "cat", "chmod", "chown", "cp", "date", "dd", "echo", "env", "false", "grep", "head",
    "hostname", "id", "kill", "ln", "ls", "mkdir", "mknod", "mount", "mv", "ps", "pwd",
    "readlink", "rm", "rmdir", "sed", "sleep", "sort", "stat", "stty", "tail", "tee", "test",
    "touch", "tr", "true", "tty", "umount", "uname", "wc", "whoami",
)  # fmt: skip
DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "home/guest": 0o755, "opt": 0o755,
    "proc": 0o555, "root": 0o700, "run": 0o755, "sys": 0o555, "tmp": 0o1777, "usr": 0o755,
    "usr/bin": 0o755, "usr/sbin": 0o755, "var": 0o755,
}  # fmt: skip
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
guest:x:1000:1000:guest:/home/guest:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
GROUP = """\
root:x:0:
daemon:x:1:
tty:x:5:
audio:x:29:guest
users:x:100:guest
guest:x:1000:
nogroup:x:65534:
"""
STEPS = (
    "a root file system",
    "files for the next layers to hide",
    "a whiteout: /etc/gone",
    "an opaque directory: /opt/dir, and a symlink",
    "a setuid file: /usr/bin/setuid-true",
)


class ImageError(Exception):
    """Why no image can be made, in one line."""


class Entry(NamedTuple):
    """One member of a layer. `target` makes a symlink of it, no content a directory."""

    path: str
    content: bytes | None = None
    mode: int = 0o644
    target: str = ""


def tar(entries: list[Entry]) -> bytes:
    """Return an uncompressed tar of the entries, in order, owned by root, with fixed times."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.mode, member.mtime = entry.mode, MTIME
            if entry.target:
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.target, 0o777
            elif entry.content is None:
                member.type = tarfile.DIRTYPE
            else:
                member.size = len(entry.content)
            archive.addfile(member, io.BytesIO(entry.content or b""))
    return buffer.getvalue()


def layers() -> list[bytes]:
    """Return the five layers' tars, base first. Raises ImageError."""
    etc, opt = Entry("etc", mode=0o755), Entry("opt", mode=0o755)
    directory = Entry("opt/dir", mode=0o755)
    user = [Entry("usr", mode=0o755), Entry("usr/bin", mode=0o755)]
    setuid = [Entry("usr/bin/setuid-true", b"#!/bin/sh\nexit 0\n", 0o4755)]
    one, two, three = (Entry(f"opt/dir/{n}", f"{n}\n".encode()) for n in ("one", "two", "three"))
    return [
        tar(root_entries()),
        tar([etc, Entry("etc/gone", b"hidden by the layer above\n"), opt, directory, one, two]),
        tar([etc, Entry("etc/.wh.gone", b"")]),
        tar([opt, directory, Entry("opt/dir/.wh..wh..opq", b""), three,
             Entry("opt/link", target="dir/three")]),
        tar(user + setuid),
    ]  # fmt: skip


def root_entries() -> list[Entry]:
    """Return the base layer, sorted by path."""
    entries = [Entry(path, mode=mode) for path, mode in DIRECTORIES.items()]
    entries += [Entry("etc/passwd", PASSWD.encode()), Entry("etc/group", GROUP.encode())]
    busybox = next((path for path in BUSYBOX if is_static(path)), None)
    entries += busybox_entries(busybox) if busybox else host_entries()
    return sorted({entry.path: entry for entry in entries}.values())


def is_static(path: str) -> bool:
    """Whether there is a program that needs no libraries."""
    return os.path.exists(path) and not libraries(path)


def busybox_entries(path: str) -> list[Entry]:
    """Return busybox and a link for each of its applets."""
    listed = subprocess.run([path, "--list"], capture_output=True, text=True, check=True)
    applets = set(listed.stdout.split()) - {"busybox"}
    links = [Entry(f"bin/{name}", target="busybox") for name in applets if "/" not in name]
    return [Entry("bin/busybox", Path(path).read_bytes(), 0o755), *links]


def host_entries() -> list[Entry]:
    """Return the host's shell and tools, and every library that they name.

    Raises ImageError where there is not even a shell.
    """
    programs = {name: found for name in TOOLS if (found := shutil.which(name))}
    if "sh" not in programs:
        raise ImageError("no busybox-static and no sh on this host: apt-get install busybox-static")
    entries = [Entry(f"bin/{n}", Path(p).read_bytes(), 0o755) for n, p in programs.items()]
    needed = {library for path in programs.values() for library in libraries(path)}
    for library in needed:
        path = library.lstrip("/")
        parents = [p.as_posix() for p in Path(path).parents if p.as_posix() != "."]
        entries += [Entry(parent, mode=0o755) for parent in parents if parent not in DIRECTORIES]
        entries.append(Entry(path, Path(library).read_bytes(), 0o755))
    return entries


def libraries(program: str) -> list[str]:
    """Return the paths that ldd names for a program; none for a script or a static one."""
    ldd = subprocess.run(
        ["ldd", program], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    )
    if ldd.returncode:
        return []
    return re.findall(r"(?:=> |^\s*)(/\S+) \(0x", ldd.stdout, flags=re.MULTILINE)


def config(diff_ids: list[str]) -> bytes:
    """Return the image's configuration document."""
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    document = {
        "architecture": MACHINES.get(os.uname().machine, os.uname().machine),
        "config": {"Cmd": ["/bin/sh"], "Env": [path]},
        "created": CREATED,
        "history": [
            {"created": CREATED, "created_by": f"startkit image base: {step}"} for step in STEPS
        ],
        "os": "linux",
        "rootfs": {"diff_ids": diff_ids, "type": "layers"},
    }
    return encode(document)


def encode(document: Any) -> bytes:
    """Return JSON with a fixed order and no spaces."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def base() -> tuple[str, bytes]:
    """Return the image's id and its `docker save` archive. Raises ImageError."""
    tars = layers()
    digests = [hashlib.sha256(layer).hexdigest() for layer in tars]
    document = config([f"sha256:{digest}" for digest in digests])
    name = hashlib.sha256(document).hexdigest()
    manifest = [
        {
            "Config": f"{name}.json",
            "RepoTags": [NAME],
            "Layers": [f"{digest}/layer.tar" for digest in digests],
        }
    ]
    entries = [Entry(f"{name}.json", document)]
    for digest, layer in zip(digests, tars, strict=True):
        entries += [Entry(digest, mode=0o755), Entry(f"{digest}/layer.tar", layer)]
    entries.append(Entry("manifest.json", encode(manifest)))
    return f"sha256:{name}", tar(entries)
