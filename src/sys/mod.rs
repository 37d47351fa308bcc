//! The system calls that neither std nor socket2 wraps. All unsafe code is here, except for one
//! promise of the program: that it has one thread.
#![allow(unsafe_code, reason = "each block is one system call on memory we own")]
#![allow(clippy::cast_possible_truncation, reason = "constants of C headers have the wrong width")]

mod allocator;

pub use allocator::Allocator;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::mem::{ManuallyDrop, MaybeUninit, size_of};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};
use socket2::{Domain, SockFilter, Socket, Type};

/// `major(rdev)` of memory devices, and `minor(rdev)` of `/dev/kmsg` among them.
const KMSG_DEVICE: (u32, u32) = (1, 11);

/// The result of a call that gives -1 on failure.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The size of `T` as socket calls want it.
const fn length_of<T>() -> socklen_t {
    size_of::<T>() as socklen_t
}

/// Waits until a descriptor is ready or the time is up; what is ready stands in `revents`.
///
/// # Errors
/// Whatever ppoll(2) gives, except that an interruption is no error.
pub fn poll(descriptors: &mut [libc::pollfd], timeout: Duration) -> io::Result<()> {
    #[expect(clippy::cast_possible_wrap, reason = "a budget's seconds")]
    let timeout =
        libc::timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos().into() };
    let count = descriptors.len() as libc::nfds_t;
    // SAFETY: the pointer and the count describe one slice; the other pointers are valid or null.
    let result = unsafe {
        libc::ppoll(descriptors.as_mut_ptr(), count, &raw const timeout, std::ptr::null())
    };
    match check(result) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
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

/// Opens a regular file to read it; what /proc and /sys have are such files, too. A FIFO or a device
/// might keep us waiting, or never end.
///
/// # Errors
/// Whatever open(2) and fstat(2) give; `InvalidInput` for what is not a regular file.
pub fn open(path: &str) -> io::Result<File> {
    let file = open_with(path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Reads a regular file, `max` bytes of it at most.
///
/// # Errors
/// Whatever [`open`] and read(2) give.
pub fn read(path: &str, max: usize) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let mut content = Vec::new();
    let mut piece = [0; 4096];
    while content.len() < max {
        let count = file.read(&mut piece)?;
        if count == 0 {
            break;
        }
        content.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    content.truncate(max);
    Ok(content)
}

/// Opens what is there to lock it, whatever it is, unless it is a symbolic link.
///
/// # Errors
/// Whatever open(2) gives.
pub fn open_to_lock(path: &str) -> io::Result<File> {
    open_with(path, libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW, 0)
}

/// Makes a file with `mode`, less the umask, to write it.
///
/// # Errors
/// Whatever open(2) gives; `EEXIST` when it is there.
pub fn create(path: &str, mode: libc::mode_t) -> io::Result<File> {
    open_with(path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, mode)
}

/// Prints to standard output; once `stop` is readable only what its reader takes at once. A closed one
/// is the reader's choice.
pub fn print(text: &str, stop: RawFd) {
    // SAFETY: the descriptor is open as long as the program runs, and never closed here.
    let mut stdout = ManuallyDrop::new(unsafe { File::from_raw_fd(libc::STDOUT_FILENO) });
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let mut ready = [pollfd(libc::STDOUT_FILENO, libc::POLLOUT), pollfd(stop, libc::POLLIN)];
        if poll(&mut ready, Duration::from_secs(1)).is_err() {
            return;
        }
        match ready.map(|descriptor| descriptor.revents != 0) {
            [true, _] => {}
            [false, true] => return,
            [false, false] => continue,
        }
        // A pipe that is ready has room for this much (pipe(7), PIPE_BUF).
        match stdout.write(rest.get(..libc::PIPE_BUF).unwrap_or(rest)) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Writes to standard error; with `patience` only what its reader takes in that time. False if
/// something was lost.
#[must_use]
pub fn write_log(text: &str, patience: Option<Duration>) -> bool {
    // SAFETY: the descriptor is open as long as the program runs, and never closed here.
    let mut stderr = ManuallyDrop::new(unsafe { File::from_raw_fd(libc::STDERR_FILENO) });
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let mut ready = [pollfd(libc::STDERR_FILENO, libc::POLLOUT)];
        if let Some(patience) = patience
            && (poll(&mut ready, patience).is_err() || ready.iter().all(|it| it.revents == 0))
        {
            return false;
        }
        // A pipe that is ready has room for this much (pipe(7), PIPE_BUF).
        match stderr.write(rest.get(..libc::PIPE_BUF).unwrap_or(rest)) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
    true
}

/// open(2). What std has for it brings the tables for escaping Unicode along, 3 KB.
fn open_with(path: &str, flags: c_int, mode: libc::mode_t) -> io::Result<File> {
    let path = CString::new(path)?;
    // SAFETY: the path is a C string, and the new descriptor has no other owner.
    unsafe {
        check(libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode))
            .map(|descriptor| File::from_raw_fd(descriptor))
    }
}

/// Turns SIGTERM and SIGINT into a descriptor that becomes readable, and stays so: nobody reads it.
///
/// # Errors
/// Whatever sigprocmask(2) and signalfd(2) give.
pub fn stop_signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that the other calls read.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        check(libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()))?;
        let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
        check(libc::signalfd(-1, set.as_ptr(), flags))
            .map(|descriptor| OwnedFd::from_raw_fd(descriptor))
    }
}

