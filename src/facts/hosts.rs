//! `/etc/hosts`, hosts(5).

use std::net::IpAddr;

use super::lines::for_each_line;
use super::parse_host;
use crate::text::is_same_word;

/// Addresses taken for the one name we look for.
const HOSTS_ADDRESSES_MAX: usize = 16;

/// The addresses that the hosts file gives for `name`; none where it cannot be read.
#[must_use]
pub fn read_hosts(path: &str, name: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    // No file, no candidates: the search goes on without.
    let _ = for_each_line(path, &mut |line| {
        if let Some(address) = parse_line(line, name)
            && addresses.len() < HOSTS_ADDRESSES_MAX
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    });
    addresses
}

/// The address of the line, if `name` is one of its names.
fn parse_line(line: &str, name: &str) -> Option<IpAddr> {
    let line = line.split('#').next()?;
    let mut words = line.split_ascii_whitespace();
    let address = words.next()?;
    words
        .map(|word| word.strip_suffix('.').unwrap_or(word))
        .any(|word| is_same_word(word.as_bytes(), name.as_bytes()))
        .then(|| parse_host(address))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_one_address() {
        let found = |line| parse_line(line, "waterbug.lan").map(|address| address.to_string());
        assert_eq!(found("10.0.0.5 waterbug.lan").as_deref(), Some("10.0.0.5"));
        assert_eq!(found("\tfd00::5\tother Waterbug.LAN. # x").as_deref(), Some("fd00::5"));
        assert_eq!(found("::ffff:10.0.0.5 waterbug.lan").as_deref(), Some("10.0.0.5"));
        for none in [
            "",
            "0.0.0.0 waterbug.lan",
            ":: waterbug.lan",
            "# 10.0.0.5 waterbug.lan",
            "10.0.0.5 other # waterbug.lan",
            "10.0.0.5 waterbug.lan.example",
            "10.0.0.5 waterbug",
            "waterbug.lan waterbug.lan",
            "10.0.0.5",
        ] {
            assert_eq!(found(none), None, "{none}");
        }
    }

    #[test]
    fn a_file_names_each_address_once_and_not_too_many() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let path = path.to_str().unwrap();
        assert!(read_hosts(path, "waterbug.lan").is_empty());
        let line = |last: usize| format!("10.0.0.{last} waterbug.lan\n");
        std::fs::write(path, [line(5), line(6), line(5)].concat()).unwrap();
        assert_eq!(read_hosts(path, "waterbug.lan").len(), 2);
        std::fs::write(path, (1..=200).map(line).collect::<String>()).unwrap();
        assert_eq!(read_hosts(path, "waterbug.lan").len(), HOSTS_ADDRESSES_MAX);
    }
}
