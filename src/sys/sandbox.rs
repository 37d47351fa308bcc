//! Gives up what a search does not need, so that whoever takes it over by what he sends gains little:
//! capabilities, limits, landlock(7), seccomp(2). Where systemd does the same, it is done twice.
#![allow(clippy::cast_sign_loss, reason = "no descriptor or number of a resource is negative")]

use std::mem::size_of;
use std::os::fd::AsRawFd as _;

use libc::{c_int, c_long};

use super::{environment, file, filter};

/// The capabilities that stay: to open the packet socket, which most searches end without, and to write
/// to the directory of another user: `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_NET_RAW` (`linux/capability.h`).
const CAPABILITIES: u32 = 1 << 1 | 1 << 3 | NET_RAW;
/// `CAP_NET_RAW`.
const NET_RAW: u32 = 1 << 13;
/// The version of the capabilities' layout with 64 bits (`_LINUX_CAPABILITY_VERSION_3`).
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Bytes in a file of ours at most: as many as are read of nix.conf.
const WRITTEN_MAX: u64 = 64 * 1024;
/// Descriptors at most. Together the limits of the search come to some 350: 128 for multicast DNS (two
/// uses and families on 32 links), 104 candidates being verified, 32 questions, a sweep's burst of 64, and
/// some 20 more.
const DESCRIPTORS_MAX: u64 = 512;

/// What landlock keeps from all but the directory: everything that writes, and running programs
/// (`LANDLOCK_ACCESS_FS_EXECUTE`, `…_WRITE_FILE`, `…_REMOVE_DIR` to `…_MAKE_SYM`). Reading stays: what a
/// resolv.conf links to may be anywhere.
const KEPT: u64 =
    1 << 0 | WRITE_FILE | 1 << 4 | REMOVE_FILE | 1 << 6 | 1 << 7 | MAKE_REG | 0b1111 << 9;
/// `LANDLOCK_ACCESS_FS_WRITE_FILE`.
const WRITE_FILE: u64 = 1 << 1;
/// `LANDLOCK_ACCESS_FS_REMOVE_FILE`.
const REMOVE_FILE: u64 = 1 << 5;
/// `LANDLOCK_ACCESS_FS_MAKE_REG`.
const MAKE_REG: u64 = 1 << 8;
/// `LANDLOCK_RULE_PATH_BENEATH`.
const PATH_BENEATH: c_int = 1;

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    /// What may be done.
    allowed: u64,
    /// Beneath which directory.
    parent: c_int,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    /// How many instructions.
    length: u16,
    /// Where they are.
    instructions: *const u64,
}

/// `struct sigaction` as the kernel has it.
#[repr(C)]
struct SignalAction {
    /// What is called.
    handler: extern "C" fn(c_int, *const c_int) -> !,
    /// `SA_…`.
    flags: u64,
    /// Where a handler returns to; ours does not.
    restorer: usize,
    /// Signals that wait meanwhile.
    mask: u64,
}

/// `SA_RESTORER` (`asm/signal.h`), without which `x86_64` calls no handler.
const SA_RESTORER: u64 = 0x0400_0000;
/// The status of who is ended by SIGSYS, as a shell has it.
const TRAPPED: c_int = 128 + libc::SIGSYS;

/// Gives up all but what a search and the writing of files in `directory` take. A forbidden call fails
/// with `EPERM`.
///
/// # Errors
/// The number of the first system call that the kernel refuses; the others are made all the same.
pub fn confine(directory: Option<&str>) -> std::result::Result<(), u32> {
    let mut kernel = Kernel { refused: 0 };
    kernel.drop_capabilities();
    kernel.call(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0);
    kernel.keep_writes_to(directory);
    kernel.keep_calls();
    if kernel.refused == 0 { Ok(()) } else { Err(kernel.refused) }
}

/// Whom all this is asked for.
struct Kernel {
    /// The number of the first call that failed, or 0.
    refused: u32,
}

impl Kernel {
    /// A system call with three arguments, and two more that are 0, as prctl(2) wants them: what it gives, or
    /// -1 if it fails.
    #[inline(never)]
    fn call(&mut self, number: c_long, first: usize, second: usize, third: usize) -> c_int {
        // SAFETY: in this file, each argument that is an address is that of a value of the kernel's layout,
        // which outlives the call.
        let result = unsafe { libc::syscall(number, first, second, third, 0_usize, 0_usize) };
        if result < 0 && self.refused == 0 {
            self.refused = number as u32;
        }
        result as c_int
    }

