//! What the value of each option may be.

use std::net::IpAddr;
use std::time::Duration;

use super::{did_you_mean, is_one_of, override_file};
use crate::config::{Config, Host, SETTINGS};
use crate::facts::{Prefix, parse_digits};
use crate::model::{Methods, Origin};

/// Settings that may be given; each becomes a line.
const SETTINGS_MAX: usize = 64;
/// Upstreams that may be given; Nix asks every one for every path.
const UPSTREAMS_MAX: usize = 64;
/// What the URLs of stores begin with in Nix 2.8 to 2.36 (`uriSchemes` in its libstore).
const STORE_SCHEMES: &str =
    "http https file ssh ssh-ng mounted-ssh-ng s3 unix local local-overlay dummy";
/// Stores that have a name instead of a URL.
const STORE_WORDS: &str = "auto daemon local";
/// Networks that may be named to be swept.
const SWEEP_MAX: usize = 16;
/// Probes in a second: more than a gigabit switch passes on to every port is of no use.
const SWEEP_RATE_MAX: u32 = 100_000;
/// The shortest and longest budget, in milliseconds.
const BUDGET_RANGE: std::ops::RangeInclusive<u64> = 100..=60_000;

/// What is wrong with the value of an option.
#[inline(never)]
fn refuse_value(option: &str, value: &str, what: &str) -> Result<(), String> {
    Err(["--", option, " '", value, "': ", what].concat())
}

/// Takes the value of an option.
pub(super) fn set_value(config: &mut Config, option: &str, value: String) -> Result<(), String> {
    let refuse = |what: &str| refuse_value(option, &value, what);
    match option {
        "host" => match Host::parse(&value) {
            Some(host) => config.host = host,
            None if value.parse::<IpAddr>().is_ok() => {
                let text = "an address, which has a file of its own:\n  echo ";
                return refuse(&[text, &value, " >", &override_file(&config.host)].concat());
            }
            None => return refuse("not a host name"),
        },
        "port" => match parse_digits(&value).and_then(|port| u16::try_from(port).ok()) {
            Some(port) if port != 0 => config.port = port,
            _ => return refuse("not a port, 1 to 65535"),
        },
        "path" => {
            if !value.starts_with('/') || !is_url_text(&value) || value.contains(['?', '[', ']']) {
                return refuse("not an absolute URL path");
            }
            let last = value.bytes().rposition(|byte| byte != b'/');
            value
                .get(..last.map_or(0, |last| last + 1))
                .unwrap_or_default()
                .clone_into(&mut config.path);
        }
        "upstream" => {
            if value.is_empty() || !is_url_text(&value) {
                return refuse("not a store URL");
            }
            check_store(&value).or_else(|problem| refuse(&problem))?;
            if config.upstreams.len() == UPSTREAMS_MAX {
                return refuse("too many upstreams");
            }
            if !config.upstreams.contains(&value) {
                config.upstreams.push(value);
            }
        }
        "priority" => {
            match parse_digits(&value).and_then(|priority| i32::try_from(priority).ok()) {
                Some(priority) => config.priority = priority.unsigned_abs(),
                None => return refuse("not a number, 0 to 2147483647"),
            }
        }
        "setting" => match parse_setting(&value) {
            Ok(setting) if config.settings.len() < SETTINGS_MAX => config.settings.push(setting),
            Ok(_) => return refuse("too many settings"),
            Err(problem) => return refuse(&problem),
        },
        "output-dir" | "override" if value.is_empty() => return refuse("empty path"),
        "output-dir" => config.output_dir = Some(value),
        "override" => config.override_file = value,
        "sweep" => match Prefix::parse(&value) {
            Some(prefix) if config.sweep.len() < SWEEP_MAX => config.sweep.push(prefix),
            Some(_) => return refuse("too many networks"),
            None => {
                return refuse("not a network within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16");
            }
        },
        "sweep-rate" => match parse_digits(&value) {
            Some(rate @ 1..=SWEEP_RATE_MAX) => config.sweep_rate = Some(rate),
            _ => return refuse("not a number of probes a second, 1 to 100000"),
        },
        "sweep-limit" => match parse_digits(&value) {
            Some(limit) => config.sweep_limit = limit,
            None => return refuse("not a number of addresses"),
        },
        "budget" => match parse_millis(&value).filter(|millis| BUDGET_RANGE.contains(millis)) {
            Some(millis) => config.budget = Duration::from_millis(millis),
            None => return refuse("not a number of seconds, 0.1 to 60"),
        },
        _ => config.methods = parse_methods(&value)?,
    }
    Ok(())
}

