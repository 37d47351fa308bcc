//! The command line: arguments and environment in, [`Config`] or a clear refusal out.

mod value;

use std::ffi::OsString;
use std::time::Duration;

use crate::config::{Config, Host, Report, Verbosity};
use crate::model::{Methods, Origin};
use value::set_value;

/// What `--help` prints.
pub const HELP: &str = "\
Finds the Nix binary cache on the local network and tells Nix about it.

Usage: cache-resolver [OPTIONS]

  --host NAME       name asked of DNS and the hosts file  [waterbug.lan]
                    its first label is asked over mDNS and names the files
  --port PORT       the cache's port                      [9999]
  --path PATH       the cache's path on its server        [/system]
  --upstream URL    what Nix uses besides; repeatable     [https://cache.nixos.org]
  --additive        write extra-substituters and leave substituters alone
  --priority N      asked before caches with a higher N   [30]
  --setting K=V     replace or add a nix.conf line when found; K= drops it
  --output-dir DIR  [$RUNTIME_DIRECTORY, or /run/cache-resolver for root,
                    or $XDG_RUNTIME_DIR/cache-resolver]
  --override FILE   [/etc/cache-resolver/<first label>-override]
  --budget SECONDS  hard limit for the whole run, 0.1-60  [10]
  --methods LIST    of previous,hosts,dns,mdns,announced,gateway,neighbours,
                    ping,sweep  [all; announced only with --browse]
  --browse          also use a cache that announces itself (DNS-SD), whatever
                    its name
  --sweep CIDR      sweep this as well (private ranges only); repeatable
  --sweep-rate N    probes a second                       [400; 128 on Wi-Fi]
  --sweep-limit N   addresses at most                     [1022]
  --watch           stay, and search again whenever the network changes
                    (without ping and sweep, unless --methods or --sweep is given)
  --dry-run         print nix.conf, write nothing
  --explain         print the result, its cause, and a row for each method;
                    with --verbose every event
  --json            the same as one JSON object
  -v, --verbose     log every step      -q, --quiet    log problems only
  -h, --help                            -V, --version

Files, in the output directory: nix.conf, which Nix is to include; the address,
<first label>-ip; and explain, why the decision is what it is.
Exit status: 0 decided, be it that there is no cache; 1 a file could not be
written; 2 bad usage; 75 no network in time, run it again.
Example: cache-resolver --host attic.home.arpa --path /main --dry-run --explain
";

/// What `--version` prints.
const VERSION: &str = concat!("cache-resolver ", env!("CARGO_PKG_VERSION"), "\n");
/// Letters too few or too many of a word that is still recognised, if it has more.
const TYPOS_MAX: usize = 2;
/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Command {
    /// Find the cache.
    Run(Box<Config>),
    /// Print a text.
    Print(&'static str),
}

/// What the environment says about the places for the files.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `$RUNTIME_DIRECTORY`, systemd.exec(5).
    pub runtime_directory: Option<String>,
    /// `$XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<String>,
    /// The effective user's number.
    pub user: u32,
}

/// What the options say besides the configuration.
#[derive(Default)]
struct Said {
    /// `--browse`.
    browses: bool,
    /// How later searches are to look.
    how: bool,
    /// What is to be printed in place of a run.
    text: Option<&'static str>,
}

/// Reads the arguments, the program's own name not among them.
///
/// # Errors
/// A message that names the argument and what it should be.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Command, String> {
    let mut config = Config {
        host: Host::parse("waterbug.lan").unwrap_or_default(),
        port: 9999,
        path: "/system".to_owned(),
        upstreams: Vec::new(),
        additive: false,
        priority: 30,
        settings: Vec::new(),
        output_dir: default_output_dir(environment),
        override_file: String::new(),
        budget: Duration::from_secs(10),
        methods: Methods::all(),
        watch: false,
        later_methods: Methods::NONE,
        sweep: Vec::new(),
        sweep_rate: None,
        sweep_limit: 1022,
        dry_run: false,
        report: Report::None,
        verbosity: Verbosity::Normal,
    };
    let mut said = Said::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        take_argument(&to_text(argument), &mut arguments, &mut config, &mut said)?;
        if let Some(text) = said.text {
            return Ok(Command::Print(text));
        }
    }
    if config.upstreams.is_empty() {
        config.upstreams.push("https://cache.nixos.org".to_owned());
    }
    if config.override_file.is_empty() {
        config.override_file = override_file(&config.host);
    }
    if said.browses {
        config.methods = config.methods.with(Origin::Announced);
    } else if config.methods.contains(Origin::Announced) {
        return Err("--methods 'announced': only with --browse".to_owned());
    }
    // A laptop must not sweep every network that it visits, unless its user says so.
    config.later_methods = if said.how {
        config.methods
    } else {
        config.methods.without(Origin::Ping).without(Origin::Sweep)
    };
    Ok(Command::Run(Box::new(config)))
}

