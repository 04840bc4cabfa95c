"""Device rules for cgroup v2: a small BPF program, assembled here.

Rule: the last rule that fits decides, as in v1's list; where none fits, access is denied.
So the program asks the rules from the last to the first and leaves at the first that fits.

Source: bpf(2), kernel's Documentation/bpf/standardization/instruction-set.rst,
linux/bpf.h `struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }`.
"""

from __future__ import annotations

import ctypes
import os
import struct

from startkit import kernel
from startkit.runtime.resources import access_letters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
PROG_LOAD, PROG_ATTACH = 5, 8
TYPE_CGROUP_DEVICE, ATTACH_CGROUP_DEVICE, ALLOW_MULTI = 15, 6, 2

ACCESS = {"m": 1, "r": 2, "w": 4}
KIND = {"b": 1, "c": 2}
# opcodes: load 32 bits, 32-bit and, 32-bit shift right, 32-bit move, jumps, exit
LOAD, AND, SHIFT, MOVE, MOVE_CONST = 0x61, 0x54, 0x74, 0xBC, 0xB4
UNLESS_CONST, UNLESS_EQUAL, IF_CONST, EXIT = 0x56, 0x5E, 0x16, 0x95
# registers: 1 the context, 2 the device's kind, 3 what is asked for, 4 major, 5 minor, 0 the answer
CONTEXT, KIND_OF, ASKED, MAJOR, MINOR, SCRATCH = 1, 2, 3, 4, 5, 1


def instruction(code: int, to: int = 0, source: int = 0, jump: int = 0, value: int = 0) -> bytes:
    """Return one instruction, 8 bytes."""
    return struct.pack("=BBhi", code, to | source << 4, jump, value)


def program(rules: list[dict[str, Any]], always: Iterable[str]) -> bytes:
    """Return the program for a config's rules and the ones that are always allowed."""
    found = [parse(rule) for rule in rules] + [parse_text(text) for text in always]
    code = [
        instruction(LOAD, KIND_OF, CONTEXT, 0),
        instruction(MOVE, ASKED, KIND_OF),
        instruction(AND, KIND_OF, value=0xFFFF),
        instruction(SHIFT, ASKED, value=16),
        instruction(LOAD, MAJOR, CONTEXT, 4),
        instruction(LOAD, MINOR, CONTEXT, 8),
    ]
    for rule in reversed(found):
        code.extend(block(*rule))
    code += answer(False)
    return b"".join(code)


def block(allow: bool, kind: str, major: int, minor: int, access: str) -> list[bytes]:
    """Return the instructions of one rule: each test jumps behind the block when it fails.

    An allowing rule fits when all of what is asked for is in it, a denying one when any is.
    """
    mask = sum(ACCESS[letter] for letter in set(access))
    tests = []
    if kind != "a":
        tests.append((UNLESS_CONST, KIND_OF, 0, KIND[kind]))
    if major >= 0:
        tests.append((UNLESS_CONST, MAJOR, 0, major))
    if minor >= 0:
        tests.append((UNLESS_CONST, MINOR, 0, minor))
    code = [(MOVE, SCRATCH, ASKED, 0), (AND, SCRATCH, 0, mask)]
    tests.append((UNLESS_EQUAL, SCRATCH, ASKED, 0) if allow else (IF_CONST, SCRATCH, 0, 0))
    body = [*tests[:-1], *code, tests[-1]]
    jumps = {UNLESS_CONST, UNLESS_EQUAL, IF_CONST}
    end = len(body) + 2
    return [
        instruction(op, a, b, end - at - 1 if op in jumps else 0, value)
        for at, (op, a, b, value) in enumerate(body)
    ] + answer(allow)


def answer(allow: bool) -> list[bytes]:
    """Return the two instructions that end the program."""
    return [instruction(MOVE_CONST, 0, value=int(allow)), instruction(EXIT)]


def parse(rule: dict[str, Any]) -> tuple[bool, str, int, int, str]:
    """Return a config's rule as (allow, kind, major, minor, access), -1 for any number."""
    major, minor = (-1 if rule.get(k) is None else rule[k] for k in ("major", "minor"))
    kind = rule.get("type") or "a"
    return bool(rule.get("allow")), kind, major, minor, access_letters(rule)


def parse_text(text: str) -> tuple[bool, str, int, int, str]:
    """Return an allowing rule in v1's words, such as `c 1:3 rwm`, in the same form."""
    kind, numbers, access = text.split()
    major, minor = (-1 if n == "*" else int(n) for n in numbers.split(":"))
    return True, kind, major, minor, access


def call_bpf(command: int, attributes: bytes, what: str) -> int:
    """Call the kernel with one of the attribute structures of bpf(2)."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    size = ctypes.c_size_t(len(attributes))
    return kernel.check(kernel.libc.syscall(SYS_BPF, command, buffer, size), "bpf", what)


def attach(directory: str, code: bytes) -> None:
    """Load a program and attach it to the cgroup `directory`, beside its ancestors' ones."""
    text, licence = ctypes.create_string_buffer(code, len(code)), ctypes.c_char_p(b"Apache-2.0")
    load = struct.pack(
        "=IIQQIIQII", TYPE_CGROUP_DEVICE, len(code) // 8, ctypes.addressof(text),
        ctypes.cast(licence, ctypes.c_void_p).value, 0, 0, 0, 0, 0,
    )  # fmt: skip
    loaded = call_bpf(PROG_LOAD, load, "load the device rules")
    cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    attach_to = struct.pack("=IIII", cgroup, loaded, ATTACH_CGROUP_DEVICE, ALLOW_MULTI)
    try:
        call_bpf(PROG_ATTACH, attach_to, directory)
    finally:
        os.close(cgroup)
        os.close(loaded)