/// A route netlink socket: one to ask with, or, with `groups`, one that tells of changes.
///
/// # Errors
/// Whatever socket(2) and bind(2) give.
pub fn netlink(groups: u32) -> io::Result<Socket> {
    let socket = Socket::new_raw(
        Domain::from(libc::AF_NETLINK),
        Type::RAW.nonblocking().cloexec(),
        Some(libc::NETLINK_ROUTE.into()),
    )?;
    if groups != 0 {
        // SAFETY: all-zero is a valid sockaddr_nl.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = groups;
        bind(&socket, &address)?;
    }
    Ok(socket)
}

/// Binds a socket to an address of its family.
fn bind<T>(socket: &Socket, address: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe one sockaddr.
    check(unsafe {
        libc::bind(socket.as_raw_fd(), std::ptr::from_ref(address).cast(), length_of::<T>())
    })
    .map(drop)
}

/// Lets only ARP replies, ICMP echo replies and UDP from port 5353 through, unfragmented
/// (`linux/filter.h`). Offsets count from the network header, where a packet socket for datagrams
/// begins.
const FILTER: [(u16, u8, u8, u32); 28] = [
    (0x28, 0, 0, 0xffff_f000), // 0: load the Ethernet protocol (SKF_AD_PROTOCOL)
    (0x15, 0, 2, 0x0806),      // 1: ARP? else to 4
    (0x28, 0, 0, 6),           // 2: load the operation
    (0x15, 22, 23, 2),         // 3: a reply? keep, else drop
    (0x30, 0, 0, 0),           // 4: load the first byte
    (0x74, 0, 0, 4),           // 5: its upper half is the version
    (0x15, 0, 10, 4),          // 6: IPv4? else to 17
    (0x28, 0, 0, 6),           // 7: load flags and fragment offset
    (0x45, 18, 0, 0x3fff),     // 8: a fragment? drop
    (0xb1, 0, 0, 0),           // 9: the header's length into X
    (0x30, 0, 0, 9),           // 10: load the protocol
    (0x15, 0, 2, 17),          // 11: UDP? else to 14
    (0x48, 0, 0, 0),           // 12: load the source port
    (0x05, 0, 0, 11),          // 13: to 25
    (0x15, 0, 12, 1),          // 14: ICMP? else drop
    (0x50, 0, 0, 0),           // 15: load its type
    (0x15, 9, 10, 0),          // 16: an echo reply? keep, else drop
    (0x15, 0, 9, 6),           // 17: IPv6? else drop
    (0x30, 0, 0, 6),           // 18: load the next header
    (0x15, 0, 2, 17),          // 19: UDP? else to 22
    (0x28, 0, 0, 40),          // 20: load the source port
    (0x05, 0, 0, 3),           // 21: to 25
    (0x15, 0, 4, 58),          // 22: ICMPv6? else drop
    (0x30, 0, 0, 40),          // 23: load its type
    (0x15, 1, 2, 129),         // 24: an echo reply? keep, else drop
    (0x15, 0, 1, 5353),        // 25: multicast DNS? else drop
    (0x06, 0, 0, 0xffff),      // 26: keep
    (0x06, 0, 0, 0),           // 27: drop
];

/// A packet socket that hears answers on all interfaces, without their link-layer header and before a
/// firewall sees them, and that sends ARP (packet(7)). Needs `CAP_NET_RAW`.
///
/// # Errors
/// Whatever socket(2), setsockopt(2) and bind(2) give; `PermissionDenied` without the privilege.
pub fn packet_socket() -> io::Result<Socket> {
    // Protocol 0 hears nothing until the filter is in place.
    let socket =
        Socket::new_raw(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), Some(0.into()))?;
    let filter = FILTER.map(|(code, jt, jf, k)| SockFilter::new(code, jt, jf, k));
    socket.attach_filter(&filter)?;
    bind(&socket, &link_address(libc::ETH_P_ALL as u16))?;
    Ok(socket)
}

/// The link-layer address of everybody who speaks an Ethernet `protocol` (packet(7)).
fn link_address(protocol: u16) -> libc::sockaddr_ll {
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = protocol.to_be();
    address
}

