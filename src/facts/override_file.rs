//! The user's own word on where the cache is.

use std::net::SocketAddr;

use super::{parse_digits, parse_host};
use crate::address::needs_zone;
use crate::sys::{self, Error};

/// Bytes of an override; the longest sensible one has about sixty.
const OVERRIDE_MAX: usize = 4096;

/// An order that takes the place of all discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Override {
    /// The cache is here and nowhere else.
    At(SocketAddr),
    /// There is no cache to use.
    None,
}

/// Something that should be an order, and is none.
#[derive(Debug)]
pub struct OverrideProblem {
    /// The file that it stands in.
    pub place: String,
    /// What is wrong with it.
    pub flaw: OverrideFlaw,
}

/// Why something is no order.
#[derive(Debug)]
pub enum OverrideFlaw {
    /// It is not in a regular file.
    NotAFile,
    /// It cannot be read.
    Unreadable(Error),
    /// It names an address that only means something with a zone, which Nix cannot use.
    NeedsZone,
    /// It has none of the forms of an order.
    NoOrder,
}

/// The kernel's command line, `proc_cmdline(5)`.
const COMMAND_LINE: &str = "/proc/cmdline";
/// What the order is called there; the last one counts, as with the kernel's own parameters.
const PARAMETER: &str = "cache-resolver.override=";
/// QEMU's `-fw_cfg name=opt/cache-resolver/override,string=…`, from the module `qemu_fw_cfg`.
const FW_CFG: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/cache-resolver/override/raw";
/// The credentials of the whole system, for those who start us without any of our own
/// (systemd.exec(5), CREDENTIALS).
const SYSTEM_CREDENTIALS: &str = "/run/credentials/@system";
/// systemd's credential with the order.
const CREDENTIAL: &str = "/cache-resolver.override";
/// The same as [`FW_CFG`], which only root may read; our unit hands it on.
const FW_CFG_CREDENTIAL: &str = "/cache-resolver.fw-cfg";

/// The user's order and the file it stands in: from the file at `path`, or else from the command line of the kernel, from
/// QEMU, or from the directory of our `credentials`, if `everywhere` is to be looked. What is no order is
/// told to `complain` and passed over.
pub fn read_override(
    path: &str,
    credentials: Option<&str>,
    everywhere: bool,
    port: u16,
    complain: &mut dyn FnMut(&OverrideProblem),
) -> Option<(Override, String)> {
    let credentials = credentials.unwrap_or(SYSTEM_CREDENTIALS);
    let handed_on = [credentials, FW_CFG_CREDENTIAL].concat();
    let credential = [credentials, CREDENTIAL].concat();
    for place in [path, COMMAND_LINE, FW_CFG, &handed_on, &credential] {
        if place != path && !everywhere {
            break;
        }
        match read_order(place, place == path, port) {
            Ok(None) => {}
            Ok(Some(order)) => return Some((order, place.to_owned())),
            Err(flaw) => complain(&OverrideProblem { place: place.to_owned(), flaw }),
        }
    }
    None
}

/// Reads the order at one place, if there is one; or what is wrong with it.
fn read_order(place: &str, is_users: bool, port: u16) -> Result<Option<Override>, OverrideFlaw> {
    let content = match sys::read(place, OVERRIDE_MAX) {
        Ok(content) => content,
        Err(error) => {
            return match error.0 {
                libc::ENOENT | libc::ENOTDIR => Ok(None),
                // The credentials of a system are none of an ordinary user's business.
                libc::EACCES | libc::EPERM if !is_users => Ok(None),
                libc::EINVAL => Err(OverrideFlaw::NotAFile),
                _ => Err(OverrideFlaw::Unreadable(error)),
            };
        }
    };
    let order = if place == COMMAND_LINE { parameter(&content) } else { Some(&*content) };
    match order {
        None => Ok(None),
        // Where QEMU has nothing our unit hands on a comment: systemd has no empty credentials.
        Some([] | [b'#', ..]) if !is_users => Ok(None),
        Some(order) => match parse_override(order, port) {
            Some(Override::At(remote)) if needs_zone(remote.ip()) => Err(OverrideFlaw::NeedsZone),
            Some(order) => Ok(Some(order)),
            None => Err(OverrideFlaw::NoOrder),
        },
    }
}

