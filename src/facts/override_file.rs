//! The user's own word on where the cache is.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};

use super::{IndexOf, parse_scoped, socket_address};

/// Bytes of an override; the longest sensible one has about sixty.
const OVERRIDE_MAX: u64 = 4096;

/// An order that takes the place of all discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Override {
    /// The cache is here and nowhere else.
    At(SocketAddr),
    /// There is no cache to use.
    None,
}

/// Reads the override file; `Ok(None)` when there is none.
///
/// # Errors
/// A message for the log that names the file and the remedy.
pub fn read_override(path: &str, port: u16, index_of: IndexOf) -> Result<Option<Override>, String> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(OVERRIDE_MAX).read_to_end(&mut content));
    let problem = match read {
        Ok(_) => match parse_override(&content, port, index_of) {
            Some(order) => return Ok(Some(order)),
            None => "holds none of IP, IP:PORT, [IPv6]:PORT, none".to_owned(),
        },
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => format!("cannot be read: {error}"),
    };
    Err(format!("{path} {problem}; ignored: correct or remove it"))
}

/// Reads `IP`, `IP:PORT`, `[IPv6]:PORT` or `none`; blank lines and `#` comments may stand around.
fn parse_override(content: &[u8], port: u16, index_of: IndexOf) -> Option<Override> {
    let text = str::from_utf8(content).ok()?;
    let mut lines =
        text.lines().map(str::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let word = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    if word == "none" {
        return Some(Override::None);
    }
    let (address, port) = match word.strip_prefix('[') {
        Some(rest) => match rest.split_once(']')? {
            (address, "") => (address, port),
            (address, rest) => (address, parse_port(rest.strip_prefix(':')?)?),
        },
        // More than one colon is an IPv6 address without a port.
        None => match word.split_once(':') {
            Some((address, rest)) if !rest.contains(':') => (address, parse_port(rest)?),
            _ => (word, port),
        },
    };
    let (address, scope) = parse_scoped(address, index_of)?;
    if word.starts_with('[') && address.is_ipv4() || !is_connectable(address) {
        return None;
    }
    Some(Override::At(socket_address((address, scope), port)))
}

/// A port one can connect to, in digits only.
fn parse_port(text: &str) -> Option<u16> {
    let port = text.parse().ok().filter(|port| *port != 0)?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(port)
}

/// Whether a TCP connection to `address` makes sense at all.
fn is_connectable(address: IpAddr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && address != IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_contract() {
        let index_of = |name: &str| (name == "eth0").then_some(7);
        let parse = |text: &str| parse_override(text.as_bytes(), 9999, &index_of);
        let at = |text: &str| Some(Override::At(text.parse().unwrap()));
        assert_eq!(parse("10.0.2.2"), at("10.0.2.2:9999"));
        assert_eq!(parse("# VM\n\n 10.0.2.2:80 \r\n"), at("10.0.2.2:80"));
        assert_eq!(parse("fd00::1"), at("[fd00::1]:9999"));
        assert_eq!(parse("[fd00::1]"), at("[fd00::1]:9999"));
        assert_eq!(parse("[fd00::1]:80"), at("[fd00::1]:80"));
        assert_eq!(parse("fe80::1%eth0"), at("[fe80::1%7]:9999"));
        assert_eq!(parse("none\n"), Some(Override::None));
        for bad in [
            "",
            "\n",
            "waterbug.lan",
            "10.0.2.2:",
            "10.0.2.2:0",
            "10.0.2.2:+80",
            "10.0.2.2:65536",
            "10.0.2.2 80",
            "[10.0.2.2]:80",
            "[fd00::1]80",
            "[fd00::1",
            "0.0.0.0",
            "224.0.0.1",
            "::",
            "255.255.255.255",
            "10.0.2.2\n10.0.2.3",
            "http://10.0.2.2",
            "None",
            "fe80::1%nope",
            "\u{0}",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert_eq!(parse_override(b"\xff\xfe", 9999, &index_of), None);
    }
}
