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
            Ok(file) => {
                // Who owns the directory, our unit's user, takes turns with root.
                let owner = sys::owner_of(directory).unwrap_or(ROOT);
                if owner != ROOT && sys::effective_user() == ROOT {
                    sys::give_to(&file, owner);
                }
                file
            }
            Err(error) if error != Error(libc::EEXIST) => return Ok(None),
            Err(_) => match sys::open_to_lock(&path) {
                Ok(file) if is_ours(sys::status_of(&file), directory) => file,
                // Another run has just removed it.
                Err(Error(libc::ENOENT)) => continue,
                // Root has just made it, and hands it to the owner of the directory, or has.
                Err(Error(libc::EACCES | libc::EPERM))
                    if is_ours(sys::status(&path), directory) =>
                {
                    if wait(LOCK_INTERVAL) {
                        continue;
                    }
                    // Root has died before it could.
                    let _ = sys::remove_file(&path);
                    return Ok(None);
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