    /// Drops all capabilities but some, then lowers the limits: as high again as they were they are for
    /// nobody then.
    fn drop_capabilities(&mut self) {
        // The version and the process, 0 for this one.
        let header = [CAPABILITY_VERSION, 0];
        // Effective, permitted, inheritable; and once more for the upper 32.
        let mut sets = [!0_u32; 6];
        let (header, address) = (header.as_ptr() as usize, sets.as_mut_ptr() as usize);
        self.call(libc::SYS_capget, header, address, 0);
        let [_, permitted, _, _, upper, _] = sets;
        let kept = permitted & CAPABILITIES;
        sets = [kept, kept, 0, 0, 0, 0];
        // A unit that has left us no more may well forbid the call.
        if permitted != kept || upper != 0 {
            self.call(libc::SYS_capset, header, sets.as_ptr() as usize, 0);
        }
        // Where the hard limit was lower it stays so.
        limit(libc::RLIMIT_NOFILE as usize, DESCRIPTORS_MAX);
        if kept & NET_RAW == 0 {
            // No packet socket, and so no child that it is left to.
            limit(libc::RLIMIT_NPROC as usize, 0);
        }
        // What standard output and standard error are appended to may be longer.
        if !file::is_regular(libc::STDOUT_FILENO) && !file::is_regular(libc::STDERR_FILENO) {
            limit(libc::RLIMIT_FSIZE as usize, WRITTEN_MAX);
        }
    }

    /// Has landlock keep the writing of files to the directory. Where it cannot be opened nothing will be
    /// written.
    fn keep_writes_to(&mut self, directory: Option<&str>) {
        let kept = KEPT;
        let address = &raw const kept as usize;
        let rules = self.call(libc::SYS_landlock_create_ruleset, address, size_of::<u64>(), 0);
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let parent = directory.map(|path| file::open_with(path, flags, 0));
        let mut added = 0;
        if let Some(Ok(directory)) = &parent {
            let allowed = WRITE_FILE | REMOVE_FILE | MAKE_REG;
            let beneath = PathBeneath { allowed, parent: directory.as_raw_fd() };
            let (kind, address) = (PATH_BENEATH as usize, &raw const beneath as usize);
            added = self.call(libc::SYS_landlock_add_rule, rules as usize, kind, address);
        }
        // Without that rule nothing could be written at all.
        if added == 0 {
            self.call(libc::SYS_landlock_restrict_self, rules as usize, 0, 0);
        }
        close(rules);
    }

    /// Has seccomp let no other calls through than those of the filter.
    fn keep_calls(&mut self) {
        let mut denied = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        // To find what the filter lacks: a forbidden call ends the program, which names it.
        if environment("CACHE_RESOLVER_TRAP").is_some() {
            denied = libc::SECCOMP_RET_TRAP;
            let flags = libc::SA_SIGINFO as u64 | SA_RESTORER;
            let action = SignalAction { handler: name_the_call, flags, restorer: 0, mask: 0 };
            let (call, no_action) = (libc::SYS_rt_sigaction, std::ptr::null::<u64>());
            // SAFETY: the pointers are valid or null, and the handler does not return.
            unsafe {
                libc::syscall(call, libc::SIGSYS, &raw const action, no_action, size_of::<u64>())
            };
        }
        let mut instructions = [0; filter::INSTRUCTIONS];
        filter::write(&mut instructions, denied);
        let program =
            Program { length: instructions.len() as u16, instructions: instructions.as_ptr() };
        let address = &raw const program as usize;
        self.call(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER as usize, 0, address);
    }
}

/// Closes a descriptor; -1 is none.
fn close(descriptor: c_int) {
    // SAFETY: in this file, the kernel has given it to us, and nobody else has it.
    unsafe { libc::close(descriptor) };
}

/// Lowers a limit (getrlimit(2)).
#[inline(never)]
fn limit(resource: usize, max: u64) {
    let (limit, no_limit) = ([max, max], std::ptr::null::<u64>());
    // SAFETY: the pointers are valid or null.
    unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), no_limit) };
}

/// Says the number of a call that the filter has trapped, and ends the program.
extern "C" fn name_the_call(_signal: c_int, information: *const c_int) -> ! {
    // SAFETY: it is a `siginfo_t`, in which `si_syscall` follows three numbers, a gap, and an address.
    let mut rest = unsafe { information.add(6).cast::<u32>().read() };
    let mut line = *b"system call 0000 is not allowed\n";
    for digit in line[12..16].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    let _ = file::write_some(libc::STDERR_FILENO, &line);
    // SAFETY: the call does not return.
    unsafe { libc::_exit(TRAPPED) }
}
