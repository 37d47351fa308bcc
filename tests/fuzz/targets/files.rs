//! The host's own files.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use cache_resolver::address::needs_zone;
use cache_resolver::facts::{read_hosts, read_override, read_previous, read_resolv_conf_from};

/// A file with this content, in memory where that is possible, while `read` reads it.
fn with_file<T>(content: &[u8], read: impl FnOnce(&str) -> T) -> T {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    thread_local! {
        static PATH: String = {
            let shared = std::path::Path::new("/dev/shm");
            let folder = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("cache-resolver-fuzz-{}-{number}", std::process::id());
            folder.join(name).to_str().unwrap().to_owned()
        };
    }
    PATH.with(|path| {
        std::fs::write(path, content).unwrap();
        let result = read(path);
        std::fs::remove_file(path).unwrap();
        result
    })
}

/// `resolv.conf`, and what is behind the stub: what may be believed of a line is asked of the line
/// alone.
pub fn resolv_conf(data: &[u8]) {
    let index_of = |name: &str| (name == "eth0").then_some(7);
    // The two files stand behind each other, in the order in which they are read.
    let (first, second) = split(data);
    let found = with_file(first, |path| {
        let behind = [path, ".stub"].concat();
        std::fs::write(&behind, second).unwrap();
        let found = read_resolv_conf_from(path, &behind, index_of);
        std::fs::remove_file(&behind).unwrap();
        found
    });
    assert!((1..=8).contains(&found.nameservers.len()), "{found:?}");
    for (number, server) in found.nameservers.iter().enumerate() {
        assert_eq!(server.port(), 53);
        assert!(!server.ip().is_unspecified());
        assert!(!found.nameservers[..number].contains(server), "{server} twice");
    }
    assert!(found.search_domains.split_ascii_whitespace().count() <= 4);
    // glibc would have it so, too: an address that stands first in a plain line of its own.
    if let Ok(text) = str::from_utf8(first)
        && let [line] = text.lines().collect::<Vec<_>>()[..]
        && line.len() < 4000
        && let Some(address) = line.strip_prefix("nameserver ")
        && let Ok(address) = address.parse::<IpAddr>()
        && !address.is_unspecified()
    {
        assert_eq!(found.nameservers[0].ip(), address);
    }
}

/// The hosts file, read independently.
pub fn hosts(data: &[u8]) {
    const NAME: &str = "waterbug.lan";
    let (found, previous) =
        with_file(data, |path| (read_hosts(path, NAME), read_previous(path, 9999)));
    assert!(found.len() <= 16);
    for (number, address) in found.iter().enumerate() {
        assert!(may_be_host(*address), "{address}");
        assert!(!found[..number].contains(address), "{address} twice");
    }
    if let Some(previous) = previous {
        assert!(may_be_host(previous.remote.ip()) && previous.remote.port() == 9999);
    }
    let mut expected: Vec<IpAddr> = Vec::new();
    for line in data.split(|byte| *byte == b'\n') {
        // What is longer, or no text before a comment, is passed over.
        let Ok(text) = str::from_utf8(line.split(|byte| *byte == b'#').next().unwrap()) else {
            continue;
        };
        if line.len() >= 4096 {
            continue;
        }
        let words: Vec<_> =
            text.split([' ', '\t', '\r', '\x0c']).filter(|word| !word.is_empty()).collect();
        let is_it = |word: &&str| {
            word.to_ascii_lowercase().trim_end_matches('.') == NAME && !word.ends_with("..")
        };
        if words.iter().skip(1).any(is_it)
            && let Ok(address) = words[0].parse::<IpAddr>()
        {
            let address = address.to_canonical();
            if may_be_host(address) && !expected.contains(&address) {
                expected.push(address);
            }
        }
    }
    expected.truncate(16);
    assert_eq!(found, expected);
}

/// The file of orders: an order, or a complaint, never both and never neither.
pub fn orders(data: &[u8]) {
    let (is_order, complaints) = with_file(data, |path| {
        let mut complaints = 0;
        let order = read_override(path, None, false, 9999, &mut |_| complaints += 1);
        (order.is_some(), complaints)
    });
    assert_eq!(usize::from(is_order) + complaints, 1);
    let kept = &data[..data.len().min(4096)];
    let Ok(text) = str::from_utf8(kept) else { return assert!(!is_order) };
    let mut words = text.lines().map(str::trim_ascii);
    let mut words = words.by_ref().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (word, other) = (words.next(), words.next());
    let Some(word) = word.filter(|_| other.is_none()) else { return assert!(!is_order) };
    let is_good = |address: IpAddr, port: u16| {
        let address = address.to_canonical();
        port != 0 && may_be_host(address) && !needs_zone(address)
    };
    let expected = match word.parse::<std::net::SocketAddr>() {
        // An IPv4 address in brackets is none here, and none to std. What has a zone is of no use.
        Ok(remote) if !word.contains('%') => {
            let is_clothed = word.starts_with('[') && remote.ip().to_canonical().is_ipv4();
            Some(is_good(remote.ip(), remote.port()) && !is_clothed)
        }
        Ok(_) => Some(false),
        Err(_) if word == "none" => Some(true),
        Err(_) => word.parse().ok().map(|address| is_good(address, 1)),
    };
    if let Some(expected) = expected {
        assert_eq!(is_order, expected, "{word}");
    } else if is_order {
        // Forms that std has not: an address in brackets, zeroes before the port.
        assert!(word.starts_with('[') || word.contains(":0"), "{word}");
    }
}

/// Whether one can connect to the address.
fn may_be_host(address: IpAddr) -> bool {
    let is_broadcast = address == IpAddr::from([255; 4]);
    !address.is_unspecified()
        && !address.is_multicast()
        && !is_broadcast
        && address == address.to_canonical()
}

/// Divides an input at its first zero byte, which no such file has.
fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (first, second) = data.split_at(end);
    (first, second.get(1..).unwrap_or_default())
}
