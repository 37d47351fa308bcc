//! The house rules that no compiler knows, read from the sources: files that can be held in the head,
//! imports that follow the picture in `lib.rs`, constants that say why, one meaning a name.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_docs_in_private_items,
    reason = "a test may fail"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Lines of a file, its tests not counted.
const LINES_MAX: usize = 400;
/// The same in `io`, where much is done at once.
const IO_LINES_MAX: usize = 350;
/// The same of the file that decides.
const SEARCH_LINES_MAX: usize = 300;

/// The floors of the house, the ground first. A module may import those of lower floors, never of its
/// own or of a higher one.
const FLOORS: [&[&str]; 12] = [
    &["address", "elapsed", "text", "path", "sys"],
    &["wire"],
    &["facts"],
    &["model"],
    &["config", "interface"],
    &["cli", "discover", "frontier", "output", "surroundings", "verify", "watch"],
    &["search"],
    &["tell"],
    &["io"],
    &["run"],
    &["lib"],
    &["main"],
];

/// What several methods of discovery stand on.
const SHARED: [&str; 4] = ["links", "random", "resolver", "schedule"];

/// What the rule forbids and is right all the same: who, whom, and why.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// A file of `src`, its tests cut off.
struct Source {
    path: PathBuf,
    /// The module of the top level that it belongs to.
    module: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("\n#[cfg(test)]\n").next().unwrap().to_owned();
            let path = path.strip_prefix(&root).unwrap().to_owned();
            let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
            let module = first.strip_suffix(".rs").unwrap_or(first).to_owned();
            sources.push(Source { path, module, code });
        }
    }
    assert!(sources.len() > 30, "all of them");
    sources
}

fn floor_of(module: &str) -> usize {
    FLOORS
        .iter()
        .position(|floor| floor.contains(&module))
        .unwrap_or_else(|| panic!("'{module}' has no floor: add it to the picture and to FLOORS"))
}

/// The modules of the top level that a line of code names.
fn named_in(line: &str) -> Vec<String> {
    let line = line.split("//").next().unwrap();
    let is_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    ["crate::", "cache_resolver::"]
        .iter()
        .flat_map(|prefix| line.split(prefix).skip(1))
        .flat_map(|rest| {
            // `crate::module::…`, or `crate::{one, other::…}`.
            let list = rest.strip_prefix('{').map_or(rest, |list| list.split('}').next().unwrap());
            let count = if rest.starts_with('{') { usize::MAX } else { 1 };
            list.split(',').take(count).map(str::trim).collect::<Vec<_>>()
        })
        .map(|item| item.split(|letter| !is_name(letter)).next().unwrap().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn files_can_be_held_in_the_head() {
    for Source { path, module, code } in sources() {
        let max = match module.as_str() {
            "search" => SEARCH_LINES_MAX,
            "io" => IO_LINES_MAX,
            _ => LINES_MAX,
        };
        let lines = code.lines().count();
        assert!(lines <= max, "{}: {lines} lines, {max} at most: divide it", path.display());
    }
}

#[test]
fn imports_follow_the_picture() {
    let mut imports = 0;
    for Source { path, module, code } in sources() {
        for (number, line) in code.lines().enumerate() {
            for named in named_in(line) {
                let is_exception =
                    EXCEPTIONS.iter().any(|(from, to, _)| *from == module && *to == named);
                if named == module || is_exception {
                    continue;
                }
                imports += 1;
                assert!(
                    floor_of(&named) < floor_of(&module),
                    "{}:{}: {module} imports {named}, against the picture",
                    path.display(),
                    number + 1
                );
            }
        }
    }
    assert!(imports > 60, "{imports} imports: all are seen");
}

#[test]
fn methods_of_discovery_do_not_know_each_other() {
    let methods: Vec<_> = sources()
        .into_iter()
        .filter(|source| source.module == "discover")
        .filter(|source| {
            let stem = source.path.file_stem().unwrap().to_str().unwrap();
            stem != "mod" && !SHARED.contains(&stem)
        })
        .collect();
    assert!(methods.len() > 5);
    for Source { path, code, .. } in methods {
        for line in code.lines().filter(|line| line.trim_start().starts_with("use super::")) {
            let named = line.trim_start().trim_start_matches("use super::");
            let named = named.split([':', ';']).next().unwrap().to_ascii_lowercase();
            assert!(SHARED.contains(&named.as_str()), "{}: {line}", path.display());
        }
    }
}

#[test]
fn every_file_is_in_the_picture() {
    let sources = sources();
    let story = &sources.iter().find(|source| source.module == "lib").unwrap().code;
    let words: Vec<_> =
        story.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').collect();
    for Source { path, module, .. } in &sources {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let name = if stem == "mod" { module } else { stem };
        assert!(["lib", "random"].contains(&name) || words.contains(&name), "lib.rs lacks {name}");
    }
}

#[test]
fn constants_say_why_and_have_one_meaning() {
    let mut known: BTreeMap<String, PathBuf> = BTreeMap::new();
    for Source { path, code, .. } in sources() {
        let mut before = "";
        for line in code.lines() {
            let item = line.trim_start();
            let declaration = item.strip_prefix("const ").or_else(|| {
                item.split_once(' ')
                    .filter(|(it, _)| it.starts_with("pub"))
                    .and_then(|(_, rest)| rest.strip_prefix("const "))
            });
            let name = declaration.and_then(|rest| rest.split_once(':')).map(|(name, _)| name);
            if let Some(name) = name
                && name.chars().all(|letter| {
                    letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'
                })
            {
                let is_documented = before.starts_with("///") || before.starts_with("#[");
                assert!(is_documented, "{}: {name} has no docstring", path.display());
                let is_own = item.len() < line.len();
                if !is_own && let Some(other) = known.insert(name.to_owned(), path.clone()) {
                    panic!(
                        "{name} in {} and in {}: one name, one meaning",
                        path.display(),
                        other.display()
                    );
                }
            }
            before = item;
        }
    }
    assert!(known.len() > 100, "{} constants: all are seen", known.len());
}
