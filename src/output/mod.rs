//! The files that Nix and other programs read: rendered purely, replaced atomically.

mod lock;

pub use lock::Lock;

use std::fs::File;
use std::time::Duration;

use crate::config::{Config, SETTINGS};
use crate::model::{Found, Outcome};
use crate::path::Paths;
use crate::sys::{self, Error};
use crate::text::Text;
use lock::{is_trusted, lock};

/// Who may read the files: everybody's Nix.
const FILE_MODE: u32 = 0o644;
/// Who may look into their directory.
const DIRECTORY_MODE: u32 = 0o755;
/// Bytes read of a decision that stands.
const DECISION_MAX: usize = 64 * 1024;

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
/// Of all that came from the network, only an address and a port get in, as numbers, and a path that
/// [`Paths`] has found plain. An address that needs a zone never gets here: the search holds it back.
#[must_use]
pub fn render(config: &Config, outcome: Outcome, paths: &Paths) -> Files {
    let Outcome::Found(found) = outcome else {
        return Files { nix_conf: render_fallback(config), address: None };
    };
    let address = found.remote.ip();
    let mut nix_conf = Text::default();
    nix_conf.add("# Written by cache-resolver. ").add(config.host.short_name());
    nix_conf.add(" answered at ").authority(address, found.remote.port());
    nix_conf.add(if config.additive { ".\nextra-substituters = " } else { ".\nsubstituters = " });
    push_url(&mut nix_conf, config, found, paths.text(found.path));
    if !config.additive {
        push_upstreams(&mut nix_conf, config);
    }
    nix_conf.add("\n");
    for (key, value) in settings(config) {
        nix_conf.add(key).add(" = ").add(value).add("\n");
    }
    let mut line = Text::default();
    line.ip(address).add("\n");
    Files { nix_conf: nix_conf.0, address: Some(line.0) }
}

/// Adds the substituter's URL. The priority stands in it because Nix sorts by priority, not by place:
/// attic announces 41, cache.nixos.org 40, and so the LAN would be asked last.
fn push_url(text: &mut Text, config: &Config, found: Found, path: &str) {
    text.add("http://");
    if found.by_name {
        text.add(&config.host.text);
    } else {
        text.url_host(found.remote.ip());
    }
    text.add(":").decimal(found.remote.port().into());
    text.add(path).add("?priority=").decimal(config.priority.into());
}

/// nix.conf for when there is no cache.
fn render_fallback(config: &Config) -> String {
    let mut nix_conf = Text::default();
    nix_conf.add("# Written by cache-resolver. No local cache answered.\n");
    if !config.additive {
        nix_conf.add("substituters =");
        push_upstreams(&mut nix_conf, config);
        nix_conf.add("\n");
    }
    nix_conf.0
}

/// Adds what Nix uses besides.
fn push_upstreams(text: &mut Text, config: &Config) {
    for upstream in &config.upstreams {
        text.add(" ").add(upstream);
    }
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

/// What the files are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A decision, which takes the place of any other.
    Decision,
    /// What is left where no decision stands.
    Fallback,
}

/// What has become of nix.conf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is new, or another than before.
    Written,
    /// It was right already.
    Unchanged,
    /// An earlier decision stays.
    Stands,
    /// It could not be written.
    NotWritten,
    /// It was not to be written.
    NotWanted,
}

impl State {
    /// Whether it is as it should be.
    #[must_use]
    pub const fn is_in_place(self) -> bool {
        matches!(self, Self::Written | Self::Unchanged | Self::Stands)
    }
}

