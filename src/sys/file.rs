//! Files. What std has for them copies paths that are short to the stack and long ones to the heap, and
//! refuses those with a zero byte, of which there can be none here: 2.5 KB with musl's part.

use std::fs::File;
use std::io::{Read as _, Take};
use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};

use libc::{c_int, c_long};

use super::error::{Error, Result, check};

/// What is known of a file (inode(7)).
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Whether it is a regular one.
    pub is_file: bool,
    /// Who may do what with it.
    pub mode: u32,
    /// Its owner's number.
    pub owner: u32,
    /// How many names it has.
    pub names: libc::nlink_t,
    /// Its length in bytes.
    pub length: u64,
    /// When it, its mode or its place was last changed, in nanoseconds since 1970.
    pub changed_at: i64,
}

/// Opens a regular file to read it, `max` bytes of it at most; what /proc and /sys have are such files,
/// too. A FIFO or a device might keep us waiting, or never end.
///
/// # Errors
/// Whatever open(2) and fstat(2) give; `EINVAL` for what is not a regular file.
pub fn open(path: &str, max: u64) -> Result<Take<File>> {
    let file = open_with(path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0)?;
    let status = status_of(&file)?;
    if !status.is_file {
        return Err(Error(libc::EINVAL));
    }
    // Who knows where it ends need not read the end. What the kernel makes up may not say.
    let length = Some(status.length).filter(|length| *length != 0);
    Ok(file.take(length.map_or(max, |length| length.min(max))))
}

/// Reads a regular file, `max` bytes of it at most.
///
/// # Errors
/// Whatever [`open`] and read(2) give.
pub fn read(path: &str, max: usize) -> Result<Vec<u8>> {
    let mut file = open(path, max as u64)?;
    let mut content = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(content);
        }
        content.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
}

/// Opens what is there to lock it, whatever it is, unless it is a symbolic link.
///
/// # Errors
/// Whatever open(2) gives.
pub fn open_to_lock(path: &str) -> Result<File> {
    open_with(path, libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW, 0)
}

/// Makes a file with `mode`, less the umask, to write it.
///
/// # Errors
/// Whatever open(2) gives; `EEXIST` when it is there.
pub fn create(path: &str, mode: libc::mode_t) -> Result<File> {
    open_with(path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, mode)
}

/// What is known of the file at `path`, of a symbolic link itself.
///
/// # Errors
/// Whatever fstatat(2) gives.
pub fn status(path: &str) -> Result<Status> {
    status_at(libc::AT_FDCWD, path, libc::AT_SYMLINK_NOFOLLOW).map(Status::from)
}

/// The owner of the file at `path`, of what a symbolic link leads to.
///
/// # Errors
/// Whatever fstatat(2) gives.
pub fn owner_of(path: &str) -> Result<u32> {
    status_at(libc::AT_FDCWD, path, 0).map(|status| status.st_uid)
}

/// What is known of an open file.
///
/// # Errors
/// Whatever fstatat(2) gives.
pub fn status_of(file: &File) -> Result<Status> {
    status_of_descriptor(file.as_raw_fd())
}

/// The same of a descriptor.
#[inline(never)]
fn status_of_descriptor(descriptor: RawFd) -> Result<Status> {
    status_at(descriptor, "", libc::AT_EMPTY_PATH).map(Status::from)
}

/// Whether an open descriptor is a regular file.
pub(super) fn is_regular(descriptor: RawFd) -> bool {
    status_of_descriptor(descriptor).is_ok_and(|status| status.is_file)
}

/// When a file, its mode or its place was last changed, in nanoseconds since 1970; 0 where there is none.
#[must_use]
pub fn change_time(path: &str) -> i64 {
    status(path).map_or(0, |status| status.changed_at)
}

/// Makes a directory with `mode`, less the umask.
///
/// # Errors
/// Whatever mkdir(2) gives.
pub fn make_directory(path: &str, mode: libc::mode_t) -> Result<()> {
    // SAFETY: the path is a C string.
    check(unsafe { libc::mkdir(terminated(path).as_ptr().cast(), mode) }).map(drop)
}