/// Where the user's own word on the cache of this name is looked for.
fn override_file(host: &Host) -> String {
    ["/etc/cache-resolver/", host.short_name(), "-override"].concat()
}

/// The word of a text that is probably meant, as a question: the wrong one has a letter or two less, or
/// more.
fn did_you_mean(wrong: &str, text: &str) -> String {
    let is_letter = |letter: u8| letter.is_ascii_lowercase() || letter == b'-';
    for word in text.as_bytes().split(|letter| !is_letter(*letter)) {
        if word.len().abs_diff(wrong.len()) <= TYPOS_MAX
            && TYPOS_MAX < word.len().min(wrong.len())
            && word != wrong.as_bytes()
            && word.starts_with(b"-") == wrong.starts_with('-')
            && (has_all(word, wrong.as_bytes()) || has_all(wrong.as_bytes(), word))
        {
            let word = std::str::from_utf8(word).unwrap_or_default();
            return ["; did you mean ", word, "?"].concat();
        }
    }
    String::new()
}

/// Whether a word has all the letters of another, in their order.
fn has_all(word: &[u8], letters: &[u8]) -> bool {
    let mut letters = letters.iter().peekable();
    for letter in word {
        letters.next_if(|wanted| *wanted == letter);
    }
    letters.peek().is_none()
}

/// The options that take a value.
const VALUED: &str = "host port path upstream priority setting output-dir override budget methods \
                      sweep sweep-rate sweep-limit";

/// Whether `word` is one of those, separated by spaces. A table would be larger: a static PIE has a
/// relocation of 24 bytes for each entry.
fn is_one_of(words: &str, word: &str) -> bool {
    words.split(' ').any(|each| each == word)
}

/// Takes an argument, and the next one where that is its value.
fn take_argument(
    argument: &str,
    others: &mut impl Iterator<Item = OsString>,
    config: &mut Config,
    said: &mut Said,
) -> Result<(), String> {
    let unexpected = |argument: &str| Err(["unexpected argument '", argument, "'"].concat());
    let (name, value) =
        argument.split_once('=').map_or((argument, None), |(name, value)| (name, Some(value)));
    let Some(letters) = name.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
        return unexpected(argument);
    };
    match letters.strip_prefix('-') {
        // No option follows.
        Some("") if value.is_none() => {
            return others.next().map_or(Ok(()), |other| unexpected(&to_text(other)));
        }
        Some(name) if is_one_of(VALUED, name) => {
            let value = value.map(OsString::from).or_else(|| others.next());
            let value = value.ok_or_else(|| ["--", name, ": no value"].concat())?;
            let value = value.into_string().map_err(|_| ["--", name, ": not UTF-8"].concat())?;
            said.how |= matches!(name, "methods" | "sweep");
            return set_value(config, name, value);
        }
        Some(_) => take_flag(config, said, name)?,
        // Letters may share a dash.
        None => {
            for (at, letter) in letters.char_indices() {
                let letter = letters.get(at..at + letter.len_utf8()).unwrap_or_default();
                take_flag(config, said, &["-", letter].concat())?;
            }
        }
    }
    if value.is_some() { Err([name, " takes no value"].concat()) } else { Ok(()) }
}

/// Takes an option without a value, its letter or its name, each behind its dashes.
fn take_flag(config: &mut Config, said: &mut Said, option: &str) -> Result<(), String> {
    match option {
        "-h" | "--help" => said.text = Some(HELP),
        "-V" | "--version" => said.text = Some(VERSION),
        "-v" | "--verbose" => config.verbosity = Verbosity::Verbose,
        "-q" | "--quiet" => config.verbosity = Verbosity::Quiet,
        "--additive" => config.additive = true,
        "--dry-run" => config.dry_run = true,
        "--explain" if config.report == Report::None => config.report = Report::Text,
        "--explain" => {}
        "--json" => config.report = Report::Json,
        "--watch" => config.watch = true,
        "--browse" => said.browses = true,
        _ => return Err(["unknown option ", option, &did_you_mean(option, HELP)].concat()),
    }
    Ok(())
}

/// Text for a message.
fn to_text(argument: OsString) -> String {
    argument.into_string().unwrap_or_else(|_| "(not UTF-8)".to_owned())
}

