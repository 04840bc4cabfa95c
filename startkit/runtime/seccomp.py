"""Seccomp: the profile of config.json as a BPF program, and its loading.

Rule: libseccomp only translates. It is loaded when there is a profile, in the runtime, before
anything is made; init gets finished instructions, which seccomp(2) takes.

Source: OCI config-linux.md Seccomp, seccomp(2), seccomp_rule_add(3), libcontainer/seccomp.
"""

from __future__ import annotations

import ctypes
import os
import struct

from startkit import kernel
from startkit.runtime.text import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIBRARY = "libseccomp.so.2"
PATH = "config.json /linux/seccomp"
ALLOW, ERRNO, TRACE = 0x7FFF0000, 0x00050000, 0x7FF00000
NOTIFY = "SCMP_ACT_NOTIFY"
ACTIONS = {"SCMP_ACT_KILL": 0, "SCMP_ACT_KILL_THREAD": 0, "SCMP_ACT_KILL_PROCESS": 0x80000000,
           "SCMP_ACT_TRAP": 0x00030000, "SCMP_ACT_ERRNO": ERRNO, "SCMP_ACT_TRACE": TRACE,
           "SCMP_ACT_LOG": 0x7FFC0000, "SCMP_ACT_ALLOW": ALLOW, NOTIFY: 0x7FC00000}  # fmt: skip
OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")  # numbered from 1
FLAGS = {"SECCOMP_FILTER_FLAG_TSYNC": 1, "SECCOMP_FILTER_FLAG_LOG": 2,
         "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4}  # fmt: skip
PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
EPERM, ENOSYS = 1, 38
SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
SET_MODE_FILTER, TSYNC, NEW_LISTENER = 1, 1, 8
X86_64, X32, X32_BIT = 0xC000003E, 0x4000003E, 0x40000000
# BPF: load a word of struct seccomp_data, jumps, return
LOAD, JUMP, EQUAL, GREATER, AT_LEAST, RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x06


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp: one condition on an argument of a system call."""

    _fields_ = (("index", ctypes.c_uint), ("op", ctypes.c_int),
                ("value", ctypes.c_uint64), ("value_two", ctypes.c_uint64))  # fmt: skip


class Filter:
    """A profile ready to be loaded: the program, its flags for seccomp(2).

    `listener`: the socket of the agent that decides about calls, and a word for it; or None.
    """

    def __init__(self, program: bytes, flags: int, listener: tuple[str, str] | None) -> None:
        # With a listener there is but one thread to synchronise, and the kernel takes no TSYNC.
        self.flags = flags & ~TSYNC | NEW_LISTENER if listener else flags
        self.program, self.listener = program, listener

    def load(self) -> int:
        """Put the calling process under the filter; return its listener, or 0. Raises OSError."""
        text = ctypes.create_string_buffer(self.program, len(self.program))
        header = struct.pack("@HP", len(self.program) // 8, ctypes.addressof(text))
        result = kernel.libc.syscall(
            SYS_SECCOMP, SET_MODE_FILTER, self.flags, ctypes.create_string_buffer(header)
        )
        return kernel.check(result, "seccomp")


def compile_profile(profile: dict[str, Any]) -> Filter | None:
    """Translate a profile; None where it allows everything. Raises ContainerError."""
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    rules = [r for r in profile.get("syscalls") or () if rule_action(r) != default]
    flags = sum(FLAGS[name] for name in set(profile.get("flags") or ()))
    if default == ALLOW and not rules:
        return None
    listener = find_listener(profile)
    library = open_library()
    context = library.seccomp_init(default)
    if not context:
        raise ContainerError(f"{PATH}/defaultAction: refused by libseccomp")
    try:
        tokens = add_architectures(library, context, profile.get("architectures") or [])
        for rule in rules:
            add_rule(library, context, rule)
        program = export(library, context)
    finally:
        library.seccomp_release(context)
    if profile["defaultAction"] not in PERMISSIVE and default != ERRNO | ENOSYS:
        program = unknown_calls(newest_calls(library, tokens, profile)) + program
    return Filter(program, flags, listener)


def find_listener(profile: dict[str, Any]) -> tuple[str, str] | None:
    """Return the agent's socket and the word for it, where a rule asks the agent.

    Raises ContainerError; write(2) is how init tells of its listener, so nobody else may answer.
    """
    if profile["defaultAction"] == NOTIFY:
        raise ContainerError(f"{PATH}/defaultAction: {NOTIFY} cannot be used as default action")
    asking = [rule for rule in profile.get("syscalls") or () if rule["action"] == NOTIFY]
    if any("write" in rule["names"] for rule in asking):
        raise ContainerError(f"{PATH}/syscalls: {NOTIFY} cannot be used for the write syscall")
    if asking and not profile.get("listenerPath"):
        raise ContainerError(f"{PATH}/listenerPath: is required with {NOTIFY}")
    return (profile["listenerPath"], profile.get("listenerMetadata") or "") if asking else None


def open_library() -> ctypes.CDLL:
    """Open libseccomp with the types of what is used of it. Raises ContainerError."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        words = f"the profile needs {LIBRARY}, which is not installed"
        raise ContainerError(f"{PATH}: {words}") from None
    pointer, word = ctypes.c_void_p, ctypes.c_uint32
    library.seccomp_init.restype = pointer
    library.seccomp_init.argtypes = (word,)
    library.seccomp_release.argtypes = (pointer,)
    library.seccomp_arch_resolve_name.restype = word
    library.seccomp_arch_add.argtypes = (pointer, word)
    library.seccomp_syscall_resolve_name_arch.argtypes = (word, ctypes.c_char_p)
    library.seccomp_arch_native.restype = word
    comparisons = ctypes.POINTER(Comparison)
    library.seccomp_rule_add_array.argtypes = (pointer, word, ctypes.c_int, word, comparisons)
    library.seccomp_export_bpf.argtypes = (pointer, ctypes.c_int)
    return library


def action(name: str, number: int | None) -> int:
    """Return an action as the kernel's number; only two of them carry one of ours."""
    value = ACTIONS[name]
    carries = value in (ERRNO, TRACE)
    return value | (EPERM if number is None else number) & 0xFFFF if carries else value


def rule_action(rule: dict[str, Any]) -> int:
    """Return a rule's action; one that is the default's is left out, as runc does."""
    return action(rule["action"], rule.get("errnoRet"))


def add_architectures(library: ctypes.CDLL, context: int, names: list[str]) -> list[int]:
    """Add architectures to the native one; return the tokens of those named."""
    tokens = []
    for index, name in enumerate(names):
        word = os.fsencode(name.removeprefix("SCMP_ARCH_").lower())
        token = library.seccomp_arch_resolve_name(word)
        if token == 0 or not name.startswith("SCMP_ARCH_"):
            raise ContainerError(f"{PATH}/architectures/{index}: {name} is not known to libseccomp")
        code = library.seccomp_arch_add(context, token)
        if code not in (0, -17):  # EEXIST: the native one is there from the start
            raise ContainerError(f"{PATH}/architectures/{index}: {os.strerror(-code)}")
        tokens.append(token)
    return tokens or [library.seccomp_arch_native()]


def add_rule(library: ctypes.CDLL, context: int, rule: dict[str, Any]) -> None:
    """Add one entry of `syscalls`; names that libseccomp does not know are passed over."""
    found = [
        Comparison(a["index"], 1 + OPERATORS.index(a["op"].removeprefix("SCMP_CMP_")),
                   a["value"], a.get("valueTwo") or 0)
        for a in rule.get("args") or ()
    ]  # fmt: skip
    # libseccomp takes one condition an argument: more of them are alternatives.
    twice = len({one.index for one in found}) < len(found)
    alternatives = [[one] for one in found] if twice else [found]
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(os.fsencode(name))
        for each in alternatives if number != -1 else ():
            array = (Comparison * len(each))(*each)
            code = library.seccomp_rule_add_array(
                context, rule_action(rule), number, len(each), array
            )
            if code:
                raise ContainerError(f"{PATH}: rule for {name}: {os.strerror(-code)}")


def export(library: ctypes.CDLL, context: int) -> bytes:
    """Return the finished program, 8 bytes an instruction."""
    fd = os.memfd_create("seccomp")
    with open(fd, "rb") as file:
        code = library.seccomp_export_bpf(context, fd)
        if code:
            raise ContainerError(f"{PATH}: {os.strerror(-code)}")
        file.seek(0)
        return file.read()


def newest_calls(
    library: ctypes.CDLL, tokens: list[int], profile: dict[str, Any]
) -> dict[int, int]:
    """Return the highest call number that the profile names, for each architecture's token."""
    names = {os.fsencode(n) for rule in profile.get("syscalls") or () for n in rule["names"]}
    resolve = library.seccomp_syscall_resolve_name_arch
    return {token: max([0, *(resolve(token, name) for name in names)]) for token in tokens}


def unknown_calls(newest: dict[int, int]) -> bytes:
    """Return instructions that answer ENOSYS for calls newer than any the profile names.

    The author of the profile did not know them, so programs shall fall back as on an old
    kernel, which they do not do for EPERM. Source: libcontainer/seccomp/patchbpf.
    """
    parts: list[list[tuple[int, int, int, int]]] = []
    for token in dict.fromkeys(X86_64 if t == X32 else t for t in newest):
        plain, x32 = refuse_above(newest.get(token)), refuse_above(newest.get(X32))
        body = [(LOAD, 0, 0, 0)]
        if token == X86_64:
            body += [(AT_LEAST, len(plain) + 1, 0, X32_BIT), *plain, (JUMP, 0, 0, len(x32)), *x32]
        else:
            body += plain
        parts.append([(EQUAL, 0, len(body) + 1, token), *body])
    after = sum(len(part) + 1 for part in parts)
    program = [(LOAD, 0, 0, 4)]
    for part in parts:
        after -= len(part) + 1
        program += [*part, (JUMP, 0, 0, after)]
    return b"".join(struct.pack("=HBBI", *one) for one in program)


def refuse_above(newest: int | None) -> list[tuple[int, int, int, int]]:
    """Return the two instructions that answer ENOSYS for numbers above `newest`, if there is."""
    if newest is None:
        return []
    return [(GREATER, 0, 1, newest), (RETURN, 0, 0, ERRNO | ENOSYS)]
