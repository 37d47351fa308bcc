//! The DNS servers and search domains in `/etc/resolv.conf`, resolv.conf(5), and behind
//! systemd-resolved's stub.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::lines::for_each_line;
use super::{IndexOf, parse_scoped};
use crate::address::with_scope;
use crate::wire::dns::DNS_PORT;

/// Servers asked; others stop at three, which loses the one that knows.
const NAMESERVERS_MAX: usize = 8;
/// Lines that name a server read: to look up the interface of an address takes microseconds.
const SERVER_LINES_MAX: usize = 64;
/// Search domains kept: those of an office come first.
const DOMAINS_MAX: usize = 4;
/// Where the DNS servers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The servers behind systemd-resolved's stub, systemd-resolved.service(8).
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";
/// Where systemd-resolved listens. It may answer no for a name that a server behind it knows.
const RESOLVED_STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
/// What resolv.conf(5) says when no server is named.
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What this host knows of DNS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// The servers, never none where it was read.
    pub nameservers: Vec<SocketAddr>,
    /// The domains that this host belongs to, separated by spaces.
    pub search_domains: String,
    /// Lines that named a server.
    lines: usize,
}

/// The DNS servers and search domains of this host.
#[must_use]
pub fn read_resolv_conf(index_of: IndexOf) -> ResolvConf {
    read_resolv_conf_from(RESOLV_CONF, BEHIND_STUB, index_of)
}

/// What the file `resolv_conf` names, then, behind the stub, what the file `behind_stub` names.
#[must_use]
pub fn read_resolv_conf_from(
    resolv_conf: &str,
    behind_stub: &str,
    index_of: IndexOf,
) -> ResolvConf {
    let mut found = ResolvConf::default();
    let mut read = |path| {
        // No file, nothing in it.
        let _ = for_each_line(path, &mut |line| found.take_line(line, index_of));
        found.nameservers.iter().any(|server| server.ip() == RESOLVED_STUB)
    };
    if read(resolv_conf) {
        read(behind_stub);
    }
    if found.nameservers.is_empty() {
        found.nameservers.push(SocketAddr::new(LOCALHOST, DNS_PORT));
    }
    found
}

impl ResolvConf {
    /// Takes a line. Of several that name domains the last one counts, as with the C library.
    fn take_line(&mut self, line: &str, index_of: IndexOf) {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                self.lines += 1;
                if self.lines <= SERVER_LINES_MAX
                    && let Some(server) = words.next().and_then(|word| parse_server(word, index_of))
                {
                    push_server(&mut self.nameservers, server);
                }
            }
            Some("search" | "domain") => {
                let mut domains = String::new();
                for word in words.take(DOMAINS_MAX) {
                    domains += word;
                    domains.push(' ');
                }
                if !domains.is_empty() {
                    self.search_domains = domains;
                }
            }
            _ => {}
        }
    }
}

/// Adds a server that is new, up to the bound.
fn push_server(servers: &mut Vec<SocketAddr>, server: SocketAddr) {
    if servers.len() < NAMESERVERS_MAX && !servers.contains(&server) {
        servers.push(server);
    }
}

/// The server that a `nameserver` line names.
fn parse_server(word: &str, index_of: IndexOf) -> Option<SocketAddr> {
    let (address, scope) = parse_scoped(word, index_of)?;
    // Unspecified means this host, as for other resolvers.
    let address = if address.is_unspecified() { LOCALHOST } else { address };
    Some(with_scope(SocketAddr::new(address, DNS_PORT), scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The servers that the files with these contents name.
    fn servers(resolv_conf: Option<&str>, behind_stub: &str) -> Vec<String> {
        read(resolv_conf, behind_stub).nameservers.iter().map(ToString::to_string).collect()
    }

    /// What the files with these contents name.
    fn read(resolv_conf: Option<&str>, behind_stub: &str) -> ResolvConf {
        let directory = tempfile::tempdir().unwrap();
        let directory_path = directory.path().to_str().unwrap();
        let [file, stub] = ["resolv.conf", "stub"].map(|name| format!("{directory_path}/{name}"));
        if let Some(content) = resolv_conf {
            std::fs::write(&file, content).unwrap();
        }
        std::fs::write(&stub, behind_stub).unwrap();
        let index_of = |name: &str| (name == "eth0").then_some(7);
        read_resolv_conf_from(&file, &stub, index_of)
    }

    #[test]
    fn resolv_conf_in_the_wild() {
        let wild = "# nameserver 1.1.1.1\r\nnameserver\t10.0.0.1\r\n;nameserver 1.1.1.1\n\
                    search lan\nnameserver fe80::1%eth0 \nnameserver fe80::2%gone\nnameserver x\n\
                    nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4";
        let expected =
            ["10.0.0.1:53", "[fe80::1%7]:53", "10.0.0.2:53", "10.0.0.3:53", "10.0.0.4:53"];
        assert_eq!(servers(Some(wild), "nameserver 9.9.9.9\n"), expected);
        let huge = format!("{}\nnameserver 10.0.0.1\n", "# filler\n".repeat(120_000));
        assert_eq!(servers(Some(&huge), ""), ["10.0.0.1:53"]);
        let many = (0..50).map(|i| format!("nameserver 10.0.0.{i}\n")).collect::<Vec<_>>().concat();
        assert_eq!(servers(Some(&many), "").len(), NAMESERVERS_MAX);
        let nowhere = format!("{}nameserver 10.0.0.1\n", "nameserver fe80::1%gone\n".repeat(63));
        assert_eq!(servers(Some(&nowhere), ""), ["10.0.0.1:53"]);
        let nowhere = format!("nameserver ::1%gone\n{nowhere}");
        assert_eq!(servers(Some(&nowhere), ""), ["127.0.0.1:53"], "the 65th line");
    }

    #[test]
    fn the_stub_and_the_default() {
        assert_eq!(servers(None, "nameserver 9.9.9.9\n"), ["127.0.0.1:53"]);
        assert_eq!(servers(Some(""), "nameserver 9.9.9.9\n"), ["127.0.0.1:53"]);
        assert_eq!(
            servers(Some("nameserver 127.0.0.53\n"), "nameserver 10.0.0.1\n"),
            ["127.0.0.53:53", "10.0.0.1:53"]
        );
    }

    #[test]
    fn the_last_line_names_the_domains() {
        for (content, expected) in [
            ("", ""),
            ("search\nnameserver 10.0.0.1", ""),
            ("search lan\nsearch\ndomain ", "lan "),
            ("domain example.org\nsearch lan  corp.example.", "lan corp.example. "),
            ("search lan\ndomain Example.ORG\r\n", "Example.ORG "),
            ("search lan\nsearchx y\n# search z", "lan "),
            ("search a b c d e f", "a b c d "),
        ] {
            assert_eq!(read(Some(content), "").search_domains, expected, "{content}");
        }
        let stub = "nameserver 127.0.0.53\nsearch .";
        assert_eq!(read(Some(stub), "search lan").search_domains, "lan ");
    }
}
