//! The real binary: its files, its exit statuses, its words. Loopback only.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
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

    /// Holds the lock as another run of this user would.
    fn hold_lock(&self) -> fs::File {
        fs::create_dir_all(self.path("out")).unwrap();
        let lock = fs::File::create(self.path("out/.lock")).unwrap();
        lock.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        lock.lock().unwrap();
        lock
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

/// A pipe that takes nothing more until somebody reads it.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&vec![b' '; 64 * 1024]).unwrap();
    (reader, writer)
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
    assert_eq!(place.names(), ["explain", "nix.conf", "waterbug-ip"]);
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
    assert_eq!(place.names(), ["explain", "hive-ip", "nix.conf"]);
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
    assert_eq!(place.names(), ["explain", "nix.conf"], "the stale address is gone");
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
        (page("307 Temporary Redirect", ""), "answers HTTP 307: check --port and --path"),
        (page("200 OK", "<html></html>"), "not a Nix cache"),
        (page("200 OK", "StoreDir: /gnu/store\n"), "another store"),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), "not a Nix cache"),
        (vec![b'x'; 1 << 20], "not a Nix cache"),
        (Vec::new(), "closes the connection without an answer"),
    ] {
        let server = serve(move |_| response.clone());
        let place = Place::with_override(&server.to_string());
        let output = place.run("");
        assert_eq!(output.status.code(), Some(0), "{}", log(&output));
        assert_eq!(place.read("nix.conf").unwrap(), FALLBACK);
        let log = log(&output);
        let last = log.lines().last().unwrap();
        assert!(last.contains("Cause: override ") && last.contains(remedy), "{remedy}: {log}");
    }
}

#[test]
fn a_server_that_hangs_costs_two_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::with_override(&listener.local_addr().unwrap().to_string());
    let started = Instant::now();
    let output = place.run("");
    assert_eq!(output.status.code(), Some(0));
    assert!(
        log(&output).contains("accepts connections, but timed out: see the cache's log"),
        "{}",
        log(&output)
    );
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
    assert_eq!(place.names(), ["explain", "nix.conf", "waterbug-ip"]);
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
    assert_eq!(place.names(), ["explain", "nix.conf", "waterbug-ip"]);
    let nix_conf = place.read("nix.conf").unwrap();
    assert!(caches.iter().any(|cache| nix_conf.contains(&cache.to_string())), "{nix_conf}");
    assert_eq!(nix_conf.lines().count(), 6);
}

#[test]
fn another_run_s_lock_costs_the_budget_and_not_more() {
    let place = Place::with_override("none");
    let _held = place.hold_lock();
    let started = Instant::now();
    let output = place.run("--budget 0.4");
    assert_eq!(output.status.code(), Some(1));
    assert!(log(&output).contains("holds the lock"), "{}", log(&output));
    assert!(started.elapsed() >= Duration::from_millis(390), "it may be given up in time");
    assert!(started.elapsed() < Duration::from_millis(600), "{:?}", started.elapsed());
}

#[test]
fn a_lock_on_anything_else_stops_nobody() {
    let place = Place::with_override("none");
    place.run("");
    let nobody_s = ["out", "out/nix.conf"].map(|name| {
        let held = fs::File::open(place.path(name)).unwrap();
        held.lock().unwrap();
        held
    });
    fs::write(place.path("out/nix.conf"), "old").unwrap();
    let output = place.run("--budget 0.4");
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    assert_eq!(place.read("nix.conf").unwrap(), FALLBACK);
    drop(nobody_s);
}

#[test]
fn what_has_the_lock_s_name_stops_nobody() {
    for make in [
        |path: &str| symlink("../victim", path).unwrap(),
        |path: &str| fs::create_dir(path).unwrap(),
        |path: &str| fs::write(path, "readable by all").unwrap(),
        |path: &str| fs::hard_link(path.replace("out/.lock", "victim"), path).unwrap(),
        |path: &str| make_fifo(path),
    ] {
        let place = Place::with_override("none");
        fs::create_dir(place.path("out")).unwrap();
        fs::write(place.path("victim"), "precious").unwrap();
        fs::set_permissions(place.path("victim"), fs::Permissions::from_mode(0o600)).unwrap();
        make(&place.path("out/.lock"));
        let _held = fs::File::open(place.path("victim")).map(|file| file.lock().map(|()| file));
        let output = place.run("--budget 0.4");
        assert_eq!(output.status.code(), Some(0), "{}", log(&output));
        assert_eq!(place.read("nix.conf").unwrap(), FALLBACK);
        assert_eq!(fs::read_to_string(place.path("victim")).unwrap(), "precious");
    }
}

/// Makes a FIFO that nobody writes to.
fn make_fifo(path: &str) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Sends a signal; its exit status, and how long after the signal it came.
fn stop(mut child: Child, signal: &str) -> (Option<i32>, Duration) {
    assert!(child.try_wait().unwrap().is_none(), "it still runs");
    Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    let started = Instant::now();
    (child.wait().unwrap().code(), started.elapsed())
}

/// How soon a signal ends the program.
const STOP_MAX: Duration = Duration::from_millis(50);

#[test]
fn a_signal_writes_the_fallback_at_once() {
    for signal in ["-TERM", "-INT"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Place::with_override(&listener.local_addr().unwrap().to_string());
        let child = place.command("").stderr(Stdio::null()).spawn().unwrap();
        // Once it has connected, and is not hung up on, it is in the middle of its work.
        let _stream = listener.accept().unwrap();
        let (status, time) = stop(child, signal);
        assert_eq!(status, Some(0), "{signal}");
        assert!(time < STOP_MAX, "{signal}: {time:?}");
        assert_eq!(place.read("nix.conf").unwrap(), FALLBACK, "{signal}");
    }
}