/// The order on the kernel's command line.
fn parameter(command_line: &[u8]) -> Option<&[u8]> {
    command_line
        .split(u8::is_ascii_whitespace)
        .rev()
        .find_map(|word| word.strip_prefix(PARAMETER.as_bytes()))
}

/// Reads `IP`, `IP:PORT`, `[IPv6]:PORT` or `none`; blank lines and `#` comments may stand around.
fn parse_override(content: &[u8], port: u16) -> Option<Override> {
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
    let (address, zone) = match address.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (address, None),
    };
    let address = parse_host(address)?;
    let is_misplaced =
        word.starts_with('[') && address.is_ipv4() || zone.is_some() && !needs_zone(address);
    if is_misplaced {
        return None;
    }
    Some(Override::At(SocketAddr::new(address, port)))
}

/// A port one can connect to, in digits only.
fn parse_port(text: &str) -> Option<u16> {
    parse_digits(text)?.try_into().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_contract() {
        let parse = |text: &str| parse_override(text.as_bytes(), 9999);
        let at = |text: &str| Some(Override::At(text.parse().unwrap()));
        assert_eq!(parse("10.0.2.2"), at("10.0.2.2:9999"));
        assert_eq!(parse("# VM\n\n 10.0.2.2:80 \r\n"), at("10.0.2.2:80"));
        assert_eq!(parse("fd00::1"), at("[fd00::1]:9999"));
        assert_eq!(parse("[fd00::1]"), at("[fd00::1]:9999"));
        assert_eq!(parse("[fd00::1]:80"), at("[fd00::1]:80"));
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
            "10.0.2.2%eth0",
            "fd00::1%eth0",
            "\u{0}",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert_eq!(parse_override(b"\xff\xfe", 9999), None);
    }

    #[test]
    fn the_last_parameter_of_the_kernel_counts() {
        let line =
            b"root=/dev/vda cache-resolver.override=none quiet cache-resolver.override=10.0.2.2\n";
        assert_eq!(parameter(line), Some(&b"10.0.2.2"[..]));
        assert_eq!(parameter(b"x.cache-resolver.override=none cache-resolver.override"), None);
        assert_eq!(parameter(b""), None);
    }

    #[test]
    fn the_file_comes_first_and_nonsense_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let read = || {
            let mut complaints = Vec::new();
            let credentials = path("");
            let order = read_override(
                &path("file"),
                Some(credentials.trim_end_matches('/')),
                true,
                9999,
                &mut |problem| complaints.push(format!("{problem:?}")),
            );
            (order, complaints)
        };
        assert_eq!(read(), (None, vec![]));
        std::fs::write(path("cache-resolver.override"), "10.0.0.3\n").unwrap();
        std::fs::write(path("cache-resolver.fw-cfg"), "# nothing").unwrap();
        assert_eq!(read().0.unwrap().0, Override::At("10.0.0.3:9999".parse().unwrap()));
        std::fs::write(path("cache-resolver.fw-cfg"), "10.0.0.2").unwrap();
        assert_eq!(read().0.unwrap().0, Override::At("10.0.0.2:9999".parse().unwrap()));
        std::fs::write(path("file"), "rubbish").unwrap();
        let (order, complaints) = read();
        assert_eq!(order.unwrap().0, Override::At("10.0.0.2:9999".parse().unwrap()));
        assert!(complaints.len() == 1 && complaints[0].contains("NoOrder"));
        for scoped in ["fe80::1%eth0", "[fe80::1%eth0]:9999", "fe80::1"] {
            std::fs::write(path("file"), scoped).unwrap();
            let (order, complaints) = read();
            assert_eq!(order.unwrap().0, Override::At("10.0.0.2:9999".parse().unwrap()));
            assert!(complaints.len() == 1 && complaints[0].contains("NeedsZone"), "{scoped}");
        }
        std::fs::write(path("file"), "none").unwrap();
        assert_eq!(read(), (Some((Override::None, path("file"))), vec![]));
    }
}