/// Where the files go when the user does not say.
fn default_output_dir(environment: &Environment) -> Option<String> {
    let is_set = |value: &&String| !value.is_empty();
    if let Some(directories) = environment.runtime_directory.as_ref().filter(is_set) {
        // Several directories are separated by colons; ours is the first.
        return directories.split(':').next().map(str::to_owned);
    }
    if environment.user == 0 {
        return Some("/run/cache-resolver".to_owned());
    }
    let base = environment.xdg_runtime_dir.as_ref().filter(is_set)?;
    Some([base, "/cache-resolver"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses arguments split at spaces, as an ordinary user.
    fn parse_words(words: &str) -> Result<Config, String> {
        let environment = Environment {
            xdg_runtime_dir: Some("/run/user/7".into()),
            user: 7,
            ..Environment::default()
        };
        match parse(words.split_whitespace().map(OsString::from), &environment)? {
            Command::Run(config) => Ok(*config),
            Command::Print(_) => Err("not a run".into()),
        }
    }

    #[test]
    fn defaults_are_the_contract_s() {
        let config = parse_words("").unwrap();
        assert_eq!((config.host.text.as_str(), config.port), ("waterbug.lan", 9999));
        assert_eq!((config.path.as_str(), config.priority), ("/system", 30));
        assert_eq!(config.upstreams, ["https://cache.nixos.org"]);
        assert_eq!(config.override_file, "/etc/cache-resolver/waterbug-override");
        assert_eq!(config.output_dir, Some("/run/user/7/cache-resolver".into()));
        assert_eq!(config.budget, Duration::from_secs(10));
    }

    #[test]
    fn values_are_taken() {
        let config = parse_words(
            "--host=Hive.Example. --port 80 --path / --upstream https://a --upstream daemon \
             --upstream https://a --budget .25 \
             --setting fallback= --setting x=y=z --methods dns,mdns --json --explain -v --additive",
        )
        .unwrap();
        assert_eq!((config.host.text.as_str(), config.host.short_name()), ("hive.example", "hive"));
        assert_eq!((config.port, config.path.as_str()), (80, ""));
        assert_eq!(config.upstreams, ["https://a", "daemon"]);
        assert_eq!(config.budget, Duration::from_millis(250));
        assert_eq!(config.settings[0], ("fallback".into(), String::new()));
        assert_eq!(config.settings[1], ("x".into(), "y=z".into()));
        assert!(config.methods.contains(Origin::Dns) && !config.methods.contains(Origin::Hosts));
        assert!(config.report == Report::Json && config.additive);
        assert_eq!(config.override_file, "/etc/cache-resolver/hive-override");
    }

    #[test]
    fn letters_share_a_dash_and_values_follow_or_stand_behind_an_equals_sign() {
        assert_eq!(parse_words("-vq").unwrap().verbosity, Verbosity::Quiet);
        assert_eq!(parse_words("-qv --").unwrap().verbosity, Verbosity::Verbose);
        assert_eq!(parse_words("--setting=x=y=z").unwrap().settings, [("x".into(), "y=z".into())]);
        assert_eq!(parse_words("--output-dir --watch").unwrap().output_dir, Some("--watch".into()));
        let words = ["-vh", "--nonsense"].map(OsString::from);
        assert!(matches!(parse(words, &Environment::default()), Ok(Command::Print(HELP))));
        for (words, expected) in [
            ("-vx", "unknown option -x"),
            ("--ä", "unknown option --ä"),
            ("--h", "unknown option --h"),
            ("--=x", "unknown option --"),
            ("-v=1", "-v takes no value"),
            ("--nonsense=1", "unknown option --nonsense"),
            ("--watch=", "--watch takes no value"),
            ("-- --watch", "unexpected argument '--watch'"),
            ("-", "unexpected argument '-'"),
            ("a=b", "unexpected argument 'a=b'"),
            ("--port", "--port: no value"),
        ] {
            assert_eq!(parse_words(words).unwrap_err(), expected);
        }
    }

    #[test]
    fn later_searches_neither_ping_nor_sweep_unless_told_to() {
        let sweeps = |words| {
            let methods = parse_words(words).unwrap().later_methods;
            (methods.contains(Origin::Sweep), methods.contains(Origin::Gateway))
        };
        assert_eq!(sweeps("--watch"), (false, true));
        assert_eq!(sweeps("--watch --methods sweep,ping"), (true, false));
        assert_eq!(sweeps("--watch --sweep 10.0.0.0/24"), (true, true));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (words, expected) in [
            ("--host 10.0.0.1", "--host '10.0.0.1'"),
            ("--host a..b", "--host 'a..b'"),
            ("--host a..", "--host 'a..'"),
            ("--host ../../etc", "--host '../../etc'"),
            ("--port 0", "--port '0'"),
            ("--port +1", "--port '+1'"),
            ("--port 65536", "--port '65536'"),
            ("--path system", "--path 'system'"),
            ("--path /a?b", "--path '/a?b'"),
            ("--upstream https://a#b", "--upstream 'https://a#b'"),
            ("--priority -1", "--priority"),
            ("--budget 0.09", "--budget '0.09'"),
            ("--budget 60.1", "--budget '60.1'"),
            ("--budget 1e1", "--budget '1e1'"),
            ("--budget 5.", "--budget '5.'"),
            ("--setting a", "--setting 'a'"),
            ("--setting substituters=x", "--upstream"),
            ("--setting binary-caches=x", "--upstream"),
            ("--setting a=b#c", "--setting 'a=b#c'"),
            ("--setting include=/etc/x", "would fail"),
            ("--setting !include=/etc/x", "not the name"),
            ("--setting connect-timeout=5s", "would fail"),
            ("--setting fallback=maybe", "would fail"),
            ("--methods dns,nis", "--methods 'nis'"),
            ("--methods dns,announced", "--methods 'announced': only with --browse"),
            ("--sweep 8.8.8.0/24", "--sweep '8.8.8.0/24'"),
            ("--sweep 100.64.0.0/10", "--sweep '100.64.0.0/10'"),
            ("--sweep-rate 0", "--sweep-rate '0'"),
            ("--sweep-limit -1", "--sweep-limit"),
            ("--watch=yes", "--watch"),
            ("--nonsense", "--nonsense"),
            ("--dryrun", "did you mean --dry-run?"),
            ("--methods dns,neighbors", "did you mean neighbours?"),
            ("--setting conect-timeout=5", "did you mean connect-timeout?"),
            ("--host 10.0.8.141", "echo 10.0.8.141 >/etc/cache-resolver/waterbug-override"),
            ("--host fe80::1", "echo fe80::1 >"),
            ("-x", "-x"),
            ("waterbug", "waterbug"),
            ("--dry-run=yes", "--dry-run"),
            ("--port", "--port"),
        ] {
            let message = parse_words(words).unwrap_err();
            assert!(message.contains(expected), "{words}: {message}");
        }
    }

    #[test]
    fn an_upstream_is_a_store_that_nix_can_open() {
        for store in [
            "https://cache.nixos.org",
            "http://10.0.0.1:8080/x?priority=50&trusted=true",
            "http://[fd00::1]:8080",
            "https://user:word@cache.example",
            "file:///mnt/cache",
            "ssh://root@builder",
            "ssh-ng://builder?remote-store=local",
            "s3://bucket?endpoint=minio.lan&scheme=http",
            "unix:///nix/var/nix/daemon-socket/socket",
            "unix://",
            "local://",
            "local?root=/mnt",
            "local",
            "daemon",
            "daemon?priority=1",
            "auto",
            "/",
            "/mnt?trusted=true",
        ] {
            assert_eq!(parse_words(&["--upstream ", store].concat()).unwrap().upstreams, [store]);
        }
        for (store, remedy) in [
            ("cache.nixos.org", "did you mean https://cache.nixos.org?"),
            ("cache.nixos.org/", "did you mean https://cache.nixos.org/?"),
            ("cache.nixos.org?priority=1", "did you mean https://cache.nixos.org?"),
            ("htps://cache.nixos.org/a", "did you mean https://cache.nixos.org/a?"),
            ("HTTPS://cache.nixos.org", "did you mean https://cache.nixos.org?"),
            ("https:/cache.nixos.org", "did you mean"),
            ("https://", "names no host"),
            ("http:///x", "names no host"),
            ("locally", "no scheme"),
        ] {
            let message = parse_words(&["--upstream ", store].concat()).unwrap_err();
            assert!(message.contains(store) && message.contains(remedy), "{message}");
        }
    }

    #[test]
    fn announced_only_for_who_browses() {
        let methods = |words| parse_words(words).unwrap().methods;
        let (all, announced) = (Methods::all(), Methods::NONE.with(Origin::Announced));
        assert!(!all.contains(Origin::Announced));
        for (words, expected) in [
            ("", all),
            ("--methods all", all),
            ("--browse", all.with(Origin::Announced)),
            ("--methods announced --browse", announced),
            ("--browse --methods announced", announced),
            ("--browse --methods dns", announced.with(Origin::Dns)),
            ("--browse --methods announced,all", all.with(Origin::Announced)),
        ] {
            assert_eq!(methods(words), expected, "{words}");
        }
        let later = parse_words("--browse --watch").unwrap().later_methods;
        assert!(later.contains(Origin::Announced) && later.named().contains(Origin::Announced));
    }

    #[test]
    fn the_environment_names_the_place() {
        let place = |runtime: Option<&str>, xdg: Option<&str>, user| {
            default_output_dir(&Environment {
                runtime_directory: runtime.map(Into::into),
                xdg_runtime_dir: xdg.map(Into::into),
                user,
            })
        };
        assert_eq!(place(Some("/run/a:/run/b"), None, 0), Some("/run/a".into()));
        assert_eq!(place(None, Some("/run/user/0"), 0), Some("/run/cache-resolver".into()));
        assert_eq!(place(Some(""), Some(""), 7), None);
    }
}