/// Text that stays one word and one value in nix.conf, where `#` starts a comment.
fn is_url_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\"'\\<>`".contains(&byte))
}

/// Whether Nix can open the store. What it cannot open it passes over with a warning, and builds from
/// source; a name without a scheme but with a slash it takes for a directory.
fn check_store(value: &str) -> Result<(), String> {
    let store = value.split('?').next().unwrap_or(value);
    let scheme = store.split_once(':');
    let scheme = scheme.and_then(|(scheme, rest)| Some((scheme, rest.strip_prefix("//")?)));
    let (problem, rest) = match scheme {
        Some(("http" | "https", rest)) if rest.is_empty() || rest.starts_with('/') => {
            return Err("names no host".to_owned());
        }
        Some((scheme, rest)) if !is_one_of(STORE_SCHEMES, scheme) => {
            ("Nix knows no such scheme", rest)
        }
        None if !store.starts_with('/') && !is_one_of(STORE_WORDS, store) => ("no scheme", store),
        _ => return Ok(()),
    };
    Err([problem, "; did you mean https://", rest, "?"].concat())
}

/// `K=V`, or `K=` to drop K. Refuses what would make every nix command fail.
fn parse_setting(value: &str) -> Result<(String, String), String> {
    let (key, value) = value.split_once('=').ok_or_else(|| "not K=V".to_owned())?;
    let (key, value) = (key.trim_ascii(), value.trim_ascii());
    if key.is_empty()
        || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    {
        return Err("K is not the name of a setting".to_owned());
    }
    // The last two are the old names of the first two.
    if matches!(
        key,
        "substituters" | "extra-substituters" | "binary-caches" | "extra-binary-caches"
    ) {
        let text = "substituters are what this program writes; use --upstream or --additive";
        return Err(text.to_owned());
    }
    if value.bytes().any(|byte| byte.is_ascii_control()) || value.contains('#') {
        let text = "V must be one line without '#', which starts a comment in nix.conf";
        return Err(text.to_owned());
    }
    let is_valid = match key {
        "include" => false,
        _ if value.is_empty() => true,
        "connect-timeout" | "download-attempts" | "stalled-download-timeout" => {
            parse_digits(value).is_some()
        }
        "fallback" => matches!(value, "true" | "false" | "yes" | "no" | "1" | "0"),
        _ => true,
    };
    if !is_valid {
        return Err("every nix command would fail on this line".to_owned());
    }
    let hint = did_you_mean(key, &SETTINGS.map(|(known, _)| known).join(" "));
    if !hint.is_empty() {
        return Err(["Nix knows no such setting", &hint].concat());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// The set of methods in a comma-separated list.
fn parse_methods(value: &str) -> Result<Methods, String> {
    let mut methods = Methods::NONE;
    for word in value.split(',').map(str::trim_ascii) {
        let method = Origin::METHODS.into_iter().find(|method| method.word() == word);
        methods = match (word, method) {
            ("all", _) => Methods::all(),
            (_, Some(method)) => methods.with(method),
            _ => {
                let words = Origin::METHODS.map(Origin::word).join(",");
                let hint = did_you_mean(word, &words);
                let parts = ["--methods '", word, "': not one of ", &words, &hint];
                return Err(parts.concat());
            }
        };
    }
    Ok(methods)
}

/// Seconds with up to three decimals, as milliseconds; further decimals are cut.
fn parse_millis(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = fraction.bytes().chain([b'0'; 3]).take(3);
    let mut millis = u64::from(parse_digits(if whole.is_empty() { "0" } else { whole })?);
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    for digit in digits {
        millis = millis * 10 + u64::from(digit - b'0');
    }
    Some(millis)
}
