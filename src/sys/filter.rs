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
const LOAD: u32 = 0x20;
/// Shifts them to the left (`BPF_ALU | BPF_LSH | BPF_K`).
const SHIFT: u32 = 0x64;
/// Puts them aside (`BPF_MISC | BPF_TAX`).
const KEEP: u32 = 0x07;
/// Adds the bits of what was put aside (`BPF_ALU | BPF_OR | BPF_X`).
const JOIN: u32 = 0x4c;
/// Jumps where they are the value, or where they are not (`BPF_JMP | BPF_JEQ | BPF_K`).
const EXPECT: u32 = 0x15;
/// Ends the filter (`BPF_RET | BPF_K`).
const RETURN: u32 = 0x06;

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

/// How a file is opened that is there (open(2)).
const TO_READ: c_int = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
/// How one is made.
const TO_MAKE: c_int = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;

/// A call that is allowed where two of its arguments have one of these pairs of values.
#[derive(Clone, Copy)]
struct Ruled {
    /// The call.
    call: c_long,
    /// Which arguments; where the upper half of the first matters it is named twice.
    places: [u8; 2],
    /// Their values, the first of 16 bits.
    pairs: &'static [[c_int; 2]],
}

/// Calls that could do more than we want of them.
const RULED: &[Ruled] = &[
    // Memory, but none that runs.
    Ruled {
        call: libc::SYS_mmap,
        places: [2, 3],
        pairs: &[[libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS]],
    },
    // The mode and the flags: to read, to lock, to make a file. None that is there is emptied, and none that
    // is made has a user of its own.
    Ruled {
        call: libc::SYS_openat,
        places: [3, 2],
        pairs: &[
            [0, TO_READ],
            [0, TO_READ | libc::O_RDWR | libc::O_NOFOLLOW],
            [0o644, TO_MAKE],
            [0o600, TO_MAKE],
        ],
    },
    // The domain and the protocol of sockets.
    Ruled {
        call: libc::SYS_socket,
        places: [0, 2],
        pairs: &[
            [libc::AF_INET, 0],
            [libc::AF_INET, libc::IPPROTO_UDP],
            [libc::AF_INET, libc::IPPROTO_ICMP],
            [libc::AF_INET6, 0],
            [libc::AF_INET6, libc::IPPROTO_UDP],
            [libc::AF_INET6, libc::IPPROTO_ICMPV6],
            [libc::AF_NETLINK, libc::NETLINK_ROUTE],
            [libc::AF_PACKET, 0],
        ],
    },
    // The level and the name of their options.
    Ruled {
        call: libc::SYS_setsockopt,
        places: [1, 2],
        pairs: &[
            [libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK],
            [libc::SOL_SOCKET, libc::SO_REUSEADDR],
            [libc::SOL_SOCKET, libc::SO_BROADCAST],
            [libc::SOL_SOCKET, libc::SO_ATTACH_FILTER],
            [libc::IPPROTO_IP, libc::IP_MULTICAST_IF],
            [libc::IPPROTO_IP, libc::IP_MULTICAST_TTL],
            [libc::IPPROTO_IP, libc::IP_MULTICAST_ALL],
            [libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP],
            [libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF],
            [libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS],
            [libc::IPPROTO_IPV6, libc::IPV6_V6ONLY],
            [libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP],
            [libc::IPPROTO_TCP, libc::TCP_QUICKACK],
        ],
    },
    // What is asked of terminals and of interfaces.
    Ruled {
        call: libc::SYS_ioctl,
        places: [1, 1],
        pairs: &[
            [libc::TIOCGWINSZ as c_int, libc::TIOCGWINSZ as c_int],
            [libc::SIOCGIFINDEX as c_int, libc::SIOCGIFINDEX as c_int],
            [libc::SIOCGIFNAME as c_int, libc::SIOCGIFNAME as c_int],
        ],
    },
    // The child that the packet socket is left to: `leave_behind`. In the upper half of its flags stand the
    // namespaces that a child may get, and all capabilities with them.
    Ruled { call: libc::SYS_clone, places: [0, 0], pairs: &[[libc::SIGCHLD, libc::SIGCHLD]] },
    Ruled {
        call: libc::SYS_prctl,
        places: [0, 1],
        pairs: &[[libc::PR_SET_PDEATHSIG, libc::SIGKILL]],
    },
];

