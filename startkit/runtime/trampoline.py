"""The last hop: a few instructions between the interpreter and the user's program.

Rule: nothing of the container is ever executed by a process whose /proc/self/exe is the
host's interpreter. Else an image that names /proc/self/exe as its program, behind `#!` or
as its loader has the interpreter run with a loader of its own, and keeps a descriptor to
write to the host's file with once that runs no more (CVE-2019-5736). To look at the
program first would not do: who shares the rootfs swaps it after the look. So init, not
dumpable until then, executes a file that exists in memory only, and this executes the
program. What can be reached in between is that file, the stdio, the descriptors that the
caller preserves and the one to tell a failure on, which a successful exec closes.

What is left: a container with CAP_SYS_PTRACE in the host's user namespace may trace who
enters it; its owner has made it root on the host.

Source: elf(5), execve(2), memfd_create(2); System V ABI, the stack at process entry.
"""

from __future__ import annotations

import ctypes
import os
import struct

from startkit import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from startkit.runtime.seccomp import Filter

MFD_CLOEXEC, MFD_EXEC, EINVAL = 1, 0x10, 22
AT_EMPTY_PATH, F_SETFD, FD_CLOEXEC, SET_MODE_FILTER = 0x1000, 2, 1, 1
BASE, HEADERS = 0x10000, 64 + 2 * 56
STACK = -1  # as an argument of `call`: the stack pointer
ARM = os.uname().machine == "aarch64"
WRITE, FCNTL, SECCOMP, EXIT_GROUP, EXECVEAT = (
    (64, 25, 277, 94, 281) if ARM else (1, 72, 317, 231, 322)
)
# The stack starts with argc and argv, then envp: execve(argv[0], argv + 1, envp).
# ldr x3,[sp]; ldr x0,[sp,8]; add x1,sp,16; add x2,x1,x3,lsl 3; mov x8,221; svc 0
# mov rcx,[rsp]; mov rdi,[rsp+8]; lea rsi,[rsp+16]; lea rdx,[rsp+8*rcx+16]; mov eax,59; syscall
EXECUTE = bytes.fromhex(
    "e30340f9 e00740f9 e1430091 220c038b a81b80d2 010000d4"
    if ARM
    else "488b0c24 488b7c2408 488d742410 488d54cc10 b83b000000 0f05"
)
KEEP = bytes.fromhex("e00f1ff8" if ARM else "50")  # the result, to the stack


def unless_error(code: bytes) -> bytes:
    """Return `code`, passed over where the last call's result is an error."""
    if ARM:  # tbnz x0,63
        return struct.pack("<I", 0xB7F80000 | len(code) // 4 + 1 << 5) + code
    return b"\x85\xc0\x78" + bytes([len(code)]) + code  # test eax,eax; js


def call(number: int, *arguments: int) -> bytes:
    """Return the instructions of one system call; the values have at most 32 bits."""
    if ARM:  # movz and movk for each register, or mov x1,sp
        words = []
        for register, value in (*enumerate(arguments), (8, number)):
            low, high = value & 0xFFFF, value >> 16
            words += [0xD2800000 | low << 5 | register, 0xF2A00000 | high << 5 | register]
            if value == STACK:
                words[-2:] = [0x910003E0 | register]
        return struct.pack(f"<{len(words) + 1}I", *words, 0xD4000001)
    code = b""
    for opcode, value in zip(b"\xbf\xbe\xba", arguments, strict=False):  # edi esi edx
        code += struct.pack("<BI", opcode, value) if value != STACK else b"\x48\x89\xe6"
    return code + struct.pack("<BI", 0xB8, number) + b"\x0f\x05"


def program(report: int, words: bytes, profile: Filter | None) -> bytes:
    """Return the file: set the filter, execute argv[0], or tell `words` and errno.

    Executed once more, by an image that names /proc/self/exe, it finds `report` closed and ends.
    """
    flags, bpf = (profile.flags, profile.program) if profile else (0, b"")
    data = BASE + HEADERS
    for _ in range(2):  # the data stand behind the code, whose length is known after one round
        body = unless_error(EXECUTE)
        if profile:
            body = unless_error(call(SECCOMP, SET_MODE_FILTER, flags, data) + body)
        code = call(FCNTL, report, F_SETFD, FD_CLOEXEC) + body + KEEP
        code += call(WRITE, report, data + 16 + len(bpf), len(words))
        code += call(WRITE, report, STACK, 8) + call(EXIT_GROUP, 1)
        header = struct.pack("<HxxxxxxQ", len(bpf) // 8, data + 16)  # struct sock_fprog
        data = BASE + HEADERS + len(code)
    return elf(code + header + bpf + words)


def elf(text: bytes) -> bytes:
    """Return an executable of `text` alone, loaded whole, and a stack that is no code."""
    size = HEADERS + len(text)
    header = struct.pack("<4sBBB9xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 2, 183 if ARM else 62, 1,
                         BASE + HEADERS, 64, 0, 0, 64, 56, 2, 0, 0, 0)  # fmt: skip
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x10000)
    stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)
    return header + load + stack + text


def build(report: int, words: str, profile: Filter | None) -> int:
    """Return a descriptor of the program as a file in memory.

    `report`: where a failure is told, `words` and eight bytes of -errno; see `text.told`.
    """
    name = b"startkit-runc"
    memfd_create = kernel.libc.memfd_create
    fd = memfd_create(name, MFD_CLOEXEC | MFD_EXEC)
    if fd == -1 and ctypes.get_errno() == EINVAL:  # before Linux 6.3 all of them can be executed
        fd = memfd_create(name, MFD_CLOEXEC)
    kernel.check(fd, "memfd_create")
    os.write(fd, program(report, words.encode() + b"\0", profile))
    # Who has it open to write cannot execute it, and /proc/self/fd would be the container's.
    reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.close(fd)
    return reader


def jump(fd: int, report: int, words: list[str], environment: dict[str, str]) -> None:
    """Execute the program; `words` are the path, then argv. Raises OSError, having closed nothing.

    Not os.execve, which takes a detour over the container's /proc where the call is refused.
    """
    os.set_inheritable(report, True)
    pairs = [f"{key}={value}" for key, value in environment.items()]
    argv, envp = (
        (ctypes.c_char_p * (len(texts) + 1))(*map(os.fsencode, texts), None)
        for texts in (words, pairs)
    )
    result = kernel.libc.syscall(EXECVEAT, fd, b"", argv, envp, AT_EMPTY_PATH)
    kernel.check(result, "execveat")