/// Puts the files into `directory`, which is made where it is missing. Their modes are subject to
/// the umask (see [`let_all_read`](crate::sys::let_all_read)). Gives the lock, if there can be one.
///
/// Each file is replaced in one step and left alone if it is right already. A lock keeps the pair
/// together when two runs end at the same time; `wait` sleeps for the time given, or says that there
/// is no time left. A fallback needs no lock: whoever holds it is about to write a decision, and until
/// then there is our nix.conf.
///
/// # Errors
/// The first thing that went wrong; the other file is still brought up to date.
pub fn replace(
    directory: &str,
    short_name: &str,
    files: &Files,
    kind: Kind,
    wait: &mut dyn FnMut(Duration) -> bool,
) -> Result<(State, Option<Lock>), WriteError> {
    let failed = |error| WriteError { path: directory.to_owned(), error };
    create_directory(directory).map_err(failed)?;
    let nix_conf = nix_conf_path(directory);
    let lock = match lock(directory, wait) {
        Err(error) if kind == Kind::Decision => return Err(failed(error)),
        lock => lock.ok().flatten(),
    };
    let is_locked = lock.is_some();
    if kind == Kind::Fallback && (!is_locked || read_decision(directory).is_some()) {
        return match add_file(&nix_conf, &files.nix_conf) {
            // A decision, which somebody else has just made, is as good.
            Err(error) if error != Error(libc::EEXIST) || read_decision(directory).is_none() => {
                Err(WriteError { path: nix_conf, error })
            }
            Err(_) => Ok((State::Stands, lock)),
            Ok(()) => Ok((State::Written, lock)),
        };
    }
    let path = address_path(directory, short_name);
    let address = match &files.address {
        Some(address) => replace_file(directory, &path, address, is_locked),
        None => remove_file(&path),
    };
    let is_new = replace_file(directory, &nix_conf, &files.nix_conf, is_locked)
        .map_err(|error| WriteError { path: nix_conf, error })?;
    let is_new = address.map_err(|error| WriteError { path, error })? || is_new;
    Ok((if is_new { State::Written } else { State::Unchanged }, lock))
}

/// Puts what explains a decision beside it, while the lock is held if `is_locked`; it may be lost in a
/// power cut. Where it cannot be written there is none, rather than that of another decision.
pub fn write_explanation(directory: &str, text: &str, is_locked: bool) {
    let path = [directory, "/explain"].concat();
    let written = write_temporary(&path, text, is_locked, false);
    if written.and_then(|temporary| rename(&temporary, &path)).is_err() {
        let _ = sys::remove_file(&path);
    }
}

/// nix.conf as it is in `directory`, if there is one: the decision that stands.
#[must_use]
pub fn read_decision(directory: &str) -> Option<String> {
    let path = nix_conf_path(directory);
    sys::status(&path).ok().filter(|status| status.is_file)?;
    // Whatever is in it, it stands.
    let content = sys::read(&path, DECISION_MAX).ok();
    Some(content.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default())
}

/// Makes the directory and, where they are missing, those above it.
///
/// # Errors
/// Whatever mkdir(2) gives.
pub fn create_directory(directory: &str) -> sys::Result<()> {
    let create = |path: &str| match sys::make_directory(path, DIRECTORY_MODE) {
        Err(Error(libc::EEXIST)) => Ok(()),
        // Who may not make one, on a network file system or in a sandbox, may well have one.
        Err(error) if error != Error(libc::ENOENT) => sys::owner_of(path).map(drop).or(Err(error)),
        result => result,
    };
    let ends = directory.match_indices('/').map(|(end, _)| end).filter(|end| *end > 0);
    match create(directory) {
        Err(Error(libc::ENOENT)) => {}
        result => return result,
    }
    for end in ends.chain([directory.len()]) {
        create(directory.get(..end).unwrap_or(directory))?;
    }
    Ok(())
}