/// A call's number, which is below 512 everywhere.
const fn number(call: c_long) -> u16 {
    call as u16
}

/// How many pairs there are.
const PAIRS: usize = {
    let (mut rules, mut pairs) = (RULED, 0);
    while let [rule, rest @ ..] = rules {
        (rules, pairs) = (rest, pairs + rule.pairs.len());
    }
    pairs
};
/// Instructions of the filter: what comes before the calls, they, seven for each call that has pairs, these,
/// and the two at the end.
pub const INSTRUCTIONS: usize = 4 + CALLS.len() + 7 * RULED.len() + PAIRS + 2;

/// Set in a word that is an instruction of its own: in the other words stand the values of jumps to the last
/// instruction, which allows the call, and none has both bits.
const OWN: u32 = 0b11 << 30;

/// The instructions but for the last two, in half the bytes.
const PACKED: [u32; INSTRUCTIONS - 2] = {
    let mut filter = Filter { words: [0; INSTRUCTIONS - 2], length: 0 };
    // What depends on an argument the kernel does not try out with each of its 460 calls beforehand, for
    // a quarter of a millisecond (`seccomp_is_const_allow` in kernel/seccomp.c).
    filter.add(LOAD, 0, ARGUMENTS_OFFSET);
    filter.add(LOAD, 0, MACHINE_OFFSET);
    // This has a value of 32 bits, and a long way to the end.
    filter.add(EXPECT, 0, 0);
    filter.add(LOAD, 0, NUMBER_OFFSET);
    let mut calls = CALLS;
    while let [call, rest @ ..] = calls {
        filter.allow(*call as u32);
        calls = rest;
    }
    let mut rules = RULED;
    while let [rule, rest @ ..] = rules {
        let Ruled { call, places: [first, second], mut pairs } = *rule;
        filter.add(LOAD, 0, NUMBER_OFFSET);
        filter.add(EXPECT, 5 + pairs.len() as u32, call as u32);
        // Both in one: of the first the lower 16 bits count, to which those are added that the second has
        // above its own.
        filter.add(LOAD, 0, ARGUMENTS_OFFSET + 8 * first as u32);
        filter.add(SHIFT, 0, 16);
        filter.add(KEEP, 0, 0);
        filter.add(LOAD, 0, ARGUMENTS_OFFSET + 8 * second as u32);
        filter.add(JOIN, 0, 0);
        while let [[first, second], rest @ ..] = pairs {
            filter.allow((*first as u32) << 16 | *second as u32);
            pairs = rest;
        }
        rules = rest;
    }
    filter.words
};

/// The filter as it grows while the program is compiled.
struct Filter {
    /// Its instructions.
    words: [u32; INSTRUCTIONS - 2],
    /// How many there are yet.
    length: usize,
}

impl Filter {
    /// Adds an instruction: the operation, how many others it skips where a value is another one, and the
    /// value.
    const fn add(&mut self, operation: u32, unless: u32, value: u32) {
        assert!(operation < 1 << 8 && unless < 1 << 6 && value < 1 << 16);
        self.push(OWN | unless << 24 | value << 8 | operation);
    }

    /// Adds a jump to where the call is allowed, if it has this value.
    const fn allow(&mut self, value: u32) {
        assert!(value < OWN);
        self.push(value);
    }

    /// Adds a word.
    #[expect(clippy::indexing_slicing, reason = "where it fails the program is not compiled")]
    const fn push(&mut self, word: u32) {
        self.words[self.length] = word;
        self.length += 1;
    }
}

