//! The system calls that neither std nor socket2 wraps, or not in as few bytes. All unsafe code is
//! here, except for one promise of the program: that it has one thread.
#![allow(unsafe_code, reason = "each block is one system call on memory we own")]
#![allow(clippy::cast_possible_truncation, reason = "constants of C headers have the wrong width")]

mod allocator;
mod error;
mod file;
mod filter;
mod sandbox;
mod socket;

pub use allocator::Allocator;
pub use error::{Error, Result};
pub use file::{
    Status, change_time, create, hard_link, make_directory, open, open_to_lock, owner_of, read,
    remove_file, rename, status, status_of, try_lock, write,
};
pub use sandbox::confine;
pub use socket::{
    ask_strictly, interface_index, interface_name, netlink, open_socket, packet_socket, port_of,
    receive, receive_packet, send_arp, set_multicast_interface_v4, take_message,
};

use std::ffi::{CStr, OsString, c_char};
use std::mem::size_of;
use std::os::fd::{FromRawFd as _, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use error::check;
use libc::c_int;

/// SIGPIPE and SIGXFSZ, which say what write(2) says as well, a bit for each.
const OF_WRITES: u64 = 1 << (libc::SIGPIPE - 1) | 1 << (libc::SIGXFSZ - 1);
/// SIGTERM, SIGINT, and SIGALRM, by which we stop ourselves, a bit for each.
const STOP_SIGNALS: u64 =
    1 << (libc::SIGTERM - 1) | 1 << (libc::SIGINT - 1) | 1 << (libc::SIGALRM - 1);
/// `major(rdev)` of memory devices, and `minor(rdev)` of `/dev/kmsg` among them.
const KMSG_DEVICE: (u32, u32) = (1, 11);

/// What a program needs before all else, and std does before `main`: no descriptor of ours gets the
/// number of a standard one that is closed, and to write to a pipe that nobody reads ends nothing. Nor
/// does a signal from here on that asks us to stop.
/// Gives the arguments, the program's name not among them.
///
/// # Safety
/// `arguments` must be the `count` strings that the C library gives `main`.
#[must_use]
pub unsafe fn begin(count: c_int, arguments: *const *const c_char) -> Vec<OsString> {
    let mut standard = [0, 1, 2].map(|descriptor| pollfd(descriptor, 0));
    let _ = poll(&mut standard, Duration::ZERO);
    for _ in standard.iter().filter(|it| it.revents & libc::POLLNVAL != 0) {
        // It gets the lowest number that is free. The root is there before /dev/null is, and who
        // writes to it is told so, as with a closed one.
        let _ =
            file::open_with("/", libc::O_PATH, 0).map(OwnedFd::from).map(IntoRawFd::into_raw_fd);
    }
    block_signals(OF_WRITES | STOP_SIGNALS);
    let places = 1..usize::try_from(count).unwrap_or(0);
    // SAFETY: so many strings there are.
    let argument = |place| unsafe { CStr::from_ptr(*arguments.add(place)) };
    places.map(|place| OsString::from_vec(argument(place).to_bytes().to_vec())).collect()
}

unsafe extern "C" {
    /// The variables of the environment, `NAME=value` each, and a null pointer after them (environ(7)).
    static environ: *const *const c_char;
}

/// The value of an environment variable, if it is there and is text.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    // SAFETY: it is what environ(7) says, and nobody changes it.
    let mut place = unsafe { environ };
    loop {
        // SAFETY: the null pointer has not been passed.
        let variable: *const c_char = unsafe { place.as_ref()?.as_ref()? };
        let mut value = variable.cast::<u8>();
        // SAFETY: a byte that is not as it should be, such as that which ends the variable, is the last
        // to be looked at.
        let is_it = name.bytes().chain([b'=']).all(|byte| unsafe {
            let is_same = value.read() == byte;
            value = value.wrapping_add(1);
            is_same
        });
        if is_it {
            // SAFETY: the rest of a C string, which nobody changes.
            return unsafe { CStr::from_ptr(value.cast()) }.to_str().ok().map(str::to_owned);
        }
        place = place.wrapping_add(1);
    }
}

/// Waits until a descriptor is ready or the time is up; what is ready stands in `revents`.
///
/// # Errors
/// Whatever ppoll(2) gives, except that an interruption is no error.
pub fn poll(descriptors: &mut [libc::pollfd], timeout: Duration) -> Result<()> {
    #[expect(clippy::cast_possible_wrap, reason = "a budget's seconds")]
    let mut timeout =
        libc::timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos().into() };
    let count = descriptors.len() as libc::nfds_t;
    let (place, no_mask) = (descriptors.as_mut_ptr(), std::ptr::null::<u64>());
    // SAFETY: the pointer and the count describe one slice; the other pointers are valid or null.
    let result = unsafe {
        libc::syscall(libc::SYS_ppoll, place, count, &raw mut timeout, no_mask, size_of::<u64>())
    };
    match check(result) {
        Err(Error(libc::EINTR)) => {
            for descriptor in descriptors {
                descriptor.revents = 0;
            }
            Ok(())
        }
        result => result.map(drop),
    }
}