/// Removes a file that may not be there: whether it was.
fn remove_file(path: &str) -> sys::Result<bool> {
    match sys::remove_file(path) {
        Err(Error(libc::ENOENT)) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Replaces a file in one step: its readers see the old content or the new, and so does the next
/// boot after a power cut. A symbolic link in its place is replaced, not followed. False where it was
/// right already.
fn replace_file(directory: &str, path: &str, content: &str, is_locked: bool) -> sys::Result<bool> {
    if is_right(directory, path, content) {
        if is_locked {
            // What a run that died has left.
            let _ = sys::remove_file(&[path, ".new"].concat());
        }
        return Ok(false);
    }
    let temporary = write_temporary(path, content, is_locked, true)?;
    rename(&temporary, path).map(|()| true)
}

/// Gives a temporary file its name.
fn rename(temporary: &str, path: &str) -> sys::Result<()> {
    let replaced = sys::rename(temporary, path);
    if replaced.is_err() {
        // The first error is the one to tell.
        let _ = sys::remove_file(temporary);
    }
    replaced
}

/// Adds a file in one step where there is none.
fn add_file(path: &str, content: &str) -> sys::Result<()> {
    let temporary = write_temporary(path, content, false, true)?;
    let added = sys::hard_link(&temporary, path);
    let _ = sys::remove_file(&temporary);
    added
}

/// Whether the file is there just as it should be, and nobody can change it but those who can replace
/// it anyway: we, root, the owner of the directory.
fn is_right(directory: &str, path: &str, content: &str) -> bool {
    sys::status(path).is_ok_and(|status| {
        status.is_file
            && status.mode == FILE_MODE
            && status.length == content.len() as u64
            && is_trusted(&status, directory)
    }) && sys::read(path, DECISION_MAX).is_ok_and(|bytes| bytes == content.as_bytes())
}

/// Writes a new file beside the one at `path`, and brings it to the disk if it `is_synced`: its own path.
fn write_temporary(
    path: &str,
    content: &str,
    is_locked: bool,
    is_synced: bool,
) -> sys::Result<String> {
    let (temporary, file) = create_temporary(path, is_locked)?;
    let written = sys::write(&file, content.as_bytes(), is_synced);
    if written.is_err() {
        let _ = sys::remove_file(&temporary);
    }
    written.map(|()| temporary)
}

/// Makes a new file. Who has the lock knows its name, and removes what a run that died left there;
/// without the lock, or where another user's file stands in the way, it gets a name that nobody knows.
fn create_temporary(path: &str, is_locked: bool) -> sys::Result<(String, File)> {
    if is_locked {
        let temporary = [path, ".new"].concat();
        // The second time what was there is gone, if it was one of ours.
        for _ in 0..2 {
            match sys::create(&temporary, FILE_MODE) {
                Err(Error(libc::EEXIST)) => {
                    let _ = sys::remove_file(&temporary);
                }
                result => return result.map(|file| (temporary, file)),
            }
        }
    }
    let mut temporary = Text::default();
    temporary.add(path).add(".").decimal(sys::random_seed());
    sys::create(&temporary.0, FILE_MODE).map(|file| (temporary.0, file))
}

/// Why a file could not be written.
#[derive(Debug)]
pub struct WriteError {
    /// Which file, or the directory.
    pub path: String,
    /// What the system says.
    pub error: Error,
}

impl WriteError {
    /// Whether another run held the lock all the time.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.error == Error(libc::EAGAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, Environment, parse};
    use crate::model::Origin;

    #[test]
    fn the_url_has_the_path_of_what_was_found() {
        let words = ["--path", "/main"].map(Into::into);
        let Ok(Command::Run(config)) = parse(words, &Environment::default()) else {
            unreachable!()
        };
        let mut paths = Paths::new(config.path.clone());
        for (path, url) in [
            ("/main", "http://10.0.0.5:5000/main?priority=30"),
            ("/", "http://10.0.0.5:5000?priority=30"),
            ("/nix/cache", "http://10.0.0.5:5000/nix/cache?priority=30"),
        ] {
            let found = Found {
                remote: "10.0.0.5:5000".parse().unwrap(),
                path: paths.add(path.as_bytes()).unwrap(),
                origin: Origin::Gateway,
                by_name: false,
            };
            let files = render(&config, Outcome::Found(found), &paths);
            let line = files.nix_conf.lines().nth(1).unwrap();
            assert_eq!(line, format!("substituters = {url} https://cache.nixos.org"));
        }
    }

    /// A configuration by its options.
    fn configured(words: &[&str]) -> Config {
        let Ok(Command::Run(config)) = parse(words.iter().map(Into::into), &Environment::default())
        else {
            unreachable!()
        };
        *config
    }

    /// The files of a cache that was found, or of none.
    fn files(address: Option<&str>) -> Files {
        let nix_conf = format!("substituters = {}\n", address.unwrap_or("https://cache.nixos.org"));
        Files { nix_conf, address: address.map(|address| format!("{address}\n")) }
    }

    /// A directory that is not there yet, below one that goes with the test.
    fn directory(place: &tempfile::TempDir) -> String {
        place.path().join("not/there/yet").to_str().unwrap().to_owned()
    }

    /// Puts files there, and waits for nobody.
    fn put(directory: &str, files: &Files, kind: Kind) -> Result<State, WriteError> {
        replace(directory, "waterbug", files, kind, &mut |_| false).map(|(state, _)| state)
    }

    #[test]
    fn a_decision_is_written_once_and_then_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let directory = directory(&place);
        let (found, none) = (files(Some("10.0.0.5")), files(None));
        for (files, state) in [
            (&found, State::Written),
            (&found, State::Unchanged),
            (&none, State::Written),
            (&none, State::Unchanged),
        ] {
            assert_eq!(put(&directory, files, Kind::Decision).unwrap(), state);
            assert!(state.is_in_place());
            assert_eq!(read_decision(&directory).unwrap(), files.nix_conf);
            let address = std::fs::read_to_string(address_path(&directory, "waterbug")).ok();
            assert_eq!(address, files.address);
            let names = std::fs::read_dir(&directory).unwrap().count();
            assert_eq!(names, 1 + usize::from(address.is_some()), "no lock, nothing temporary");
        }
        assert!(!State::NotWritten.is_in_place());
        // With as many settings as there may be.
        let long = Files { nix_conf: "x".repeat(DECISION_MAX), address: None };
        assert_eq!(DECISION_MAX, 1 << 16);
        for state in [State::Written, State::Unchanged] {
            assert_eq!(put(&directory, &long, Kind::Decision).unwrap(), state);
            assert_eq!(read_decision(&directory).unwrap(), long.nix_conf);
        }
    }

    #[test]
    fn what_another_may_change_is_written_anew() {
        let place = tempfile::tempdir().unwrap();
        let directory = directory(&place);
        let found = files(Some("10.0.0.5"));
        put(&directory, &found, Kind::Decision).unwrap();
        let path = nix_conf_path(&directory);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&path, mode).unwrap();
        assert_eq!(put(&directory, &found, Kind::Decision).unwrap(), State::Written);
        assert_eq!(sys::status(&path).unwrap().mode, FILE_MODE);
        if sys::effective_user() == 0 {
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            assert_eq!(put(&directory, &found, Kind::Decision).unwrap(), State::Written);
            assert_eq!(sys::owner_of(&path), Ok(0));
        }
    }

    #[test]
    fn a_fallback_takes_nobody_s_place() {
        let place = tempfile::tempdir().unwrap();
        let directory = directory(&place);
        let (found, none) = (files(Some("10.0.0.5")), files(None));
        assert_eq!(put(&directory, &none, Kind::Fallback).unwrap(), State::Written);
        assert_eq!(put(&directory, &found, Kind::Decision).unwrap(), State::Written);
        assert_eq!(put(&directory, &none, Kind::Fallback).unwrap(), State::Stands);
        assert_eq!(read_decision(&directory).unwrap(), found.nix_conf);
    }

    #[test]
    fn what_a_killed_run_has_left_goes() {
        let place = tempfile::tempdir().unwrap();
        let directory = directory(&place);
        let found = files(Some("10.0.0.5"));
        put(&directory, &found, Kind::Decision).unwrap();
        let left = nix_conf_path(&directory) + ".new";
        for (files, state) in [(&found, State::Unchanged), (&files(None), State::Written)] {
            std::fs::write(&left, "half of").unwrap();
            assert_eq!(put(&directory, files, Kind::Decision).unwrap(), state);
            assert!(!std::path::Path::new(&left).exists());
        }
        // What cannot be removed stands in nobody's way.
        std::fs::create_dir(&left).unwrap();
        assert_eq!(put(&directory, &found, Kind::Decision).unwrap(), State::Written);
        assert_eq!(read_decision(&directory).unwrap(), found.nix_conf);
    }

    #[test]
    fn who_holds_the_lock_is_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let directory = directory(&place);
        let (found, none) = (files(Some("10.0.0.5")), files(None));
        let (_, held) =
            replace(&directory, "waterbug", &found, Kind::Decision, &mut |_| false).unwrap();
        assert!(held.is_some());
        let error = put(&directory, &none, Kind::Decision).unwrap_err();
        assert!(error.is_locked() && error.path == directory, "{error:?}");
        // A fallback does without the lock.
        assert_eq!(put(&directory, &none, Kind::Fallback).unwrap(), State::Stands);
        std::fs::remove_file(nix_conf_path(&directory)).unwrap();
        assert_eq!(put(&directory, &none, Kind::Fallback).unwrap(), State::Written);
        // What is no decision is not taken for one.
        std::fs::remove_file(nix_conf_path(&directory)).unwrap();
        std::fs::create_dir(nix_conf_path(&directory)).unwrap();
        let error = put(&directory, &none, Kind::Fallback).unwrap_err();
        assert_eq!((error.path, error.error), (nix_conf_path(&directory), Error(libc::EEXIST)));
        std::fs::remove_dir(nix_conf_path(&directory)).unwrap();
        // Its holder is done while we wait.
        let mut held = held;
        let mut wait = |_| held.take().is_some();
        let (state, lock) =
            replace(&directory, "waterbug", &none, Kind::Decision, &mut wait).unwrap();
        assert!(state == State::Written && lock.is_some());
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        let place = tempfile::tempdir().unwrap();
        let directory = directory(&place);
        let found = files(Some("10.0.0.5"));
        std::fs::create_dir_all(address_path(&directory, "waterbug")).unwrap();
        let error = put(&directory, &found, Kind::Decision).unwrap_err();
        assert_eq!(error.path, address_path(&directory, "waterbug"));
        assert!(!error.is_locked());
        assert_eq!(read_decision(&directory).unwrap(), found.nix_conf, "the other file is right");
        std::fs::remove_dir(address_path(&directory, "waterbug")).unwrap();
        std::fs::remove_file(nix_conf_path(&directory)).unwrap();
        std::fs::create_dir(nix_conf_path(&directory)).unwrap();
        assert!(read_decision(&directory).is_none());
        for kind in [Kind::Decision, Kind::Fallback] {
            let error = put(&directory, &found, kind).unwrap_err();
            assert_eq!(error.path, nix_conf_path(&directory));
        }
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        let below = file.join("below").to_str().unwrap().to_owned();
        assert_eq!(put(&below, &found, Kind::Decision).unwrap_err().error, Error(libc::ENOTDIR));
    }

    #[test]
    fn an_explanation_is_of_the_decision_or_not_there() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().to_str().unwrap();
        let path = place.path().join("explain");
        for is_locked in [true, false] {
            write_explanation(directory, "why", is_locked);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "why");
        }
        write_explanation(directory, "because", true);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "because");
        // Nothing temporary stays where it cannot be replaced.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        write_explanation(directory, "lost", true);
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 1);
    }

    #[test]
    fn what_is_rendered_is_what_the_options_say() {
        let paths = |config: &Config| Paths::new(config.path.clone());
        let found = Found {
            remote: "[fd00::5]:9999".parse().unwrap(),
            path: crate::path::PathId::CONFIGURED,
            origin: Origin::Dns,
            by_name: false,
        };
        let plain = configured(&[]);
        let files = render(&plain, Outcome::Found(found), &paths(&plain));
        assert_eq!(files.address.unwrap(), "fd00::5\n");
        let url = "http://[fd00::5]:9999/system?priority=30";
        assert!(
            files.nix_conf.contains(&format!("\nsubstituters = {url} https://cache.nixos.org\n"))
        );
        let none = "# Written by cache-resolver. No local cache answered.\n";
        let files = render(&plain, Outcome::NotFound, &paths(&plain));
        assert_eq!(files.nix_conf, format!("{none}substituters = https://cache.nixos.org\n"));
        let additive =
            configured(&["--additive", "--setting", "fallback=", "--setting", "cores=2"]);
        let by_name = Found { by_name: true, ..found };
        let files = render(&additive, Outcome::Found(by_name), &paths(&additive));
        let url = "http://waterbug.lan:9999/system?priority=30";
        assert!(files.nix_conf.contains(&format!("\nextra-substituters = {url}\n")));
        assert!(!files.nix_conf.contains("fallback") && files.nix_conf.contains("\ncores = 2\n"));
        assert_eq!(render(&additive, Outcome::NoNetwork, &paths(&additive)).nix_conf, none);
    }

    #[test]
    fn what_is_no_lock_of_ours_is_removed_or_done_without() {
        let place = tempfile::tempdir().unwrap();
        let directory = directory(&place);
        let found = files(Some("10.0.0.5"));
        put(&directory, &found, Kind::Decision).unwrap();
        let lock = directory.clone() + "/.lock";
        // Everybody may open it, and so hold it.
        std::fs::write(&lock, "").unwrap();
        assert_eq!(put(&directory, &files(None), Kind::Decision).unwrap(), State::Written);
        assert!(!std::path::Path::new(&lock).exists());
        std::fs::create_dir(&lock).unwrap();
        assert_eq!(put(&directory, &found, Kind::Decision).unwrap(), State::Written);
        assert!(std::path::Path::new(&lock).exists());
        std::fs::remove_dir(&lock).unwrap();
        if sys::effective_user() == 0 {
            // The directory's owner takes turns with root.
            std::os::unix::fs::chown(&directory, Some(65534), None).unwrap();
            assert_eq!(put(&directory, &files(None), Kind::Decision).unwrap(), State::Written);
            std::os::unix::fs::chown(nix_conf_path(&directory), Some(65534), None).unwrap();
            assert_eq!(put(&directory, &files(None), Kind::Decision).unwrap(), State::Unchanged);
        }
    }
}
