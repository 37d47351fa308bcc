//! The files that Nix and other programs read: rendered purely, replaced atomically.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::time::Duration;

use crate::cli::Config;
use crate::model::{Found, Outcome};
use crate::sys;

/// Who may read the files: everybody's Nix.
const FILE_MODE: u32 = 0o644;
/// Who may look into their directory.
const DIRECTORY_MODE: u32 = 0o755;
/// How often a lock held by another run is tried again.
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// nix.conf lines that keep a cache which dies, hangs or is left behind from stalling Nix.
///
/// Without `fallback` Nix does not give up on a dead cache for the next 60 seconds, and up to 2.31
/// fails. Fewer than three attempts would make a flaky upstream fail, too. The time to connect
/// includes looking up the upstream's name, and glibc gives each dead nameserver 5 seconds: with less
/// than 9 the upstream is out of reach where two of them are dead.
const SETTINGS: [(&str, &str); 4] = [
    ("connect-timeout", "10"),
    ("download-attempts", "3"),
    ("stalled-download-timeout", "30"),
    ("fallback", "true"),
];

/// What the files should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The content of `nix.conf`.
    pub nix_conf: String,
    /// The content of `<short name>-ip`; `None` where the file should not be.
    pub address: Option<String>,
}

/// Renders the files for an outcome.
///
/// Of all that came from the network, only an address and a port get in, as numbers. An address
/// that needs a zone never gets here: the search holds it back.
#[must_use]
pub fn render(config: &Config, outcome: Outcome) -> Files {
    let Outcome::Found(found) = outcome else {
        return Files { nix_conf: render_fallback(config), address: None };
    };
    let address = found.remote.ip();
    let in_url = match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    let url = url_of(config, found, &in_url);
    let mut nix_conf = format!(
        "# Written by cache-resolver. {} answered at {in_url}:{}.\n",
        config.short_name(),
        found.remote.port()
    );
    if config.additive {
        push_line(&mut nix_conf, "extra-substituters", &url);
    } else {
        push_line(
            &mut nix_conf,
            "substituters",
            &[&url, " ", &config.upstreams.join(" ")].concat(),
        );
    }
    for (key, value) in settings(config) {
        push_line(&mut nix_conf, key, value);
    }
    Files { nix_conf, address: Some(format!("{address}\n")) }
}

/// The substituter's URL. The priority stands in it because Nix sorts by priority, not by place:
/// attic announces 41, cache.nixos.org 40, and so the LAN would be asked last.
fn url_of(config: &Config, found: Found, address: &str) -> String {
    let host = if found.by_name { &config.host } else { address };
    let port = found.remote.port();
    format!("http://{host}:{port}{}?priority={}", config.path, config.priority)
}

/// nix.conf for when there is no cache.
fn render_fallback(config: &Config) -> String {
    let mut nix_conf = "# Written by cache-resolver. No local cache answered.\n".to_owned();
    if !config.additive {
        push_line(&mut nix_conf, "substituters", &config.upstreams.join(" "));
    }
    nix_conf
}

/// Our settings, replaced, dropped and completed by the user's.
fn settings(config: &Config) -> Vec<(&str, &str)> {
    let mut settings = SETTINGS.to_vec();
    for (key, value) in &config.settings {
        match settings.iter_mut().find(|(known, _)| known == key) {
            Some(setting) => setting.1 = value,
            None => settings.push((key, value)),
        }
    }
    settings.retain(|(_, value)| !value.is_empty());
    settings
}

/// Adds one line.
fn push_line(text: &mut String, key: &str, value: &str) {
    for part in [key, " = ", value, "\n"] {
        text.push_str(part);
    }
}

/// Where nix.conf is in `directory`.
#[must_use]
pub fn nix_conf_path(directory: &str) -> String {
    [directory, "/nix.conf"].concat()
}

/// Where the address of the cache called `short_name` is in `directory`.
#[must_use]
pub fn address_path(directory: &str, short_name: &str) -> String {
    [directory, "/", short_name, "-ip"].concat()
}

/// Puts the files into `directory`, which is made where it is missing. Their modes are subject to
/// the umask (see [`let_all_read`](crate::sys::let_all_read)).
///
/// Each file is replaced in one step and left alone if it is right already. A lock on the
/// directory keeps the pair together when two runs end at the same time; `wait` sleeps for the
/// time given, or says that there is no time left.
///
/// # Errors
/// The first thing that went wrong; the other file is still brought up to date.
pub fn replace(
    directory: &str,
    short_name: &str,
    files: &Files,
    wait: &mut dyn FnMut(Duration) -> bool,
) -> Result<(), WriteError> {
    let failed = |error| WriteError { path: directory.to_owned(), error };
    create_directory(directory).map_err(failed)?;
    let _lock = lock(directory, wait).map_err(failed)?;
    let path = address_path(directory, short_name);
    let address = match &files.address {
        Some(address) => replace_file(&path, address),
        None => remove_file(&path),
    };
    let nix_conf = nix_conf_path(directory);
    replace_file(&nix_conf, &files.nix_conf)
        .map_err(|error| WriteError { path: nix_conf, error })?;
    address.map_err(|error| WriteError { path, error })
}

/// Makes the directory and those above it.
fn create_directory(directory: &str) -> io::Result<()> {
    if fs::metadata(directory).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(());
    }
    let ends = directory.match_indices('/').map(|(end, _)| end).filter(|end| *end > 0);
    for end in ends.chain([directory.len()]) {
        let part = directory.get(..end).unwrap_or(directory);
        match DirBuilder::new().mode(DIRECTORY_MODE).create(part) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Locks the directory itself, so that no lock file is left behind.
fn lock(directory: &str, wait: &mut dyn FnMut(Duration) -> bool) -> io::Result<File> {
    let file = sys::open(directory)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if wait(LOCK_INTERVAL) => {}
            Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Removes a file that may not be there.
fn remove_file(path: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Replaces a file in one step: its readers see the old content or the new, and so does the next
/// boot after a power cut. A symbolic link in its place is replaced, not followed.
fn replace_file(path: &str, content: &str) -> io::Result<()> {
    if is_right(path, content) {
        return Ok(());
    }
    let temporary = [path, ".new"].concat();
    let written = write_file(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Whether the file is there just as it should be.
fn is_right(path: &str, content: &str) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.is_file()
            && metadata.permissions().mode() & 0o7777 == FILE_MODE
            && metadata.len() == content.len() as u64
    }) && read_file(path).is_ok_and(|bytes| bytes == content.as_bytes())
}

/// The content of a file.
fn read_file(path: &str) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    sys::open(path)?.read_to_end(&mut content)?;
    Ok(content)
}

/// Writes a new file and brings it to the disk.
fn write_file(path: &str, content: &str) -> io::Result<()> {
    let create = || sys::create(path, FILE_MODE);
    let mut file = match create() {
        // The directory's lock is ours, so this was left by a run that died.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create()?
        }
        result => result?,
    };
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

/// Why a file could not be written.
#[derive(Debug)]
pub struct WriteError {
    /// Which file, or the directory.
    pub path: String,
    /// What the system says.
    pub error: io::Error,
}

impl WriteError {
    /// The whole story with the remedy, for the log.
    #[must_use]
    pub fn message(&self) -> String {
        let remedy = match self.error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space there",
            ErrorKind::WouldBlock => "another run holds the lock: end it",
            ErrorKind::IsADirectory => "remove the directory that has the file's name",
            ErrorKind::PermissionDenied => "run as root, or name another place with --output-dir",
            _ => "name another place with --output-dir",
        };
        format!("cannot write {}: {}; {remedy}", self.path, self.error)
    }
}
