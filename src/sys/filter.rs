//! The system calls of a search and what follows it, and a filter that lets no others through
//! (seccomp(2)).
#![allow(clippy::cast_sign_loss, reason = "no number that stands here is negative")]

use libc::{c_int, c_long};

/// What the kernel calls the machine that we are built for, so that no number means another machine's
/// call (`linux/audit.h`).
const MACHINE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };

/// Where a filter finds the call's number in `struct seccomp_data`.
const NUMBER_OFFSET: u32 = 0;
/// Where it finds the machine.
const MACHINE_OFFSET: u32 = 4;
/// Where the arguments begin, eight bytes each, the lower half first.
const ARGUMENTS_OFFSET: u32 = 16;

/// Loads four bytes of `struct seccomp_data` (`linux/bpf_common.h`: `BPF_LD | BPF_W | BPF_ABS`).
const LOAD: u64 = 0x20;
/// Shifts them to the left (`BPF_ALU | BPF_LSH | BPF_K`).
const SHIFT: u64 = 0x64;
/// Puts them aside (`BPF_MISC | BPF_TAX`).
const KEEP: u64 = 0x07;
/// Adds the bits of what was put aside (`BPF_ALU | BPF_OR | BPF_X`).
const JOIN: u64 = 0x4c;
/// Jumps where they are the value, or where they are not (`BPF_JMP | BPF_JEQ | BPF_K`).
const EXPECT: u64 = 0x15;
/// The distance of the first of these jumps, over one instruction.
const IF: u64 = 1 << 16;
/// That of the second.
const UNLESS: u64 = 1 << 24;
/// Ends the filter (`BPF_RET | BPF_K`).
const RETURN: u64 = 0x06;

/// Calls that may have any arguments: those on descriptors that are open, those on paths, which landlock
/// judges, and those that change nothing.
const CALLS: &[u16] = &[
    number(libc::SYS_read),
    number(libc::SYS_write),
    number(libc::SYS_close),
    number(libc::SYS_ppoll),
    number(libc::SYS_connect),
    number(libc::SYS_bind),
    number(libc::SYS_getsockname),
    number(libc::SYS_sendto),
    number(libc::SYS_recvfrom),
    number(libc::SYS_newfstatat),
    number(libc::SYS_flock),
    number(libc::SYS_fsync),
    number(libc::SYS_fchown),
    #[cfg(target_arch = "x86_64")]
    number(libc::SYS_mkdir),
    #[cfg(target_arch = "x86_64")]
    number(libc::SYS_link),
    #[cfg(target_arch = "x86_64")]
    number(libc::SYS_rename),
    #[cfg(target_arch = "x86_64")]
    number(libc::SYS_unlink),
    #[cfg(target_arch = "x86_64")]
    number(libc::SYS_pause),
    #[cfg(target_arch = "aarch64")]
    number(libc::SYS_mkdirat),
    #[cfg(target_arch = "aarch64")]
    number(libc::SYS_linkat),
    #[cfg(target_arch = "aarch64")]
    number(libc::SYS_renameat),
    #[cfg(target_arch = "aarch64")]
    number(libc::SYS_unlinkat),
    number(libc::SYS_clock_gettime),
    number(libc::SYS_getrandom),
    number(libc::SYS_geteuid),
    // Without memory we wake ourselves: `stop_for_want_of_memory`.
    number(libc::SYS_setitimer),
    number(libc::SYS_getpid),
    number(libc::SYS_getppid),
    // After SIGCONT the kernel goes on with a call that SIGSTOP has cut short.
    number(libc::SYS_restart_syscall),
    number(libc::SYS_exit_group),
];

/// A call that is allowed where two of its arguments, or one named twice, have these values.
struct Rule {
    /// The call.
    call: u16,
    /// Which arguments.
    places: [u8; 2],
    /// Their values, of 16 bits, the first above the second.
    values: u32,
}

