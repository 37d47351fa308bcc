//! The lock that keeps the files of a run together.

use std::fs::File;
use std::time::Duration;

use crate::sys::{self, Error, Status};

/// Who may open the lock, and so hold it: only its owner.
const LOCK_MODE: u32 = 0o600;
/// The superuser's number.
const ROOT: u32 = 0;
/// How often a lock held by another run is tried again.
const LOCK_INTERVAL: Duration = Duration::from_millis(5);
/// Lock files taken in hand at most. Runs that end at the same time each remove theirs; somebody who
/// removes all of them, too, only has us go on without.
const LOCK_FILES_MAX: u32 = 1000;

/// A lock that is held; its file goes with it.
#[derive(Debug)]
pub struct Lock {
    /// Where the file is.
    path: String,
    /// The file, locked (flock(2)).
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the lock is given up: whoever gets it then sees that its file is gone.
        let _ = sys::remove_file(&self.path);
    }
}

/// Locks a file of ours in the directory, which nobody else may open: whoever may open a file, to read
/// it, may hold a lock on it. `None` where there cannot be such a file, since the directory is not ours
/// to write to, or somebody else's file stands there and cannot be removed: then we go on without.
pub(super) fn lock(
    directory: &str,
    wait: &mut dyn FnMut(Duration) -> bool,
) -> sys::Result<Option<Lock>> {
    let path = [directory, "/.lock"].concat();
    for _ in 0..LOCK_FILES_MAX {
        let file = match sys::create(&path, LOCK_MODE) {
            Ok(file) => file,
            Err(error) if error != Error(libc::EEXIST) => return Ok(None),
            Err(_) => match sys::open_to_lock(&path) {
                Ok(file) if is_ours(sys::status_of(&file), directory) => file,
                // Another run has just removed it.
                Err(Error(libc::ENOENT)) => continue,
                // Root's, or that of the owner of the directory, who removes it unless he has died.
                Err(Error(libc::EACCES))
                    if is_ours(sys::status(&path), directory) && wait(LOCK_INTERVAL) =>
                {
                    continue;
                }
                _ if sys::remove_file(&path).is_ok() => continue,
                _ => return Ok(None),
            },
        };
        loop {
            match sys::try_lock(&file) {
                Ok(()) => break,
                Err(Error(libc::EAGAIN)) if wait(LOCK_INTERVAL) => {}
                Err(error @ Error(libc::EAGAIN)) => return Err(error),
                Err(_) => return Ok(None),
            }
        }
        if sys::status_of(&file).is_ok_and(|status| status.names == 1) {
            return Ok(Some(Lock { path, _file: file }));
        }
    }
    Ok(None)
}

/// Whether nobody can have opened the file, under this name or another, but we, root, and the owner of
/// the directory, who can replace everything in it anyway: it can only be opened by its owner, and has but
/// one name.
fn is_ours(status: sys::Result<Status>, directory: &str) -> bool {
    status.is_ok_and(|status| {
        status.is_file
            && status.mode == LOCK_MODE
            && status.names <= 1
            && is_trusted(&status, directory)
    })
}

/// Whether a file belongs to us, to root, or to the owner of the directory that it is in.
pub(super) fn is_trusted(status: &Status, directory: &str) -> bool {
    [ROOT, sys::effective_user()].contains(&status.owner)
        || sys::owner_of(directory).is_ok_and(|owner| owner == status.owner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt, chown};

    use super::*;

    /// Somebody who is neither root nor we.
    const STRANGER: u32 = 65534;

    /// The lock of a directory, if nobody has to be waited for.
    fn lock_now(directory: &str) -> sys::Result<Option<Lock>> {
        lock(directory, &mut |_| false)
    }

    /// A lock as we make it, which another run holds.
    fn held(path: &str) -> File {
        let _ = std::fs::remove_file(path);
        let mut options = std::fs::OpenOptions::new();
        let file =
            options.create_new(true).read(true).write(true).mode(LOCK_MODE).open(path).unwrap();
        sys::try_lock(&file).unwrap();
        file
    }

    #[test]
    fn only_what_nobody_else_may_hold_is_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().to_str().unwrap();
        let path = [directory, "/.lock"].concat();
        let is_free = || lock_now(directory).unwrap().is_some();
        let _other = held(&path);
        assert_eq!(lock_now(directory).unwrap_err(), Error(libc::EAGAIN), "a run holds it");
        let _other = held(&path);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(is_free(), "all may open it");
        let _other = held(&path);
        let second = [directory, "/second"].concat();
        std::fs::hard_link(&path, &second).unwrap();
        assert!(is_free(), "its other name may be anywhere");
        std::fs::remove_file(second).unwrap();
        if sys::effective_user() == ROOT {
            let _other = held(&path);
            chown(&path, Some(STRANGER), None).unwrap();
            assert!(is_free(), "it is another's");
        }
        std::process::Command::new("mkfifo").args(["-m", "600", &path]).status().unwrap();
        let fifo = sys::open_to_lock(&path).unwrap();
        sys::try_lock(&fifo).unwrap();
        assert!(is_free(), "it is no file");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(is_free(), "it is a link");
        assert!(std::fs::read_dir(directory).unwrap().next().is_none(), "all is gone");
    }
}
