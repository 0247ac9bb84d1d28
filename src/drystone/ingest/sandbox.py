"""What a parser's process gives up before it sees a document, and what it may use at most.

Guarantees on Linux (x86-64, AArch64): ``enter`` says for each wall whether it stands. *seccomp* (a filter of our
own, Linux 3.17): sockets, io_uring, new programs and processes, signals to, limits of and looks into other processes,
changes of a file's name, size, mode, times or attributes, shared memory and the like fail with EPERM. *network
namespace*: no device but an unconfigured loopback. *landlock* (Linux 5.13): files can be read only where Python and
the system's libraries lie, nothing can be written; newer kernels' rights (truncation, TCP, abstract sockets, signals)
are given up too. Elsewhere the limits of ``setrlimit`` stand alone, and it says so.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
# Numbers of the system calls that are denied, by machine: sockets, programs and processes, other processes' memory,
# keys, namespaces and mounts, io_uring (which opens sockets by itself), what stays after the process has ended. The
# second list holds those that a process may do to itself (0 or its number as first argument) only.
_DENIED = {
    "x86_64": (0xC000003E, (
        41, 42, 43, 44, 46, 49, 50, 53, 288, 299, 307,          # socket .. listen, socketpair, accept4, *mmsg
        57, 58, 59, 322,                                        # fork, vfork, execve, execveat
        101, 310, 311, 312, 434, 438, 62, 200,                  # ptrace, process_vm_*, kcmp, pidfd_*, kill
        248, 249, 250, 425, 426, 427, 321, 298, 323,            # keys, io_uring, bpf, perf_event_open, userfaultfd
        165, 166, 155, 161, 272, 308, 428, 429, 430, 431, 432, 442,  # mounts, chroot, namespaces
        82, 83, 84, 85, 86, 87, 88, 90, 92, 264, 258, 263, 265, 266, 268, 260, 316,  # names and modes of files
        76, 91, 93, 94, 132, 133, 235, 259, 261, 280, 285, 452,  # truncate, fchmod, fchown, mknod, utime*, fallocate
        188, 189, 190, 197, 198, 199, 463, 466, 469, 300, 304,   # *xattr, file_setattr, fanotify, open_by_handle_at
        129, 297, 424, 141, 251, 256, 279, 440, 448,             # signals, priorities and memory of others
        29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 220, 240, 241,   # shared memory, semaphores, queues
        103, 159, 163, 164, 167, 168, 169, 170, 171, 172, 173, 175, 176, 179, 227, 246, 305, 313, 320,  # the system
    ), (302, 203, 142, 144, 314, 234), 56, 435),
    "aarch64": (0xC00000B7, (
        198, 199, 200, 201, 202, 203, 206, 211, 242, 243, 269,
        221, 281,
        117, 270, 271, 272, 434, 438, 129, 130,
        217, 218, 219, 425, 426, 427, 280, 241, 282,
        40, 39, 41, 51, 97, 268, 428, 429, 430, 431, 432, 442,
        38, 34, 35, 36, 37, 53, 54, 276,
        45, 47, 52, 55, 33, 88, 452,
        5, 6, 7, 14, 15, 16, 463, 466, 469, 262, 265,
        138, 240, 424, 140, 30, 238, 239, 440, 448,
        190, 191, 192, 193, 194, 195, 196, 186, 187, 188, 189, 180, 181,
        116, 171, 89, 170, 224, 225, 142, 161, 162, 105, 106, 60, 112, 104, 266, 273, 294,
    ), (261, 122, 118, 119, 274, 131), 220, 435),
}  # fmt: skip
_NEW_USER, _NEW_NET, _THREAD = 0x10000000, 0x40000000, 0x00010000


def enter(memory_mb: int) -> dict[str, bool]:
    """Put up every wall that this system has. Call once, before the first document."""
    _limits(memory_mb)
    state = {"limits": True, "network_namespace": False, "landlock": False, "seccomp": False}
    if sys.platform != "linux":
        return state
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: no core, no look from outside
    state["network_namespace"] = libc.unshare(_NEW_USER | _NEW_NET) == 0
    if libc.prctl(38, 1, 0, 0, 0) == 0:  # PR_SET_NO_NEW_PRIVS, which both of these need
        state["landlock"] = _landlock(libc)
        state["seccomp"] = _seccomp(libc)
    return state


def _limits(memory_mb: int) -> None:
    memory = memory_mb << 20
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def allow_seconds(seconds: float) -> None:
    """Time for the next document; the kernel ends the process when its CPU has used it up, or twice that has passed."""
    signal.alarm(int(2 * seconds) + 1)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime + seconds) + 1, hard))


def rest() -> None:
    """No document is being parsed: waiting costs nothing."""
    signal.alarm(0)


def _seccomp(libc: ctypes.CDLL) -> bool:
    machine = _DENIED.get(platform.machine())
    if machine is None or struct.calcsize("P") != 8:
        return False
    arch, denied, own, clone, clone3 = machine
    program: list[tuple[int, int, int, int]] = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL)]
    program.append((_LOAD, 0, 0, 0))
    if platform.machine() == "x86_64":  # the x32 doors to the same calls
        program += [(0x35, 0, 1, 0x40000000), (_RETURN, 0, 0, _EPERM)]
    for number in denied:
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _EPERM)]
    for number in own:
        program += [(_EQUAL, 0, 5, number), (_LOAD, 0, 0, 16), (_EQUAL, 2, 0, 0), (_EQUAL, 1, 0, os.getpid())]
        program += [(_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _ALLOW)]
    program += [(_EQUAL, 0, 1, clone3), (_RETURN, 0, 0, _ENOSYS)]  # its flags lie in memory: C libraries fall back
    program += [(_EQUAL, 0, 3, clone), (_LOAD, 0, 0, 16), (0x45, 1, 0, _THREAD), (_RETURN, 0, 0, _EPERM)]
    program.append((_RETURN, 0, 0, _ALLOW))
    raw = b"".join(struct.pack("<HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(raw, len(raw))

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]

    given = Filter(len(program), ctypes.cast(buffer, ctypes.c_void_p))
    return bool(libc.prctl(22, 2, ctypes.byref(given), 0, 0) == 0)


def _landlock(libc: ctypes.CDLL) -> bool:
    """Reading below Python's and the system's folders only; every other use of a file is denied."""
    create, add, restrict = 444, 445, 446
    read_file, read_dir = 1 << 2, 1 << 3
    version = libc.syscall(create, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    files = {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)  # rights that it knows: all are given up
    handled = struct.pack("<QQQ", (1 << files) - 1, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = libc.syscall(create, handled, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    folders = {sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null"}
    folders |= {sysconfig.get_path("stdlib"), *(p for p in sys.path if p), "/dev/urandom"}
    for folder in sorted(os.path.realpath(f) for f in folders):
        try:
            handle = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not on this system
        rights = read_file | read_dir if os.path.isdir(folder) else read_file
        rule = ctypes.create_string_buffer(struct.pack("<Qi", rights, handle), 12)
        libc.syscall(add, ruleset, 1, rule, 0)
        os.close(handle)
    done = libc.syscall(restrict, ruleset, 0)
    os.close(ruleset)
    return bool(done == 0)
