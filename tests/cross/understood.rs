//! What the parsers understand, for comparison with those of others: a line on standard input names what
//! is to be read, a line on standard output says what was read. `tests/cross` runs it.
//!
//! ```text
//!     dns TYPE HEX         a message to whoever has asked for that type of record of NAME with ID
//!     hosts PATH           the addresses of NAME
//!     resolv.conf PATH     the servers, and the domains
//!     override PATH        the order
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_docs_in_private_items,
    reason = "a test may fail"
)]

use std::ffi::CString;
use std::fmt::Write as _;
use std::io::{BufRead as _, Write as _};

use cache_resolver::facts::{Override, read_hosts, read_override, read_resolv_conf_from};
use cache_resolver::wire::Malformed;
use cache_resolver::wire::dns::{Medium, Name, RecordType, Reply, parse_datagram, parse_multicast};
use cache_resolver::wire::service::{Fact, for_each_fact};

const NAME: &str = "waterbug.lan";
const ID: u16 = 0x1234;
const PORT: u16 = 9999;

fn main() {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines().map(Result::unwrap) {
        let words: Vec<_> = line.split(' ').collect();
        let understood = match words[..] {
            ["dns", kind, hexadecimal] => dns(kind, hexadecimal),
            ["hosts", path] => joined(read_hosts(path, NAME)),
            ["resolv.conf", path] => {
                let found = read_resolv_conf_from(path, "/nowhere", index_of);
                format!("{}|{}", joined(found.nameservers), found.search_domains.trim_end())
            }
            ["override", path] => match read_override(path, None, false, PORT, &mut |_| ()) {
                None => "nothing".to_owned(),
                Some((Override::None, _)) => "none".to_owned(),
                Some((Override::At(remote), _)) => remote.to_string(),
            },
            _ => panic!("{line}"),
        };
        writeln!(output, "{understood}").unwrap();
    }
}

fn joined(items: impl IntoIterator<Item = impl ToString>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

fn index_of(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a string with its end, which outlives the call.
    #[allow(unsafe_code)]
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// The four readings of a message: as an answer of a server, as multicast, as multicast to us alone, and
/// what it says of services.
fn dns(kind: &str, hexadecimal: &str) -> String {
    let digits = hexadecimal.as_bytes().chunks(2);
    let packet: Vec<u8> =
        digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
    let kind = match kind {
        "A" => RecordType::A,
        "AAAA" => RecordType::Aaaa,
        "SRV" => RecordType::Srv,
        "TXT" => RecordType::Txt,
        _ => panic!("{kind}"),
    };
    let name = Name::from_text(NAME).unwrap();
    let reply = match parse_datagram(&packet, ID, &name, kind) {
        Err(Malformed) => "malformed".to_owned(),
        Ok(Reply::Addresses(addresses)) => joined(addresses),
        Ok(Reply::Records(records)) => facts(&records, Medium::Server),
        Ok(Reply::Denied(denial)) => format!("{denial:?}"),
        Ok(Reply::Truncated) => "Truncated".to_owned(),
    };
    let multicast = |id| match parse_multicast(&packet, &name, id) {
        Err(Malformed) => "malformed".to_owned(),
        Ok(addresses) => joined(addresses),
    };
    let services = facts(&packet, Medium::Multicast(None));
    [reply, multicast(None), multicast(Some(ID)), services].join("|")
}

fn facts(packet: &[u8], medium: Medium) -> String {
    let mut said = Vec::new();
    let read = for_each_fact(packet, medium, &mut |owner, fact| {
        let fact = match fact {
            Fact::Instance(name) => format!("PTR,{}", bytes_of(&name)),
            Fact::Place(place) => {
                format!("SRV,{},{},{}", place.rank, place.port, bytes_of(&place.target))
            }
            Fact::Text(text) => format!("TXT,{}", hexadecimal(text)),
            Fact::Address(address) => address.to_string(),
        };
        said.push(format!("{},{fact}", bytes_of(owner)));
    });
    if read == Ok(()) { said.join(" ") } else { "malformed".to_owned() }
}

/// A name in wire form, which it only shows in its `Debug`.
fn bytes_of(name: &Name) -> String {
    let shown = format!("{name:?}");
    let numbers = shown.split(|letter: char| !letter.is_ascii_digit());
    let bytes: Vec<_> = numbers.filter_map(|number| number.parse().ok()).collect();
    hexadecimal(&bytes)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