/// An entry for [`poll`].
#[must_use]
pub const fn pollfd(descriptor: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd { fd: descriptor, events, revents: 0 }
}

/// Whether `descriptor` becomes readable within `timeout`; a negative one never does.
#[must_use]
pub fn is_readable(descriptor: RawFd, timeout: Duration) -> bool {
    let mut descriptors = [pollfd(descriptor, libc::POLLIN)];
    poll(&mut descriptors, timeout).is_ok() && descriptors.iter().any(|ready| ready.revents != 0)
}

/// Prints to standard output, as long as its reader takes something within `patience`; once `stop` is
/// readable only what it takes at once. A closed one is the reader's choice.
///
/// # Errors
/// Whatever write(2) gives, but not that nobody reads.
pub fn print(text: &str, stop: RawFd, patience: Duration) -> Result<()> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let mut ready = [pollfd(libc::STDOUT_FILENO, libc::POLLOUT), pollfd(stop, libc::POLLIN)];
        poll(&mut ready, patience)?;
        let [stdout_is_ready, _] = ready.map(|descriptor| descriptor.revents != 0);
        if !stdout_is_ready {
            return Ok(());
        }
        // A pipe that is ready has room for this much (pipe(7), PIPE_BUF).
        match file::write_some(libc::STDOUT_FILENO, rest.get(..libc::PIPE_BUF).unwrap_or(rest)) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Error(libc::EAGAIN)) => {}
            // Its reader is gone, or it was closed before we began: whoever starts us so wants nothing.
            Err(Error(libc::EPIPE | libc::EBADF)) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes to standard error; with `patience` only what its reader takes in that time. False if
/// something was lost.
#[must_use]
pub fn write_log(text: &str, patience: Option<Duration>) -> bool {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let mut ready = [pollfd(libc::STDERR_FILENO, libc::POLLOUT)];
        if let Some(patience) = patience
            && (poll(&mut ready, patience).is_err() || ready.iter().all(|it| it.revents == 0))
        {
            return false;
        }
        // A pipe that is ready has room for this much (pipe(7), PIPE_BUF).
        match file::write_some(libc::STDERR_FILENO, rest.get(..libc::PIPE_BUF).unwrap_or(rest)) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) => return error != Error(libc::EAGAIN),
        }
    }
    true
}

/// Turns SIGTERM and SIGINT into a descriptor that becomes readable, and stays so: nobody reads it.
///
/// # Errors
/// Whatever signalfd(2) gives; then they end us as they end others.
pub fn stop_signals() -> Result<OwnedFd> {
    let (set, flags) = (STOP_SIGNALS, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
    // SAFETY: the set is as long as the call is told, and the new descriptor has no other owner.
    unsafe {
        let result =
            libc::syscall(libc::SYS_signalfd4, -1, &raw const set, size_of::<u64>(), flags);
        check(result).map(|descriptor| OwnedFd::from_raw_fd(descriptor as RawFd))
    }
    .inspect_err(|_| block_signals(OF_WRITES))
}

/// Keeps these signals, and no others, from ending us. They are given as the kernel has them, a bit for
/// each, the first of them 1: the C library's sets are sixteen times as long.
fn block_signals(set: u64) {
    let (call, none) = (libc::SYS_rt_sigprocmask, std::ptr::null_mut::<u64>());
    // SAFETY: the set is as long as the call is told.
    unsafe { libc::syscall(call, libc::SIG_SETMASK, &raw const set, none, size_of::<u64>()) };
}

/// Ends the search as a signal does, with the fallback, for there is no memory left but a reserve.
fn stop_for_want_of_memory() {
    let _ = write_log("cache-resolver: out of memory\n", Some(Duration::ZERO));
    // `struct itimerval`: no second time, and the first after a microsecond. Our filter does not let us
    // call kill(2), which reaches others, too.
    let soon: [libc::c_long; 4] = [0, 0, 0, 1];
    let (call, before) = (libc::SYS_setitimer, std::ptr::null_mut::<u8>());
    // SAFETY: the kernel reads one such structure.
    unsafe { libc::syscall(call, libc::ITIMER_REAL, soon.as_ptr(), before) };
}

/// Sixty-four bits that a stranger cannot guess.
///
/// In the first moments of a boot the kernel may have no entropy yet; it never waits for that.
/// Then the bytes that the kernel gave the process at its start serve (getauxval(3)).
#[must_use]
pub fn random_seed() -> u64 {
    let mut seed = [0; size_of::<u64>()];
    // SAFETY: the pointer and the length describe the buffer.
    // That of glibc makes calls that the filter forbids (2.41, vgetrandom).
    let count = unsafe {
        libc::syscall(libc::SYS_getrandom, seed.as_mut_ptr(), seed.len(), libc::GRND_NONBLOCK)
    };
    if usize::try_from(count) != Ok(seed.len()) {
        // SAFETY: AT_RANDOM is the address of sixteen bytes, or zero.
        unsafe {
            let random = libc::getauxval(libc::AT_RANDOM) as *const [u8; 8];
            if !random.is_null() {
                seed = random.read_unaligned();
            }
        }
    }
    u64::from_ne_bytes(seed)
}

/// The columns of the terminal that standard error is; as many as most have where it does not say.
#[must_use]
pub fn columns_of_stderr() -> usize {
    let columns = terminal_size(libc::STDERR_FILENO).map_or(0, |size| size.ws_col);
    if columns == 0 { 80 } else { columns.into() }
}

/// Whether a person sits there.
#[must_use]
pub fn is_terminal(descriptor: RawFd) -> bool {
    terminal_size(descriptor).is_ok()
}

/// How large a terminal is; an error for what is none.
fn terminal_size(descriptor: RawFd) -> Result<libc::winsize> {
    // SAFETY: all-zero is a valid size, which the call fills in.
    unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        ioctl(descriptor, libc::TIOCGWINSZ, &raw mut size)?;
        Ok(size)
    }
}