/// Calls that could do more than we want of them; the rules of a call stand together.
const RULES: &[Rule] = &[
    // Memory, but none that runs.
    rule(
        libc::SYS_mmap,
        [2, 3],
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    ),
    // The lower half of the flags, and the mode: to read, to lock, to make a file. None that is there is
    // emptied, and none that is made has a user of its own.
    rule(libc::SYS_openat, [2, 3], libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0),
    rule(
        libc::SYS_openat,
        [2, 3],
        libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW,
        0,
    ),
    rule(libc::SYS_openat, [2, 3], libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o644),
    rule(libc::SYS_openat, [2, 3], libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o600),
    // The domain and the protocol of sockets.
    rule(libc::SYS_socket, [0, 2], libc::AF_INET, 0),
    rule(libc::SYS_socket, [0, 2], libc::AF_INET, libc::IPPROTO_UDP),
    rule(libc::SYS_socket, [0, 2], libc::AF_INET, libc::IPPROTO_ICMP),
    rule(libc::SYS_socket, [0, 2], libc::AF_INET6, 0),
    rule(libc::SYS_socket, [0, 2], libc::AF_INET6, libc::IPPROTO_UDP),
    rule(libc::SYS_socket, [0, 2], libc::AF_INET6, libc::IPPROTO_ICMPV6),
    rule(libc::SYS_socket, [0, 2], libc::AF_NETLINK, libc::NETLINK_ROUTE),
    rule(libc::SYS_socket, [0, 2], libc::AF_PACKET, 0),
    // The level and the name of their options.
    rule(libc::SYS_setsockopt, [1, 2], libc::SOL_SOCKET, libc::SO_REUSEADDR),
    rule(libc::SYS_setsockopt, [1, 2], libc::SOL_SOCKET, libc::SO_BROADCAST),
    rule(libc::SYS_setsockopt, [1, 2], libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
    rule(libc::SYS_setsockopt, [1, 2], libc::IPPROTO_IP, libc::IP_MULTICAST_IF),
    rule(libc::SYS_setsockopt, [1, 2], libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
    rule(libc::SYS_setsockopt, [1, 2], libc::IPPROTO_IP, libc::IP_MULTICAST_ALL),
    rule(libc::SYS_setsockopt, [1, 2], libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP),
    rule(libc::SYS_setsockopt, [1, 2], libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF),
    rule(libc::SYS_setsockopt, [1, 2], libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS),
    rule(libc::SYS_setsockopt, [1, 2], libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    rule(libc::SYS_setsockopt, [1, 2], libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP),
    rule(libc::SYS_setsockopt, [1, 2], libc::IPPROTO_TCP, libc::TCP_QUICKACK),
    // What is asked of terminals and of interfaces.
    rule(libc::SYS_ioctl, [1, 1], libc::TIOCGWINSZ as c_int, libc::TIOCGWINSZ as c_int),
    rule(libc::SYS_ioctl, [1, 1], libc::SIOCGIFINDEX as c_int, libc::SIOCGIFINDEX as c_int),
    rule(libc::SYS_ioctl, [1, 1], libc::SIOCGIFNAME as c_int, libc::SIOCGIFNAME as c_int),
    // The child that the packet socket is left to: `leave_behind`. In the upper half of its flags stand the
    // namespaces that a child may get, and all capabilities with them.
    rule(libc::SYS_clone, [0, 0], libc::SIGCHLD, libc::SIGCHLD),
    rule(libc::SYS_prctl, [0, 1], libc::PR_SET_PDEATHSIG, libc::SIGKILL),
];

/// A call's number, which is below 512 everywhere.
const fn number(call: c_long) -> u16 {
    call as u16
}

/// A rule.
const fn rule(call: c_long, places: [u8; 2], first: c_int, second: c_int) -> Rule {
    Rule { call: number(call), places, values: (first as u32) << 16 | second as u32 }
}

/// Calls that have rules.
const RULED: usize = 7;
/// Instructions of the filter: what comes before the calls, they, their rules, seven for each call that has
/// any, and the two at the end.
const INSTRUCTIONS: usize = 4 + CALLS.len() + RULES.len() + 7 * RULED + 2;

/// The filter. What becomes of any other call is `denied`, one of `SECCOMP_RET_…`.
///
/// An instruction is eight bytes, `struct sock_filter` (`linux/filter.h`): the operation, two distances to
/// jump, a value.
pub fn filter(denied: u32) -> Vec<u64> {
    let mut program = Vec::with_capacity(INSTRUCTIONS);
    // What depends on an argument the kernel does not try out with each of its 460 calls beforehand, for
    // a quarter of a millisecond (`seccomp_is_const_allow` in kernel/seccomp.c).
    add(&mut program, LOAD, ARGUMENTS_OFFSET);
    add(&mut program, LOAD, MACHINE_OFFSET);
    add(&mut program, EXPECT | ((INSTRUCTIONS as u64 - 5) * UNLESS), MACHINE);
    add(&mut program, LOAD, NUMBER_OFFSET);
    for call in CALLS {
        allow_if(&mut program, (*call).into());
    }
    let mut last = 0;
    for Rule { call, places: [first, second], values } in RULES {
        if last != *call {
            last = *call;
            add(&mut program, LOAD, NUMBER_OFFSET);
            let rules = RULES.iter().filter(|rule| rule.call == last).count() as u64;
            add(&mut program, EXPECT | ((5 + rules) * UNLESS), last.into());
            // Both in one: of the first the lower 16 bits count, and what the second has above them is
            // added to these. Where the rest of the first could matter, it is named twice.
            add(&mut program, LOAD, ARGUMENTS_OFFSET + 8 * u32::from(*first));
            add(&mut program, SHIFT, 16);
            add(&mut program, KEEP, 0);
            add(&mut program, LOAD, ARGUMENTS_OFFSET + 8 * u32::from(*second));
            add(&mut program, JOIN, 0);
        }
        allow_if(&mut program, *values);
    }
    add(&mut program, RETURN, denied);
    add(&mut program, RETURN, libc::SECCOMP_RET_ALLOW);
    program
}

/// Adds an instruction.
fn add(program: &mut Vec<u64>, operation: u64, value: u32) {
    program.push(operation | u64::from(value) << 32);
}

/// Adds the jump to the last instruction of all, which allows the call, where this is the value.
fn allow_if(program: &mut Vec<u64>, value: u32) {
    let distance = (INSTRUCTIONS - 2 - program.len()) as u64;
    add(program, EXPECT | (distance * IF), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_long_as_it_says() {
        // Or its jumps would lead elsewhere.
        assert_eq!(filter(libc::SECCOMP_RET_TRAP).len(), INSTRUCTIONS);
    }
}
