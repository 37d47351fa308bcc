//! What the system says when something fails, in English.
//!
//! The C library has words for all of its 130 errors, and std for each kind of them: 4 KB, most of
//! which nobody here ever meets.

use std::io;

use crate::sys;
use crate::text::Text;

/// Adds an error in words: those that files, sockets and the polling of both can give (errno(3)), and the
/// number of any other.
pub(super) fn describe_error(error: &io::Error, text: &mut Text) {
    let number = sys::errno(error);
    let words = match number {
        libc::EACCES => "permission denied",
        libc::EADDRINUSE => "address in use",
        libc::EADDRNOTAVAIL => "address not available",
        libc::EAFNOSUPPORT => "address family not supported",
        libc::EAGAIN => "temporarily unavailable",
        libc::EBUSY => "resource busy",
        libc::EDQUOT => "disk quota exceeded",
        libc::EEXIST => "file exists",
        libc::EFBIG => "file too large",
        libc::EHOSTUNREACH => "host unreachable",
        libc::EINTR => "interrupted",
        libc::EINVAL => "invalid argument",
        libc::EIO => "input/output error",
        libc::EISDIR => "is a directory",
        libc::ELOOP => "too many symbolic links",
        libc::EMFILE => "too many open files",
        libc::ENAMETOOLONG => "file name too long",
        libc::ENETDOWN => "network is down",
        libc::ENETUNREACH => "network unreachable",
        libc::ENFILE => "too many open files in the system",
        libc::ENOBUFS => "no buffer space",
        libc::ENODEV => "no such device",
        libc::ENOENT => "no such file or directory",
        libc::ENOMEM => "out of memory",
        libc::ENOSPC => "no space left on device",
        libc::ENOSYS => "not implemented",
        libc::ENOTCONN => "not connected",
        libc::ENOTDIR => "not a directory",
        libc::EOPNOTSUPP => "not supported",
        libc::EPERM => "operation not permitted",
        libc::EPROTONOSUPPORT => "protocol not supported",
        libc::EROFS => "read-only file system",
        libc::ESTALE => "the file is gone from its server",
        libc::ETIMEDOUT => "timed out",
        libc::EXDEV => "on another file system",
        _ => {
            text.add("error ").decimal(u64::from(number.unsigned_abs()));
            return;
        }
    };
    text.add(words);
}
