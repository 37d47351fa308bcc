//! What the system says when a call fails.

use std::io;

use libc::{c_int, c_long};

/// The number of an error (errno(3)); 0 where it has none. Unlike std's it owns nothing: who drops it
/// need not look whether there is something to free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(pub c_int);

/// What a call gives that may fail.
pub type Result<T> = std::result::Result<T, Error>;

impl From<io::Error> for Error {
    #[inline(never)]
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or_default())
    }
}

/// The result of a call that gives -1 on failure.
pub(super) fn check(result: impl Into<c_long>) -> Result<c_long> {
    let result = result.into();
    if result < 0 { Err(io::Error::last_os_error().into()) } else { Ok(result) }
}