/// ioctl(2). Those of the C library's functions that take any number of arguments are each as large as
/// [`libc::syscall`], which is one for all.
///
/// # Safety
/// The argument is what the request reads and fills in.
unsafe fn ioctl<T>(descriptor: RawFd, request: libc::Ioctl, argument: *mut T) -> Result<()> {
    // SAFETY: as the caller says.
    let result = unsafe { libc::syscall(libc::SYS_ioctl, descriptor, request, argument) };
    check(result).map(drop)
}

/// Whether standard error writes to the kernel's log.
#[must_use]
pub fn stderr_is_kernel_log() -> bool {
    file::status_at(libc::STDERR_FILENO, "", libc::AT_EMPTY_PATH).is_ok_and(|status| {
        let device = status.st_rdev;
        status.st_mode & libc::S_IFMT == libc::S_IFCHR
            && (libc::major(device), libc::minor(device)) == KMSG_DEVICE
    })
}

/// Sets the umask to 022: that of a login shell or an initrd must not hide our files from the Nix
/// of ordinary users.
pub fn let_all_read() {
    // SAFETY: the call cannot fail and touches no memory.
    unsafe { libc::umask(0o022) };
}

/// Leaves all that is open to a child, which the kernel ends with us: what takes long to close keeps
/// nobody who waits for us. Where there can be no child, it does.
pub fn leave_behind() {
    // SAFETY: there is one thread, and the child only makes system calls. The C library's fork(2) has
    // much to do that is of no use to such a child: 1.5 KB.
    unsafe {
        let parent = libc::getpid();
        let is_child = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) == 0;
        if is_child {
            // Who reads our output waits for its end.
            for descriptor in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
                libc::close(descriptor);
            }
            libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() == parent {
                libc::pause();
            }
            libc::_exit(0);
        }
    }
}

/// The time of day, in whole seconds since 1970.
#[must_use]
pub fn seconds_since_1970() -> i64 {
    time_of(libc::CLOCK_REALTIME).as_secs().cast_signed()
}

/// How long this host has been up, suspended or not.
#[must_use]
pub fn uptime() -> Duration {
    time_of(libc::CLOCK_BOOTTIME)
}

/// The time that never runs backwards.
#[must_use]
pub fn monotonic_time() -> Duration {
    time_of(libc::CLOCK_MONOTONIC)
}

/// The time on a clock of the kernel.
fn time_of(clock: libc::clockid_t) -> Duration {
    // SAFETY: all-zero is a valid timespec, which the call fills in.
    let now = unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(clock, &raw mut now);
        now
    };
    Duration::new(now.tv_sec.unsigned_abs() as _, now.tv_nsec.unsigned_abs() as _)
}

/// The number of the user whose rights we have.
#[must_use]
pub fn effective_user() -> u32 {
    // SAFETY: the call cannot fail and touches no memory.
    unsafe { libc::geteuid() }
}