/// Broadcasts an ARP packet through an interface.
///
/// # Errors
/// Whatever sendto(2) gives; `ENOBUFS` when the interface's queue is full.
pub fn send_arp(socket: &Socket, interface: u32, packet: &[u8]) -> io::Result<()> {
    let mut address = link_address(libc::ETH_P_ARP as u16);
    address.sll_ifindex = interface.cast_signed();
    address.sll_halen = 6;
    if let Some(hardware) = address.sll_addr.get_mut(..6) {
        hardware.fill(0xff);
    }
    // SAFETY: both pointers come with their lengths.
    let count = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const address).cast(),
            length_of::<libc::sockaddr_ll>(),
        )
    };
    if count < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives a packet from a packet socket: its length, the interface it came in through, and
/// whether it is ARP.
///
/// # Errors
/// Whatever recvfrom(2) gives.
pub fn receive_packet(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, u32, bool)> {
    let mut address = link_address(0);
    let mut address_length = length_of::<libc::sockaddr_ll>();
    // SAFETY: both pointers come with their lengths.
    let count = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut address).cast(),
            &raw mut address_length,
        )
    };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    let is_arp = u16::from_be(address.sll_protocol) == libc::ETH_P_ARP as u16;
    Ok((count, address.sll_ifindex.unsigned_abs(), is_arp))
}

/// Sends multicast from `socket` out of `interface` (ip(7), `IP_MULTICAST_IF`); socket2 only
/// takes an address here, which two interfaces may share.
///
/// # Errors
/// Whatever setsockopt(2) gives.
pub fn set_multicast_interface_v4(socket: &Socket, interface: u32) -> io::Result<()> {
    let any = libc::in_addr { s_addr: 0 };
    let request = libc::ip_mreqn {
        imr_multiaddr: any,
        imr_address: any,
        imr_ifindex: interface.cast_signed(),
    };
    // SAFETY: the pointer and the length describe the request.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MULTICAST_IF,
            (&raw const request).cast::<c_void>(),
            length_of::<libc::ip_mreqn>(),
        )
    })
    .map(drop)
}

/// The index of the interface called `name` (netdevice(7)). Any socket serves to ask, and netlink's
/// is one that our sandbox allows: libc's own function opens one of `AF_UNIX`.
#[must_use]
pub fn interface_index(name: &str) -> Option<u32> {
    /// `struct ifreq`.
    #[repr(C)]
    #[derive(Default)]
    struct Request {
        /// The interface's name, ended by a zero byte.
        name: [u8; libc::IFNAMSIZ],
        /// Its index.
        index: c_int,
        /// The rest of the union that the index is part of.
        _rest: [u32; 5],
    }
    let mut request = Request::default();
    let place = request.name.get_mut(..libc::IFNAMSIZ - 1)?.get_mut(..name.len())?;
    place.copy_from_slice(name.as_bytes());
    let socket = netlink(0).ok()?;
    // SAFETY: the structure is as large as the kernel's, and the name in it ends.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX as _, &raw mut request) })
        .ok()?;
    u32::try_from(request.index).ok()
}

/// Sixty-four bits that a stranger cannot guess.
///
/// In the first moments of a boot the kernel may have no entropy yet; it never waits for that.
/// Then the bytes that the kernel gave the process at its start serve (getauxval(3)).
#[must_use]
pub fn random_seed() -> u64 {
    let mut seed = [0; size_of::<u64>()];
    // SAFETY: the pointer and the length describe the buffer.
    let count =
        unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), libc::GRND_NONBLOCK) };
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

/// Whether standard error writes to the kernel's log.
#[must_use]
pub fn stderr_is_kernel_log() -> bool {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills the structure when it succeeds, and only then is it read.
    unsafe {
        if libc::fstat(libc::STDERR_FILENO, status.as_mut_ptr()) != 0 {
            return false;
        }
        let status = status.assume_init();
        let device = status.st_rdev;
        status.st_mode & libc::S_IFMT == libc::S_IFCHR
            && (libc::major(device), libc::minor(device)) == KMSG_DEVICE
    }
}

/// Sets the umask to 022: that of a login shell or an initrd must not hide our files from the Nix
/// of ordinary users.
pub fn let_all_read() {
    // SAFETY: the call cannot fail and touches no memory.
    unsafe { libc::umask(0o022) };
}

/// The number of the user whose rights we have.
#[must_use]
pub fn effective_user() -> u32 {
    // SAFETY: the call cannot fail and touches no memory.
    unsafe { libc::geteuid() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let path = path.to_str().unwrap();
        let content: Vec<u8> = (0..10_000_u32).map(|number| number as u8).collect();
        std::fs::write(path, &content).unwrap();
        for max in [0, 1, 4096, 5000, 10_000, 20_000] {
            assert_eq!(read(path, max).unwrap(), content[..max.min(content.len())], "{max}");
        }
        let error = read(directory.path().to_str().unwrap(), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "a directory");
    }
}
