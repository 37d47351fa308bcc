//! The real binary: its files, its exit statuses, its words. Loopback only.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What attic answers.
const CACHE_INFO: &str = "WantMassQuery: 1\nStoreDir: /nix/store\nPriority: 41\n";

/// nix.conf when nothing is found.
const FALLBACK: &str = "# Written by cache-resolver. No local cache answered.\n\
                        substituters = https://cache.nixos.org\n";

/// Serves one kind of response on a loopback port until the test ends.
fn serve(response: impl Fn(&str) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 2048];
            let count = stream.read(&mut request).unwrap_or(0);
            // The program may have seen enough and left.
            let _ = stream.write_all(&response(&String::from_utf8_lossy(&request[..count])));
        }
    });
    address
}

/// A response with a body.
fn page(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A cache on loopback.
fn cache() -> SocketAddr {
    serve(|request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        if path == "/system/nix-cache-info" {
            page("200 OK", CACHE_INFO)
        } else {
            page("404 No", "")
        }
    })
}

/// A directory for the files of one test, and an override file in it.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// A place whose override says this.
    fn with_override(order: &str) -> Self {
        let place = Self::new();
        fs::write(place.path("override"), order).unwrap();
        place
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cache-resolver"));
        command.args(["--output-dir", &self.path("out"), "--override", &self.path("override")]);
        command.args(arguments.split_whitespace()).env_remove("JOURNAL_STREAM");
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.directory.path().join("out").join(name)).ok()
    }

    /// The names in the output directory.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("out")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Standard error as text.
fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn found_by_override() {
    let cache = cache();
    let place = Place::with_override(&format!("{cache}\n"));
    let output = place.run("");
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    assert_eq!(place.names(), ["nix.conf", "waterbug-ip"]);
    assert_eq!(place.read("waterbug-ip").unwrap(), "127.0.0.1\n");
    let expected = format!(
        "# Written by cache-resolver. waterbug answered at {cache}.\n\
         substituters = http://{cache}/system?priority=30 https://cache.nixos.org\n\
         connect-timeout = 10\n\
         download-attempts = 3\n\
         stalled-download-timeout = 30\n\
         fallback = true\n"
    );
    assert_eq!(place.read("nix.conf").unwrap(), expected);
    for line in expected.lines() {
        assert!(log(&output).contains(line), "shows nix.conf: {}", log(&output));
    }
    for name in place.names() {
        let metadata = fs::metadata(Path::new(&place.path("out")).join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o644);
    }
}

#[test]
fn options_shape_the_files() {
    let cache = cache();
    let place = Place::with_override(&cache.to_string());
    let output = place.run(
        "--host hive.example --priority 7 --upstream https://a --upstream https://b \
         --setting fallback=false --setting connect-timeout= --setting cores=2",
    );
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    let expected = format!(
        "# Written by cache-resolver. hive answered at {cache}.\n\
         substituters = http://{cache}/system?priority=7 https://a https://b\n\
         download-attempts = 3\n\
         stalled-download-timeout = 30\n\
         fallback = false\n\
         cores = 2\n"
    );
    assert_eq!(place.read("nix.conf").unwrap(), expected);
    assert_eq!(place.names(), ["hive-ip", "nix.conf"]);
    place.run(
        "--additive --setting fallback= --setting download-attempts= \
               --setting stalled-download-timeout= --setting connect-timeout=",
    );
    let expected = format!(
        "# Written by cache-resolver. waterbug answered at {cache}.\n\
         extra-substituters = http://{cache}/system?priority=30\n"
    );
    assert_eq!(place.read("nix.conf").unwrap(), expected);
}

#[test]
fn not_found_names_no_waterbug() {
    let place = Place::with_override("none");
    fs::create_dir(place.path("out")).unwrap();
    fs::write(place.path("out/waterbug-ip"), "10.0.0.1\n").unwrap();
    let output = place.run("");
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    assert_eq!(place.read("nix.conf").unwrap(), FALLBACK);
    assert_eq!(place.names(), ["nix.conf"], "the stale address is gone");
    place.run("--additive");
    assert_eq!(
        place.read("nix.conf").unwrap(),
        "# Written by cache-resolver. No local cache answered.\n"
    );
}

#[test]
fn what_is_not_a_cache_is_not_believed() {
    for (response, remedy) in [
        (page("401 Unauthorized", ""), "make the cache public"),
        (page("404 Not Found", ""), "check --path"),
        (page("400 Bad Host", ""), "allowed-hosts"),
        (page("307 Temporary Redirect", ""), "HTTP status 307"),
        (page("200 OK", "<html></html>"), "not a Nix cache"),
        (page("200 OK", "StoreDir: /gnu/store\n"), "another store"),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), "not a Nix cache"),
        (vec![b'x'; 1 << 20], "not a Nix cache"),
        (Vec::new(), "broke the connection off"),
    ] {
        let server = serve(move |_| response.clone());
        let place = Place::with_override(&server.to_string());
        let output = place.run("");
        assert_eq!(output.status.code(), Some(0), "{}", log(&output));
        assert_eq!(place.read("nix.conf").unwrap(), FALLBACK);
        assert!(log(&output).contains(remedy), "{remedy}: {}", log(&output));
    }
}

