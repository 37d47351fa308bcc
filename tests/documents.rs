//! What stands in documents and in the sources, too, is the same in both: the manual page, the change log,
//! the form for bugs, the known bugs of others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_docs_in_private_items,
    reason = "a test may fail"
)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use cache_resolver::cli::{Command, Environment, HELP, parse};
use cache_resolver::config::Config;
use cache_resolver::model::{Found, Origin, Outcome};
use cache_resolver::output::render;
use cache_resolver::path::{PathId, Paths};
use cache_resolver::run::status;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name)
}

fn page() -> String {
    read("initrd/cache-resolver.8")
}

/// The page's lines between this heading and the next.
fn section(heading: &str) -> String {
    let page = page();
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).expect(heading);
    let kind = &heading[..4];
    rest.split(&format!("\n{kind}")).next().unwrap().split("\n.Sh").next().unwrap().to_owned()
}

/// A line of the page without its macros: as it is read.
fn plain(line: &str) -> String {
    let words =
        line.split(' ').filter(|word| !matches!(*word, ".It" | "Ar" | "Cm" | "Ev" | "Pa" | ".Op"));
    let words: Vec<_> =
        words.map(|word| if matches!(word, "Fl" | ".Fl") { "-" } else { word }).collect();
    let line = words.join(" ").replace("- ", "-").replace(" Ns ", "").replace(" ,", ",");
    // One `Fl` is for all that follow.
    line.replace(", -", ", --")
}

/// What stands in a list of the section after `.It` and `kind`.
fn items(heading: &str, kind: &str) -> Vec<String> {
    let prefix = format!(".It {kind}");
    section(heading).lines().filter(|line| line.starts_with(&prefix)).map(plain).collect()
}

/// The options as `--help` has them, with their values: "-v, --verbose", "--port PORT".
fn options_of_help() -> Vec<String> {
    let mut options = Vec::new();
    for line in HELP.lines().filter(|line| line.starts_with("  -")) {
        for part in line.split("  ").map(str::trim).filter(|part| part.starts_with('-')) {
            let words: Vec<_> = part.split(' ').collect();
            let is_value = |word: &&str| !word.chars().any(|letter| letter.is_ascii_lowercase());
            let count = 1 + words[1..]
                .iter()
                .take_while(|word| is_value(word) || word.starts_with("--"))
                .count();
            options.push(words[..count].join(" "));
        }
    }
    options
}

/// The configuration when nothing is given but these.
fn config(words: &str) -> Config {
    let environment = Environment::default();
    match parse(words.split_whitespace().map(OsString::from), &environment) {
        Ok(Command::Run(config)) => *config,
        other => panic!("{words}: {other:?}"),
    }
}

/// The sources without their tests, a name and a text each.
fn sources() -> Vec<(String, String)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("\n#[cfg(test)]\n").next().unwrap().to_owned();
            sources.push((path.to_str().unwrap().to_owned(), code));
        }
    }
    sources
}

/// What stands in the code between each `before` and the next `after`.
fn between<'a>(code: &'a str, before: &str, after: char) -> Vec<&'a str> {
    code.split(before).skip(1).filter_map(|rest| Some(rest.split_once(after)?.0)).collect()
}

/// The value of a constant in a source.
fn constant(source: &str, name: &str) -> String {
    let code = read(source);
    let (_, rest) = code.split_once(&format!("const {name}: ")).expect(name);
    let (_, value) = rest.split_once(" = ").unwrap();
    value.split(';').next().unwrap().to_owned()
}

#[test]
fn the_page_has_the_options_of_the_help() {
    let of_help = options_of_help();
    assert_eq!(of_help.len(), 23, "{of_help:?}");
    assert_eq!(items(".Sh DESCRIPTION", "Fl"), of_help);
    // The synopsis names each once, by its letter if it has one.
    let synopsis = section(".Sh SYNOPSIS");
    let named = synopsis
        .lines()
        .filter(|line| line.contains("Fl "))
        .map(plain)
        .collect::<Vec<_>>()
        .join(" | ");
    let named: BTreeSet<_> = named.split(" | ").map(|name| name.trim_start_matches('-')).collect();
    let expected: BTreeSet<_> = of_help
        .iter()
        .map(|option| option.split(',').next().unwrap().trim_start_matches('-'))
        .collect();
    assert_eq!(named, expected);
}