/// Writes the filter. What becomes of any call that is not allowed is `denied`, one of `SECCOMP_RET_…`.
pub fn write(filter: &mut [u64; INSTRUCTIONS], denied: u32) {
    let mut distance = INSTRUCTIONS as u32 - 2;
    for (place, word) in filter.iter_mut().zip(&PACKED) {
        *place = if *word < OWN {
            instruction(EXPECT | distance << 16, *word)
        } else {
            instruction(word & 0x3f00_00ff, word >> 8 & 0xffff)
        };
        distance -= 1;
    }
    let [_, _, machine, .., deny, allow] = filter;
    *machine = instruction(EXPECT | (INSTRUCTIONS as u32 - 5) << 24, MACHINE);
    *deny = instruction(RETURN, denied);
    *allow = instruction(RETURN, libc::SECCOMP_RET_ALLOW);
}

/// `struct sock_filter` (`linux/filter.h`): the operation; the distances of the jump, a byte each; the value.
const fn instruction(operation: u32, value: u32) -> u64 {
    operation as u64 | (value as u64) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a filter says of a call, as the kernel reads it.
    fn judge(filter: &[u64], machine: u32, call: u32, arguments: [u64; 6]) -> u32 {
        let (mut register, mut aside, mut at) = (0, 0, 0);
        loop {
            let instruction = filter[at];
            let [_, _, if_it_is, unless, ..] = instruction.to_le_bytes();
            let value = (instruction >> 32) as u32;
            at += 1;
            match instruction as u32 & 0xffff {
                LOAD if value == NUMBER_OFFSET => register = call,
                LOAD if value == MACHINE_OFFSET => register = machine,
                LOAD => register = arguments[(value - ARGUMENTS_OFFSET) as usize / 8] as u32,
                SHIFT => register <<= value,
                KEEP => aside = register,
                JOIN => register |= aside,
                EXPECT => at += usize::from(if register == value { if_it_is } else { unless }),
                RETURN => return value,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn what_it_allows() {
        const DENIED: u32 = libc::SECCOMP_RET_TRAP;
        let mut filter = [0; INSTRUCTIONS];
        write(&mut filter, DENIED);
        let allows = |call: u32, arguments| judge(&filter, MACHINE, call, arguments) != DENIED;
        for call in 0..512 {
            let is_listed = CALLS.iter().any(|listed| u32::from(*listed) == call);
            assert_eq!(allows(call, [u64::MAX; 6]), is_listed, "{call}");
            assert_eq!(judge(&filter, MACHINE ^ 1, call, [0; 6]), DENIED, "{call}");
            // The other calls of x86_64 (`__X32_SYSCALL_BIT`).
            assert!(!allows(call | 0x4000_0000, [0; 6]), "{call}");
        }
        for rule in RULED {
            let Ruled { call, places: [first, second], pairs } = *rule;
            let mut arguments = [u64::MAX; 6];
            for pair in pairs {
                let [one, other] = pair.map(|value| value as u32);
                // As it is, and with each bit of either changed.
                for change in (0..64).map(|bit| 1_u64 << bit).chain([0]) {
                    let (one, other) = (one ^ change as u32, other ^ (change >> 32) as u32);
                    arguments[usize::from(first)] = u64::from(one) | 0xffff_ffff << 32;
                    arguments[usize::from(second)] = u64::from(other) | 0xffff_ffff << 32;
                    let one = arguments[usize::from(first)] as u32;
                    let joined = one << 16 | other;
                    let is_paired =
                        |[one, other]: &[c_int; 2]| joined == (*one as u32) << 16 | *other as u32;
                    let expected = pairs.iter().any(is_paired);
                    assert_eq!(
                        allows(call as u32, arguments),
                        expected,
                        "{call} {one:#x} {other:#x}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_child_gets_no_namespace() {
        let mut filter = [0; INSTRUCTIONS];
        write(&mut filter, libc::SECCOMP_RET_TRAP);
        let allowed = (0..32).filter(|bit| {
            let flags = (libc::SIGCHLD as u64) | 1 << bit;
            let call = libc::SYS_clone as u32;
            judge(&filter, MACHINE, call, [flags; 6]) == libc::SECCOMP_RET_ALLOW
        });
        // Two of SIGCHLD itself, and the same of the upper half: CLONE_THREAD, which the kernel refuses
        // alone, and CLONE_PARENT_SETTID.
        assert_eq!(allowed.collect::<Vec<_>>(), [0, 4, 16, 20]);
    }
}