/// Removes a file.
///
/// # Errors
/// Whatever unlink(2) gives.
pub fn remove_file(path: &str) -> Result<()> {
    // SAFETY: the path is a C string.
    check(unsafe { libc::unlink(terminated(path).as_ptr().cast()) }).map(drop)
}

/// Moves a file to where another may be.
///
/// # Errors
/// Whatever rename(2) gives.
pub fn rename(from: &str, to: &str) -> Result<()> {
    let (from, to) = (terminated(from), terminated(to));
    // SAFETY: the paths are C strings.
    check(unsafe { libc::rename(from.as_ptr().cast(), to.as_ptr().cast()) }).map(drop)
}

/// Gives a file a second name.
///
/// # Errors
/// Whatever link(2) gives.
pub fn hard_link(from: &str, to: &str) -> Result<()> {
    let (from, to) = (terminated(from), terminated(to));
    // SAFETY: the paths are C strings.
    check(unsafe { libc::link(from.as_ptr().cast(), to.as_ptr().cast()) }).map(drop)
}

/// Writes all of `content`, and brings it to the disk if it `is_synced`.
///
/// # Errors
/// Whatever write(2) and fsync(2) give.
pub fn write(file: &File, mut content: &[u8], is_synced: bool) -> Result<()> {
    while !content.is_empty() {
        match write_some(file.as_raw_fd(), content)? {
            // Nor would it take more later.
            0 => return Err(Error(libc::EIO)),
            count => content = content.get(count..).unwrap_or_default(),
        }
    }
    if is_synced {
        // SAFETY: the call touches no memory.
        check(unsafe { libc::fsync(file.as_raw_fd()) })?;
    }
    Ok(())
}

/// write(2): how much it has taken.
pub(super) fn write_some(descriptor: RawFd, content: &[u8]) -> Result<usize> {
    // SAFETY: the pointer and the length describe one slice.
    let count = unsafe { libc::write(descriptor, content.as_ptr().cast(), content.len()) };
    check(count as c_long).map(|count| count.unsigned_abs() as usize)
}

/// Locks a file (flock(2)), unless somebody else has it locked.
///
/// # Errors
/// Whatever flock(2) gives; `EAGAIN` when it is locked.
pub fn try_lock(file: &File) -> Result<()> {
    // SAFETY: the call touches no memory.
    check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

/// open(2). That of musl sets `FD_CLOEXEC` once more.
pub(super) fn open_with(path: &str, flags: c_int, mode: libc::mode_t) -> Result<File> {
    let (call, flags) = (libc::SYS_openat, flags | libc::O_CLOEXEC);
    // SAFETY: the path is a C string, and the new descriptor has no other owner.
    unsafe {
        let path = terminated(path);
        check(libc::syscall(call, libc::AT_FDCWD, path.as_ptr(), flags, mode))
            .map(|descriptor| File::from_raw_fd(descriptor as RawFd))
    }
}

/// fstatat(2). That of musl knows ways for kernels that have no such call.
pub(super) fn status_at(directory: RawFd, path: &str, flags: c_int) -> Result<libc::stat> {
    let path = terminated(path);
    // SAFETY: all-zero is a valid stat, which has the kernel's layout on all 64-bit machines; the path is
    // a C string.
    unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        let call = libc::SYS_newfstatat;
        check(libc::syscall(call, directory, path.as_ptr(), &raw mut status, flags))?;
        Ok(status)
    }
}

impl From<libc::stat> for Status {
    fn from(status: libc::stat) -> Self {
        Self {
            is_file: status.st_mode & libc::S_IFMT == libc::S_IFREG,
            mode: status.st_mode & 0o7777,
            owner: status.st_uid,
            names: status.st_nlink,
            length: status.st_size.unsigned_abs(),
            changed_at: status.st_ctime.wrapping_mul(1_000_000_000) + status.st_ctime_nsec,
        }
    }
}

/// The path as system calls want it: it ends with a zero byte.
fn terminated(path: &str) -> String {
    [path, "\0"].concat()
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
        assert_eq!(error, Error(libc::EINVAL), "a directory");
    }
}
