"""Image archives as hypothesis draws them: members that no tar program would write."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import tarfile

from drawn import mangled, odd
from hypothesis import strategies as st

NAMES = [*["a", "d", "d/a", "l", "l/x", "d/l/x", "etc/passwd"] * 3, "../x", "/abs", "d/../../x", "./",
         "", ".", "..", "a/", "//", "d//a", "./../x", ".wh.a", ".wh.d", "d/.wh.a", ".wh..wh..opq",
         "d/.wh..wh..opq", "a/.wh..wh..opq", ".wh.", ".wh..", ".wh...", ".wh..wh.", ".wh..wh.plnk",
         ".wh.é", "é\udcff", "\x1b[2J", "a\nb", "x" * 300, "y/" * 200 + "z", "dev/null",
         "proc/self/root/x", "manifest.json", "dev", "proc", ".dockerenv"]  # fmt: skip
LINKS = ["/etc", "..", "../../../../../../etc", "/", "l", "a", "d", "d/a", ".", "", "/proc/self/root", "../x",
         "/proc/1/cwd", "x" * 5000]  # fmt: skip
KINDS = (
    [b"0"] * 6 + [b"5"] * 4 + [b"2"] * 4 + [b"1"] * 3 + [bytes([n]) for n in b"34670LKSxgVNZ\xff"]
)
PAX = [{"path": "../x"}, {"path": "/x"}, {"linkpath": "/etc"}, {"size": "99999999999"}, {"mtime": "nan"},
       {"mtime": "1e400"}, {"mtime": "-1"}, {"uid": "-1"}, {"uid": "4294967296"}, {"gid": "x"},
       {"SCHILY.xattr.trusted.overlay.opaque": "y"}, {"SCHILY.xattr.": "y"}, {"SCHILY.xattr.user.a": "b" * 70000},
       {"SCHILY.xattr.security.capability": "x"}, {"SCHILY.xattr.nowhere.a": "b"}, {"x" * 300: "y"},
       {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**50)},
       {"GNU.sparse.map": "0,1,9999999999,1", "GNU.sparse.size": str(2**62)},
       {"GNU.sparse.map": "0,-1"}, {"GNU.sparse.numblocks": "9"}, {"hdrcharset": "BINARY"}, {"comment": "\0"},
       {"GNU.sparse.name": "../x"}, {"path": "a\0b"}, {"path": ""}]  # fmt: skip
NUMBERS = {
    "mode": 0o7777,
    "uid": 2**31,
    "gid": 2**21,
    "mtime": 2**33,
    "devmajor": 2**20,
    "devminor": 2**20,
}
TOKENS = [b"\0" * 512, b"\0", b"../", b"/", b".wh.", b"7777777777\0", b"\xff" * 8, b"\x80" + b"\xff" * 11,
          b"-1", b"ustar\x0000", b"5", b"1", b"2", b"\x1f\x8b\x08\0", b"BZh9", b"\xfd7zXZ\0"]  # fmt: skip
PACK = [*[bytes] * 5, gzip.compress, bz2.compress, lzma.compress, lambda data: gzip.compress(data)[:-9],
        lambda data: gzip.compress(data) + b"rubbish", lambda data: b"\x28\xb5\x2f\xfd" + data,
        lambda data: gzip.compress(gzip.compress(data))]  # fmt: skip
HUGE = 256 << 20  # more than the cage's disk


def member(name, content=b"", kind=b"0", pax=None, **fields):
    """Return one member's bytes; its size is its content's unless `size` says otherwise."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.pax_headers = kind, len(content), pax or {}
    for key, value in fields.items():
        setattr(info, key, value)
    head = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return head + content + bytes(-len(content) % 512)


def tar(*members):
    """Return an archive of members."""
    return b"".join(members) + bytes(1024)


BOMBS = [gzip.compress(member("big", size=HUGE) + bytes(HUGE), 1), gzip.compress(bytes(HUGE), 1)]
DEEP = [b"[" * 400_000, b'[{"Config":' * 50_000, b'{"rootfs":' * 50_000, b"", b"\xff", b"null"]


@st.composite
def members(draw):
    """Draw one member."""
    fields = draw(st.dictionaries(st.sampled_from(list(NUMBERS)), st.integers(0, 9), max_size=1))
    fields = {key: NUMBERS[key] * n // 8 for key, n in fields.items()}
    if draw(st.integers(0, 9)) == 0:
        fields["size"] = draw(st.sampled_from([1, 511, 513, 2**33 - 1, 2**40, 2**62]))
    pax = draw(st.sampled_from([{}] * 60 + PAX))
    content, kind = draw(st.sampled_from([b"", b"x", b"y" * 1025])), draw(st.sampled_from(KINDS))
    link = draw(st.sampled_from(LINKS))
    return member(draw(st.sampled_from(NAMES)), content, kind, pax, linkname=link, **fields)


@st.composite
def layers(draw):
    """Draw a layer's archive, packed or not, whole or not."""
    if draw(st.integers(0, 60)) == 0:
        return draw(st.sampled_from(BOMBS))
    data = draw(st.sampled_from(PACK))(tar(*draw(st.lists(members(), max_size=8))))
    return draw(mangled(data, TOKENS)) if draw(st.integers(0, 3)) == 0 else data


@st.composite
def saved(draw):
    """Draw a `docker save` archive: its parts good or odd, among members that nobody needs."""
    parts = draw(st.lists(layers(), max_size=3))
    digests = [f"sha256:{hashlib.sha256(part).hexdigest()}" for part in parts]
    files = [f"{number}/layer.tar" for number, _ in enumerate(parts)]
    config = {"os": "linux", "config": {"Cmd": ["x"], "Env": ["A=1"]}, "history": [{"created": "x"}],
              "rootfs": {"type": "layers", "diff_ids": digests}}  # fmt: skip
    manifest = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": files}]
    if draw(st.booleans()):
        config, manifest = draw(odd(config, 1)), draw(odd(manifest, 1))
    texts = [json.dumps(config).encode(), json.dumps(manifest).encode()]
    if draw(st.integers(0, 15)) == 0:
        texts[draw(st.integers(0, 1))] = draw(st.sampled_from(DEEP))
    if draw(st.integers(0, 9)) == 0:
        way = draw(
            st.sampled_from(["/etc/passwd", "../../../etc/passwd", "..", "c.json", "manifest.json"])
        )
        if isinstance(manifest, list) and manifest and isinstance(manifest[0], dict):
            manifest[0][draw(st.sampled_from(["Config", "Layers"]))] = draw(
                st.sampled_from([way, [way]])
            )
            texts[1] = json.dumps(manifest).encode()
    whole = [member("c.json", texts[0]), member("manifest.json", texts[1])]
    whole += [member(*found) for found in zip(files, parts, strict=True)]
    whole += draw(st.lists(members(), max_size=2))
    data = draw(st.sampled_from(PACK[:8]))(tar(*draw(st.permutations(whole))))
    return draw(mangled(data, TOKENS)) if draw(st.integers(0, 5)) == 0 else data