#[test]
fn a_server_that_hangs_costs_two_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::with_override(&listener.local_addr().unwrap().to_string());
    let started = Instant::now();
    let output = place.run("");
    assert_eq!(output.status.code(), Some(0));
    assert!(log(&output).contains("does not answer in time"), "{}", log(&output));
    assert!(started.elapsed() < Duration::from_millis(2500));
    let started = Instant::now();
    let output = place.run("--budget 0.3");
    assert_eq!(place.read("nix.conf").unwrap(), FALLBACK, "{}", log(&output));
    assert!(started.elapsed() < Duration::from_millis(400), "{:?}", started.elapsed());
}

#[test]
fn a_credential_is_an_override_too() {
    let cache = cache();
    let place = Place::new();
    let credentials = place.path("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(format!("{credentials}/cache-resolver.override"), cache.to_string()).unwrap();
    let output = place.command("").env("CREDENTIALS_DIRECTORY", &credentials).output().unwrap();
    assert!(place.read("nix.conf").unwrap().contains(&cache.to_string()), "{}", log(&output));
}

#[test]
fn rubbish_in_the_override_is_named_and_ignored() {
    for rubbish in ["", "waterbug.lan", "10.0.0.1:99999", "\u{0}", "10.0.0.1\n10.0.0.2\n"] {
        let place = Place::with_override(rubbish);
        let output = place.run("--methods previous --dry-run");
        let log = log(&output);
        assert!(log.contains("/override holds none of") && log.contains("remove it"), "{log}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), FALLBACK);
    }
}

#[test]
fn the_previous_result_is_tried_first() {
    let cache = cache();
    let place = Place::new();
    fs::create_dir(place.path("out")).unwrap();
    fs::write(place.path("out/waterbug-ip"), "127.0.0.1\n").unwrap();
    let output = place.run(&format!("--methods previous --port {}", cache.port()));
    assert!(
        place.read("nix.conf").unwrap().contains(&format!("http://{cache}/system")),
        "{}",
        log(&output)
    );
    assert!(log(&output).contains("by previous"), "{}", log(&output));
}

#[test]
fn a_second_run_touches_nothing() {
    let cache = cache();
    let place = Place::with_override(&cache.to_string());
    let identity = || {
        ["nix.conf", "waterbug-ip"].map(|name| {
            let metadata = fs::metadata(Path::new(&place.path("out")).join(name)).unwrap();
            (metadata.ino(), metadata.mtime_nsec())
        })
    };
    place.run("");
    let before = identity();
    place.run("");
    assert_eq!(identity(), before);
    // But what is wrong with a file is put right.
    fs::set_permissions(place.path("out/nix.conf"), fs::Permissions::from_mode(0o600)).unwrap();
    place.run("");
    assert_eq!(fs::metadata(place.path("out/nix.conf")).unwrap().mode() & 0o7777, 0o644);
    // And so is what a run that was killed left behind.
    fs::write(place.path("out/nix.conf.new"), "half").unwrap();
    fs::write(place.path("out/nix.conf"), "old").unwrap();
    place.run("");
    assert_eq!(place.names(), ["nix.conf", "waterbug-ip"]);
}

#[test]
fn a_symbolic_link_is_replaced_not_followed() {
    let place = Place::with_override("none");
    fs::create_dir(place.path("out")).unwrap();
    fs::write(place.path("victim"), "precious").unwrap();
    for name in ["nix.conf", "nix.conf.new"] {
        symlink(place.path("victim"), Path::new(&place.path("out")).join(name)).unwrap();
    }
    let output = place.run("");
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    assert_eq!(fs::read_to_string(place.path("victim")).unwrap(), "precious");
    assert!(fs::symlink_metadata(place.path("out/nix.conf")).unwrap().is_file());
    assert_eq!(place.read("nix.conf").unwrap(), FALLBACK);
}

#[test]
fn what_cannot_be_written_is_said_and_nothing_lost() {
    let place = Place::with_override("none");
    // A file where the directory should be.
    fs::write(place.path("out"), "").unwrap();
    let output = place.run("");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        log(&output).contains("cannot write") && log(&output).contains("--output-dir"),
        "{}",
        log(&output)
    );
    fs::remove_file(place.path("out")).unwrap();
    // A directory where a file should be.
    fs::create_dir_all(place.path("out/nix.conf")).unwrap();
    let output = place.run("");
    assert_eq!(output.status.code(), Some(1));
    assert!(log(&output).contains("nix.conf"), "{}", log(&output));
    assert_eq!(place.names(), ["nix.conf"], "no temporary file stays");
    // No place at all.
    let output = Command::new(env!("CARGO_BIN_EXE_cache-resolver"))
        .args(["--override", &place.path("override"), "--output-dir", ""])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_missing_directory_is_made_for_everybody() {
    let place = Place::with_override("none");
    let output = place.run("--output-dir=/dev/null/x");
    assert_eq!(output.status.code(), Some(1), "{}", log(&output));
    place.run("");
    assert_eq!(fs::metadata(place.path("out")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn two_runs_never_interleave() {
    let caches = [cache(), cache()];
    let place = Place::new();
    fs::create_dir(place.path("out")).unwrap();
    for (index, cache) in caches.iter().enumerate() {
        fs::write(place.path(&format!("override{index}")), cache.to_string()).unwrap();
    }
    let mut runs: Vec<_> = (0..40)
        .map(|run| {
            let order = place.path(&format!("override{}", run % 2));
            place.command(&format!("-q --override {order}")).spawn().unwrap()
        })
        .collect();
    for run in &mut runs {
        assert!(run.wait().unwrap().success());
    }
    assert_eq!(place.names(), ["nix.conf", "waterbug-ip"]);
    let nix_conf = place.read("nix.conf").unwrap();
    assert!(caches.iter().any(|cache| nix_conf.contains(&cache.to_string())), "{nix_conf}");
    assert_eq!(nix_conf.lines().count(), 6);
    // A run that holds the lock and hangs costs the budget and not more.
    let held = fs::File::open(place.path("out")).unwrap();
    held.lock().unwrap();
    let started = Instant::now();
    let output = place.run("--budget 0.4 --override /dev/null/none --methods previous");
    assert_eq!(output.status.code(), Some(1));
    assert!(log(&output).contains("holds the lock"), "{}", log(&output));
    assert!(started.elapsed() < Duration::from_millis(600), "{:?}", started.elapsed());
}

#[test]
fn a_signal_writes_the_fallback_at_once() {
    for signal in ["-TERM", "-INT"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Place::with_override(&listener.local_addr().unwrap().to_string());
        let mut child = place.command("").stderr(Stdio::null()).spawn().unwrap();
        // Once it has connected it is in the middle of its work.
        listener.accept().unwrap();
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let started = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
        assert!(started.elapsed() < Duration::from_millis(50), "{signal}: {:?}", started.elapsed());
        assert_eq!(place.read("nix.conf").unwrap(), FALLBACK, "{signal}");
    }
}

#[test]
fn reports_are_complete() {
    let cache = cache();
    let place = Place::with_override(&cache.to_string());
    let output = place.run("--explain");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("override: started") && text.contains("is a Nix cache"), "{text}");
    let output = place.run("--dry-run --explain");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.lines().all(|line| line.starts_with('#') || line.contains(" = ")),
        "a nix.conf: {text}"
    );
    let output = place.run("--json --dry-run -q");
    let json = String::from_utf8(output.stdout).unwrap();
    for part in [
        "{\"outcome\":\"found\"",
        "\"address\":\"127.0.0.1\"",
        "\"timeline\":[{",
        "\\nsubstituters = ",
    ] {
        assert!(json.contains(part), "{part}: {json}");
    }
    assert!(json.ends_with("]}\n") && json.lines().count() == 1);
    assert_eq!(log(&place.run("-q")), "");
}

#[test]
fn the_journal_gets_priorities() {
    let place = Place::with_override("rubbish here");
    let output = place
        .command("--methods previous --dry-run")
        .env("JOURNAL_STREAM", "8:1")
        .output()
        .unwrap();
    let log = log(&output);
    assert!(log.starts_with("<3>/"), "the file's name: {log}");
    assert!(log.lines().any(|line| line.starts_with("<5>")), "{log}");
    assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
}

#[test]
fn usage_is_checked() {
    let place = Place::new();
    for (arguments, status, expected) in [
        ("--nonsense", 2, "unknown option --nonsense"),
        ("--port x", 2, "--port 'x'"),
        ("--upstream cache.nixos.org", 2, "did you mean https://cache.nixos.org?"),
        ("--setting include=/etc/nix/more.conf", 2, "every nix command would fail"),
        ("--sweep 10.0.0.0/7", 2, "--sweep '10.0.0.0/7'"),
        ("--help", 0, ""),
        ("--version", 0, ""),
    ] {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments}");
        assert!(log(&output).contains(expected), "{arguments}: {}", log(&output));
    }
    assert!(String::from_utf8_lossy(&place.run("-V").stdout).starts_with("cache-resolver "));
    assert!(!Path::new(&place.path("out")).exists(), "nothing is written on bad usage");
}