#[test]
fn the_help_has_the_options_of_the_program() {
    for option in options_of_help() {
        let name = option.split(' ').find(|word| word.starts_with("--")).unwrap();
        let value = if option.contains("--methods") { "dns" } else { "1" };
        let words = [name, value].map(OsString::from);
        let takes_value = option.split(' ').next_back().unwrap() != name;
        let words = &words[..if takes_value { 2 } else { 1 }];
        let refused =
            parse(words.iter().cloned(), &Environment::default()).err().unwrap_or_default();
        assert!(!refused.contains("unknown") && !refused.contains("takes no"), "{refused}");
    }
    // And no others.
    let code = read("src/cli/mod.rs");
    let (_, arms) = code.split_once("fn take_flag(").unwrap();
    let (arms, _) = arms.split_once("_ => return").unwrap();
    let flags = arms.split('"').skip(1).step_by(2).filter_map(|name| name.strip_prefix("--"));
    let valued = constant("src/cli/mod.rs", "VALUED");
    let valued = valued.split(['"', ' ', '\n', '\\']).filter(|name| !name.is_empty());
    let known: BTreeSet<_> = flags.chain(valued).collect();
    let options = options_of_help().join(" ");
    let helped: BTreeSet<_> =
        options.split(' ').filter_map(|word| word.strip_prefix("--")).collect();
    assert_eq!(known, helped);
}

#[test]
fn the_page_has_the_defaults_and_limits() {
    let options = section(".Sh DESCRIPTION");
    let says = |option: &str, text: &str| {
        let (_, rest) = options.split_once(&format!(".It Fl {option}")).expect(option);
        let item = rest.split("\n.It ").next().unwrap().replace('\n', " ");
        assert!(item.contains(text), "{option}: not '{text}' in: {item}");
    };
    let Config {
        host, port, path, upstreams, priority, override_file, budget, sweep_limit, ..
    } = config("");
    says("-host", &format!("The default is .Ql {} .", host.text));
    says("-port", &format!("The default is {port}."));
    says("-path", &format!("The default is .Pa {path} ."));
    says("-upstream", &format!("The default is .Lk {} .", upstreams[0]));
    says("-priority", &format!("The default is {priority};"));
    says("-override", &format!("The default is .Pa {override_file} ,"));
    says("-budget", &format!("The default is {}.", budget.as_secs()));
    says("-sweep-limit", &format!("The default is {sweep_limit}."));
    for (option, name) in
        [("-upstream", "UPSTREAMS"), ("-setting", "SETTINGS"), ("-sweep ", "SWEEP")]
    {
        let most = constant("src/cli/value.rs", &format!("{name}_MAX"));
        says(option, &format!("May be given up to {most} times."));
    }
    says(
        "-sweep-rate",
        &format!("1 to {}.", constant("src/cli/value.rs", "SWEEP_RATE_MAX").replace('_', "")),
    );
}

#[test]
fn the_page_has_the_methods_and_when_they_begin() {
    assert_eq!(items(".Ss Methods", "Cm"), Origin::METHODS.map(Origin::word));
    let methods = section(".Ss Methods").replace('\n', " ");
    let code = read("src/discover/schedule.rs");
    let (_, schedule) = code.split_once("const SCHEDULE").unwrap();
    let schedule = schedule.split("];").next().unwrap();
    let times = between(schedule, "from_millis(", ')');
    let [first @ .., last] = &times[..] else { panic!("no schedule") };
    let words = format!("begin after {} and {last} milliseconds", first.join(", "));
    assert!(methods.contains(&words), "{words}");
}

#[test]
fn the_page_has_the_exit_statuses() {
    let statuses = [status::DECIDED, status::NOT_WRITTEN, status::USAGE, status::NO_NETWORK]
        .map(|status| status.to_string());
    assert_eq!(items(".Sh EXIT STATUS", ""), statuses);
    let code = read("src/run.rs");
    assert_eq!(between(&code, ": c_int = ", ';'), statuses, "these are all");
}

#[test]
fn the_page_has_the_environment() {
    let mut read: BTreeSet<_> = BTreeSet::new();
    for (_, code) in sources() {
        read.extend(between(&code, "environment(\"", '"').into_iter().map(str::to_owned));
    }
    let said: BTreeSet<_> = items(".Sh ENVIRONMENT", "Ev").into_iter().collect();
    assert_eq!(said, read);
}

#[test]
fn the_page_has_the_files() {
    let page = page();
    for (source, code) in sources() {
        for root in ["\"/etc/", "\"/proc/", "\"/run/"] {
            for rest in between(&code, root, '"') {
                let path = format!("{}{rest}", &root[1..]).replace("{}", "waterbug");
                assert!(page.contains(&path), "{source}: {path} is not in the page");
            }
        }
    }
    let place = "src/facts/override_file.rs";
    for name in ["PARAMETER", "FW_CFG", "CREDENTIAL", "SYSTEM_CREDENTIALS", "COMMAND_LINE"] {
        let value = constant(place, name);
        let value = value.trim_matches('"').trim_start_matches("/cache");
        assert!(page.contains(value), "{name}: {value} is not in the page");
    }
    // Those in the directory of the files.
    let output = read("src/output/mod.rs");
    for name in between(&output, "directory, \"/", '"') {
        let name = if name.is_empty() { "waterbug-ip" } else { name };
        assert!(page.contains(&format!("/run/cache-resolver/{name}")), "{name}");
    }
}