#[test]
fn a_signal_leaves_an_earlier_run_s_decision() {
    for arguments in ["", "--watch", "--json"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Place::with_override(&listener.local_addr().unwrap().to_string());
        fs::create_dir(place.path("out")).unwrap();
        fs::write(place.path("out/nix.conf"), "substituters = http://10.0.0.1/x\n").unwrap();
        fs::write(place.path("out/waterbug-ip"), "10.0.0.1\n").unwrap();
        let mut command = place.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let _stream = listener.accept().unwrap();
        let (status, time) = stop(child, "-TERM");
        assert_eq!(status, Some(0), "{arguments}");
        assert!(time < STOP_MAX, "{arguments}: {time:?}");
        assert_eq!(place.read("nix.conf").unwrap(), "substituters = http://10.0.0.1/x\n");
        assert_eq!(place.read("waterbug-ip").unwrap(), "10.0.0.1\n");
        let said = std::io::read_to_string(stdout).unwrap();
        assert_eq!(said.contains("http://10.0.0.1/x"), arguments == "--json", "{said}");
    }
}

#[test]
fn a_signal_that_is_there_first_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::with_override(&listener.local_addr().unwrap().to_string());
    // It stays pending through exec(2).
    let words = ["--block-signal=TERM", "sh", "-c", "kill -TERM $$; exec \"$0\" \"$@\""];
    let run = |arguments: &str| {
        let command = place.command(arguments);
        let mut pending = Command::new("env");
        pending.args(words).arg(command.get_program()).args(command.get_args());
        pending.output().unwrap()
    };
    let started = Instant::now();
    let output = run("");
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(place.read("nix.conf").unwrap(), FALLBACK);
    assert_eq!(run("--help").status.code(), Some(0));
    assert_eq!(run("--nonsense").status.code(), Some(2));
}

#[test]
fn a_signal_ends_the_wait_for_the_lock() {
    for decided in [None, Some("substituters = http://10.0.0.1/x\n")] {
        let cache = cache();
        let place = Place::with_override(&cache.to_string());
        let _held = place.hold_lock();
        if let Some(nix_conf) = decided {
            fs::write(place.path("out/nix.conf"), nix_conf).unwrap();
        }
        let mut command = place.command("--watch");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        // It says so before it writes.
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().contains("found at")));
        let (status, time) = stop(child, "-TERM");
        assert_eq!(status, Some(0), "{decided:?}");
        assert!(time < STOP_MAX, "{decided:?}: {time:?}");
        assert_eq!(place.read("nix.conf").as_deref(), decided.or(Some(FALLBACK)));
        assert_eq!(place.names(), [".lock", "nix.conf"], "{decided:?}");
    }
}

#[test]
fn what_is_no_regular_file_blocks_nobody() {
    let place = Place::new();
    make_fifo(&place.path("override"));
    // Somebody who could write to it, and does not.
    let fifo = fs::File::options().read(true).write(true).open(place.path("override")).unwrap();
    for order in [place.path("override"), "/dev/zero".into(), "/dev/ptmx".into(), place.path("")] {
        let started = Instant::now();
        let output = place.run(&format!("--methods previous --budget 0.5 --override {order}"));
        assert_eq!(output.status.code(), Some(0), "{order}: {}", log(&output));
        assert!(log(&output).contains("not a regular file"), "{order}: {}", log(&output));
        assert!(started.elapsed() < Duration::from_millis(400), "{order}: {:?}", started.elapsed());
        assert_eq!(place.read("nix.conf").unwrap(), FALLBACK);
    }
    drop(fifo);
}

#[test]
fn a_signal_ends_the_wait_for_a_reader() {
    let place = Place::new();
    let (_reader, writer) = full_pipe();
    let child = place.command("--help").stdout(writer).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let (status, time) = stop(child, "-TERM");
    assert_eq!(status, Some(0));
    assert!(time < STOP_MAX, "{time:?}");
}

#[test]
fn a_report_that_nobody_reads_ends_with_the_budget() {
    let place = Place::with_override("none");
    let (_reader, writer) = full_pipe();
    let started = Instant::now();
    let status = place.command("--explain --budget 0.3").stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_millis(600), "{:?}", started.elapsed());
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let place = Place::with_override("none");
    let (_reader, writer) = full_pipe();
    let started = Instant::now();
    let status = place.command("--verbose").stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(place.read("nix.conf").unwrap().contains("No local cache answered"));
}

#[test]
fn reports_are_complete() {
    let cache = cache();
    let place = Place::with_override(&cache.to_string());
    let output = place.run("--explain");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with(&format!("FOUND      found at {cache} by override in ")), "{text}");
    assert!(text.contains("\nMETHOD      WHEN          RESULT\noverride "), "{text}");
    assert_eq!(place.read("explain").unwrap().lines().count(), text.lines().count());
    let output = place.run("--explain --verbose");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("override: started") && text.contains("verified: a Nix cache"), "{text}");
    let output = place.run("--dry-run --explain");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.lines().all(|line| line.starts_with('#') || line.contains(" = ")),
        "a nix.conf: {text}"
    );
    let output = place.run("--json --dry-run -q");
    let json = String::from_utf8(output.stdout).unwrap();
    for part in [
        "{\"schema\":1,\"outcome\":\"found\"",
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
