"""What a process that parses untrusted bytes may use: memory, time, files; no network and no programs.

This bounds faults and makes a takeover poorer. It is no prison: the process keeps its user's rights on files.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys

OPEN_FILES = 1024  # the usual limit of a shell: a leak of files ends in the input's error, not in the machine's
SPARE_CPU_S = 10.0  # beyond the wall limit, which the parent enforces: the kernel's own limit is for when it cannot
_SET_PARENT_DEATH_SIGNAL, _SET_NO_NEW_PRIVILEGES = 1, 38  # of Linux's prctl(2)
_MODE_FILTER, _ALL_THREADS = 1, 1  # SECCOMP_SET_MODE_FILTER and SECCOMP_FILTER_FLAG_TSYNC of seccomp(2)
_AF_UNIX = 1
# Per machine: AUDIT_ARCH of linux/audit.h, and the numbers of the calls seccomp, socket, execve, execveat, io_uring_setup.
_CALLS = {
    "x86_64": (0xC000003E, 317, 41, (59, 322, 425)),
    "aarch64": (0xC00000B7, 277, 198, (221, 281, 425)),
}


def die_with_parent(parent: int) -> None:
    """Lets this process die when its parent does, however that dies. Only Linux can; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)


def enforced() -> bool:
    """Whether this system enforces more than the wall limit: macOS does not hold programs to RLIMIT_AS."""
    return sys.platform == "linux"


def limit_files(gigabytes: float) -> None:
    """Bounds the size of any file that is written and the number of open ones, and forbids core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_FSIZE, int(gigabytes * 1e9))
    _lower(resource.RLIMIT_NOFILE, OPEN_FILES)


def _lower(which: int, value: int) -> None:
    """Sets a soft limit, at most what the hard one allows."""
    _, hard = resource.getrlimit(which)
    resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def limit_memory(gigabytes: float) -> None:
    """Allows so much address space on top of what is taken now.

    That is what the libraries take (5 GB with a CUDA build of torch), and what the allocator keeps of earlier inputs: some
    4 GB after a dozen clips, measured, against a limit of which an input later failed or was decoded by another reader.
    What an input may take must not depend on those before it.
    """
    if enforced():
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, used + int(gigabytes * 1e9))


def limit_cpu(seconds: float) -> None:
    """Allows so much more time on every core; then the kernel kills the process with SIGXCPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    more = seconds * (os.cpu_count() or 1) + SPARE_CPU_S
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + more) + 1)


def resident() -> int:
    """Bytes of memory that this process holds now; 0 where that is not known."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def give_back_memory(above: int = 0) -> None:
    """Returns freed memory to the system, which glibc's allocator keeps: measured, 2.5 GB of 3.7 after a dozen clips.

    Args:
        above: Nothing is done while the process holds at most so many bytes. To take memory anew costs time: measured, a
            twentieth of a 1080p clip's, if it is given back after each.
    """
    if sys.platform == "linux" and resident() > above and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def seal() -> bool:
    """Takes from this process, for good, what no decoder needs: sockets of any network, and starting programs.

    Both then fail with EACCES. It is a filter of system calls (seccomp(2)); io_uring goes too, by which sockets can be had
    without the call, and so do calls of another machine's numbering.

    Returns:
        Whether the system did it: Linux on x86-64 and ARM64, where no container forbids it.
    """
    if sys.platform != "linux" or platform.machine() not in _CALLS:
        return False
    architecture, seccomp, socket, forbidden = _CALLS[platform.machine()]
    program = _filter(architecture, socket, forbidden)
    code = ctypes.create_string_buffer(b"".join(program))
    # struct sock_fprog: a count of 16 bits and, at the next multiple of a pointer's size, where the instructions are
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None)
    if libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:  # without which only root may filter
        return False
    done: int = libc.syscall(seccomp, _MODE_FILTER, _ALL_THREADS, head)
    return done == 0


def _filter(architecture: int, socket: int, forbidden: tuple[int, ...]) -> list[bytes]:
    """The filter in the instructions of classic BPF, as in linux/filter.h and linux/seccomp.h."""
    load, equal, give = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
    number_at, architecture_at, first_argument_at = 0, 4, 16  # in struct seccomp_data, little-endian
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EACCES

    def step(code: int, if_true: int, if_false: int, value: int) -> bytes:
        return struct.pack("<HBBI", code, if_true, if_false, value)

    count = len(forbidden)
    return [
        step(load, 0, 0, architecture_at),
        step(equal, 0, count + 4, architecture),  # else to the refusal
        step(load, 0, 0, number_at),
        *(step(equal, count - i + 2, 0, number) for i, number in enumerate(forbidden)),
        step(equal, 0, 3, socket),  # else to the last line
        step(load, 0, 0, first_argument_at),
        step(equal, 1, 0, _AF_UNIX),
        step(give, 0, 0, refuse),
        step(give, 0, 0, allow),
    ]