#[test]
fn the_page_shows_nix_conf_as_it_is_written() {
    let config = config("--upstream daemon");
    let found = Found {
        remote: "10.0.8.141:9999".parse().unwrap(),
        path: PathId::CONFIGURED,
        by_name: false,
        origin: Origin::Dns,
    };
    let page = page();
    let paths = Paths::new(config.path.clone());
    for outcome in [Outcome::NotFound, Outcome::Found(found)] {
        let shown = render(&config, outcome, &paths).nix_conf.replace("daemon", "URL");
        assert!(page.contains(&format!(".Bd -literal\n{shown}.Ed\n")), "{shown}");
    }
}

#[test]
fn the_change_log_has_this_version() {
    let log = read("CHANGELOG.md");
    let headings: Vec<_> = log.lines().filter_map(|line| line.strip_prefix("## [")).collect();
    assert_eq!(headings[0], "Unreleased]");
    let version = concat!(env!("CARGO_PKG_VERSION"), "] - ");
    assert!(headings[1].starts_with(version), "{} is not {version}", headings[1]);
}

#[test]
fn what_contributors_are_told_of_is_there() {
    let text = read("CONTRIBUTING.md");
    let mut count = 0;
    for word in text.split(|letter: char| letter.is_whitespace() || "`()[],;".contains(letter)) {
        let word = word.trim_end_matches(['.', ':']);
        let is_path =
            ["src/", "tests/", "initrd/", "nix/", ".ci/"].iter().any(|top| word.starts_with(top));
        if is_path && !word.contains("NAME") {
            assert!(
                Path::new(env!("CARGO_MANIFEST_DIR")).join(word).exists(),
                "there is no {word}"
            );
            count += 1;
        }
    }
    assert!(count > 20, "{count} paths: all are seen");
    for (name, file) in
        [("Discovery", "src/discover/mod.rs"), ("SCHEDULE", "src/discover/schedule.rs")]
    {
        assert!(text.contains(name) && read(file).contains(name), "{name}");
    }
}

/// The cells of the rows of all tables of a document.
fn rows(document: &str) -> Vec<Vec<&str>> {
    let lines = document.lines().filter(|line| line.starts_with("| "));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn the_readme_quotes_the_results_of_the_benchmark_and_nothing_else() {
    let (readme, results) = (read("README.md"), read("tests/bench/RESULTS.md"));
    let (_, section) = readme.split_once("\n## How fast, how small\n").expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let results = rows(&results);
    let quoted: Vec<_> = rows(section).into_iter().filter(|row| !row[0].is_empty()).collect();
    assert!(quoted.len() > 10, "{quoted:?}");
    for row in quoted {
        let of_it: Vec<_> = results.iter().filter(|result| result[0] == row[0]).collect();
        let cells: BTreeSet<_> = of_it.iter().flat_map(|result| result.iter().copied()).collect();
        let figures = row[1..]
            .iter()
            .flat_map(|cell| cell.split([' ', ',']))
            .filter(|word| word.starts_with(|letter: char| letter.is_ascii_digit()));
        for figure in figures {
            assert!(cells.contains(figure), "{}: {figure} is none of {cells:?}", row[0]);
        }
    }
}

/// How many tests a document names, as `FILE::NAME`, all of which are there.
fn named_tests(document: &str) -> usize {
    let names = document.split('`').filter_map(|word| word.split_once("::"));
    let check = |(file, test): (&str, &str)| {
        let source = read(file);
        let is_there =
            ["fn ", "def "].iter().any(|word| source.contains(&format!("{word}{test}(")));
        assert!(is_there, "there is no {test} in {file}");
    };
    names.map(check).count()
}

#[test]
fn the_tests_that_known_bugs_refer_to_are_there() {
    let text = read("tests/cves.md");
    let count = named_tests(&text);
    assert!(count > 30, "{count} tests: all are seen");
    let rows = rows(&text);
    let bugs: BTreeSet<_> = rows.iter().flat_map(|row| row[0].split(", ")).collect();
    let named: usize = rows.iter().map(|row| row[0].split(", ").count()).sum();
    assert_eq!(bugs.len(), named - 5, "a bug stands there once, the five headings apart");
}

/// Whoever may do something, or may not, is shown to by a test.
#[test]
fn each_claim_about_enemies_has_its_test() {
    let text = read("SECURITY.md");
    for row in &rows(&text)[1..] {
        assert!(named_tests(row[3]) > 0, "no test shows what may never be: {}", row[2]);
    }
}
