//! What the system says when something fails, in English.
//!
//! The C library has words for all of its 130 errors, and std for each kind of them: 4 KB, most of
//! which nobody here ever meets.

use crate::sys::Error;
use crate::text::Text;

/// The errors that files, sockets and the polling of both can give (errno(3)), by the numbers that they
/// have on every machine we are built for. As data: code would be twice as large.
const WORDS: &str = "\
1 operation not permitted
2 no such file or directory
4 interrupted
5 input/output error
11 temporarily unavailable
12 out of memory
13 permission denied
16 resource busy
17 file exists
18 on another file system
19 no such device
20 not a directory
21 is a directory
22 invalid argument
23 too many open files in the system
24 too many open files
27 file too large
28 no space left on device
30 read-only file system
36 file name too long
38 not implemented
40 too many symbolic links
93 protocol not supported
95 not supported
97 address family not supported
98 address in use
99 address not available
100 network is down
101 network unreachable
105 no buffer space
107 not connected
110 timed out
113 host unreachable
116 the file is gone from its server
122 disk quota exceeded
";

/// Adds an error in words, or the number of one that has none here.
pub(super) fn describe_error(error: Error, text: &mut Text) {
    let mut number = Text::default();
    number.decimal(error.0.unsigned_abs().into()).add(" ");
    let words = WORDS.lines().find_map(|line| line.strip_prefix(number.0.as_str()));
    match words {
        Some(words) => text.add(words),
        None => text.add("error ").add(number.0.trim_ascii_end()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_its_words() {
        for (number, expected) in [
            (libc::EPERM, "operation not permitted"),
            (libc::ENOENT, "no such file or directory"),
            (libc::EINTR, "interrupted"),
            (libc::EIO, "input/output error"),
            (libc::EAGAIN, "temporarily unavailable"),
            (libc::ENOMEM, "out of memory"),
            (libc::EACCES, "permission denied"),
            (libc::EBUSY, "resource busy"),
            (libc::EEXIST, "file exists"),
            (libc::EXDEV, "on another file system"),
            (libc::ENODEV, "no such device"),
            (libc::ENOTDIR, "not a directory"),
            (libc::EISDIR, "is a directory"),
            (libc::EINVAL, "invalid argument"),
            (libc::ENFILE, "too many open files in the system"),
            (libc::EMFILE, "too many open files"),
            (libc::EFBIG, "file too large"),
            (libc::ENOSPC, "no space left on device"),
            (libc::EROFS, "read-only file system"),
            (libc::ENAMETOOLONG, "file name too long"),
            (libc::ENOSYS, "not implemented"),
            (libc::ELOOP, "too many symbolic links"),
            (libc::EPROTONOSUPPORT, "protocol not supported"),
            (libc::EOPNOTSUPP, "not supported"),
            (libc::EAFNOSUPPORT, "address family not supported"),
            (libc::EADDRINUSE, "address in use"),
            (libc::EADDRNOTAVAIL, "address not available"),
            (libc::ENETDOWN, "network is down"),
            (libc::ENETUNREACH, "network unreachable"),
            (libc::ENOBUFS, "no buffer space"),
            (libc::ENOTCONN, "not connected"),
            (libc::ETIMEDOUT, "timed out"),
            (libc::EHOSTUNREACH, "host unreachable"),
            (libc::ESTALE, "the file is gone from its server"),
            (libc::EDQUOT, "disk quota exceeded"),
            (libc::ECHILD, "error 10"),
        ] {
            let mut text = Text::default();
            describe_error(Error(number), &mut text);
            assert_eq!(text.0, expected);
        }
        assert_eq!(WORDS.lines().count(), 35);
    }
}
