"""Has a process of ours make system calls that are not its own, as one does that has been taken over.

x86_64 alone. See ptrace(2), process_vm_writev(2).
"""

import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
GETREGS, SETREGS, ATTACH, DETACH, SINGLESTEP = 12, 13, 16, 17, 9
# The length of the instruction `syscall`, behind which a process stops that waits in the kernel.
SYSCALL_BYTES = 2
# What leaf functions keep below the top of the stack, and room for our own.
BELOW_STACK = 4096


class Registers(ctypes.Structure):
    """`struct user_regs_struct` (`sys/user.h`)."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss"
        " fs_base gs_base ds es fs gs").split()]


def ptrace(request, pid, data=None):
    """One request; OSError where it fails."""
    if LIBC.ptrace(request, pid, None, data) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


class Hijacked:
    """A process that waits in a system call, and makes ours until the `with` ends."""

    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        ptrace(ATTACH, self.pid)
        os.waitpid(self.pid, 0)
        self.before = Registers()
        ptrace(GETREGS, self.pid, ctypes.byref(self.before))
        return self

    def __exit__(self, *_):
        if self.pid is not None:
            ptrace(SETREGS, self.pid, ctypes.byref(self.before))
            ptrace(DETACH, self.pid)

    def call(self, number, *arguments):
        """Makes a call: what it gives, -errno where it fails."""
        self.prepare(number, *arguments)
        ptrace(SINGLESTEP, self.pid)
        os.waitpid(self.pid, 0)
        registers = Registers()
        ptrace(GETREGS, self.pid, ctypes.byref(registers))
        return ctypes.c_long(registers.rax).value

    def leave_to(self, number, *arguments):
        """Lets the process go on with a call that ends it."""
        self.prepare(number, *arguments)
        ptrace(DETACH, self.pid)
        self.pid = None

    def prepare(self, number, *arguments):
        """Has a call be the next that it does. Bytes among the arguments are given by their address."""
        registers = Registers.from_buffer_copy(self.before)
        registers.rax, registers.orig_rax = number, 2**64 - 1
        registers.rip -= SYSCALL_BYTES
        place = registers.rsp - BELOW_STACK
        for name, argument in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments):
            if isinstance(argument, bytes):
                self.write(place, argument)
                argument, place = place, place + len(argument) + 8 & ~7
            setattr(registers, name, argument % 2**64)
        ptrace(SETREGS, self.pid, ctypes.byref(registers))

    def write(self, place, content):
        """Puts bytes into the process."""
        with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(place)
            memory.write(content)
