//! Text that is put together from templates, so that what is said in English is data and no code; and
//! all of our numbers, times and addresses look alike.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::elapsed::Elapsed;
use crate::model::Origin;
use crate::sys;
use crate::text::Text;
use crate::wire::netlink::Link;

/// As many as are ever wanted: the columns before a row's last.
const SPACES: &str = "                          ";

/// What a template may speak of; each has a letter there.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// `%o`: a method, by its word.
    pub origin: Origin,
    /// `%r`: an address and its port, `%a`: the address alone, `%p`: the port.
    pub remote: SocketAddr,
    /// `%n`: a number, and `%s`: the `s` that it takes if it is not one; `%i`: the interface with it.
    pub number: u32,
    /// `%m`: another number, and `%d`: without commas, as that of a port.
    pub other: u32,
    /// `%t`: a time, and `%u`: in milliseconds with three decimals.
    pub time: Elapsed,
    /// `%w`: words, and `%q`: as a string of JSON.
    pub words: &'a str,
    /// `%f`: a file.
    pub file: &'a str,
    /// `%c`: a path of a URL.
    pub path: &'a str,
}

impl Values<'_> {
    /// Nothing to speak of.
    pub const NONE: Self = Self {
        origin: Origin::Override,
        remote: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        number: 0,
        other: 0,
        time: Elapsed::START,
        words: "",
        file: "",
        path: "",
    };
}

impl Text {
    /// Adds a template with its values.
    #[inline(never)]
    pub fn fill(&mut self, template: &str, values: &Values) -> &mut Self {
        let mut parts = template.split('%');
        self.add(parts.next().unwrap_or_default());
        for part in parts {
            let (letter, rest) = part.split_at_checked(1).unwrap_or_default();
            match letter {
                "o" => self.add(values.origin.word()),
                "r" => self.remote(values.remote),
                "a" => self.ip(values.remote.ip()),
                "p" => self.decimal(values.remote.port().into()),
                "n" => self.number(values.number as usize),
                "s" => self.add(if values.number == 1 { "" } else { "s" }),
                "i" => self.interface(values.number),
                "m" => self.number(values.other as usize),
                "d" => self.decimal(values.other.into()),
                "t" => self.time(values.time),
                "w" => self.add(values.words),
                "q" => self.quoted(values.words),
                "u" => self.milliseconds(values.time),
                "f" => self.add(values.file),
                _ => self.add(values.path),
            };
            self.add(rest);
        }
        self
    }

    /// Adds a number with a comma before each three digits.
    #[inline(never)]
    pub fn number(&mut self, number: usize) -> &mut Self {
        let (high, low) = (number / 1000, number % 1000);
        if high == 0 {
            return self.decimal(low as u64);
        }
        self.number(high).add(",").padded(low)
    }

    /// Adds three digits.
    #[inline(never)]
    pub fn padded(&mut self, number: usize) -> &mut Self {
        self.add(if number < 100 { "0" } else { "" }).add(if number < 10 { "0" } else { "" });
        self.decimal(number as u64)
    }

    /// Adds an address and its port; the interface of a link-local one by its name.
    #[inline(never)]
    pub fn remote(&mut self, remote: SocketAddr) -> &mut Self {
        match remote {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                self.add("[").ip(remote.ip()).add("%").interface(v6.scope_id());
                self.add("]:").decimal(v6.port().into())
            }
            _ => self.authority(remote.ip(), remote.port()),
        }
    }

    /// Adds what an interface is called; its number where it is gone.
    #[inline(never)]
    pub fn interface(&mut self, index: u32) -> &mut Self {
        match sys::interface_name(index) {
            Some(name) => self.add_plain(name.as_bytes(), is_plain),
            None => self.decimal(index.into()),
        }
    }

    /// Adds what a link is called.
    #[inline(never)]
    pub fn link(&mut self, link: &Link) -> &mut Self {
        self.add_plain(link.bare_name(), is_plain)
    }

    /// Adds a time as a person writes it: 0.8 ms, 130 ms, 3.2 s.
    #[inline(never)]
    pub fn time(&mut self, at: Elapsed) -> &mut Self {
        let micros = at.as_micros();
        match micros {
            0..9_950 => self.tenths(micros.div_ceil(100)).add(" ms"),
            9_950..999_500 => self.decimal((micros + 500) / 1000).add(" ms"),
            _ => self.tenths((micros + 50_000) / 100_000).add(" s"),
        }
    }

    /// Adds a number of tenths.
    #[inline(never)]
    pub fn tenths(&mut self, tenths: u64) -> &mut Self {
        self.decimal(tenths / 10).add(".").decimal(tenths % 10)
    }

    /// Adds milliseconds with three decimals.
    #[inline(never)]
    pub fn milliseconds(&mut self, at: Elapsed) -> &mut Self {
        let micros = at.as_micros();
        self.decimal(micros / 1000).add(".").padded((micros % 1000) as usize)
    }

    /// Adds a string of JSON (RFC 8259 §7).
    #[inline(never)]
    fn quoted(&mut self, text: &str) -> &mut Self {
        self.add("\"");
        let mut rest = text;
        loop {
            let is_special = |byte| byte < b' ' || byte == b'"' || byte == b'\\';
            let end = rest.bytes().position(is_special).unwrap_or(rest.len());
            let (plain, special) = rest.split_at_checked(end).unwrap_or_default();
            self.add(plain);
            let (first, after) = special.split_at_checked(1).unwrap_or_default();
            match first.bytes().next() {
                None => return self.add("\""),
                Some(b'\n') => self.add("\\n"),
                Some(code) if code < b' ' => self
                    .add(if code < 0x10 { "\\u000" } else { "\\u001" })
                    .digit((code & 15).into()),
                Some(_) => self.add("\\").add(first),
            };
            rest = after;
        }
    }

    /// Adds a comma where another member or element stands before.
    #[inline(never)]
    pub fn separate(&mut self) -> &mut Self {
        let is_first = matches!(self.0.as_bytes().last(), Some(b'[' | b'{'));
        self.add(if is_first { "" } else { "," })
    }

    /// Adds spaces up to this length.
    #[inline(never)]
    pub fn pad(&mut self, length: usize) -> &mut Self {
        let missing = length.saturating_sub(self.0.len());
        self.add(SPACES.get(..missing).unwrap_or(SPACES))
    }

    /// Adds a comma where something stands after `start`.
    #[inline(never)]
    pub fn comma_after(&mut self, start: usize) -> &mut Self {
        if self.0.len() == start { self } else { self.add(", ") }
    }
}

/// Whether a byte of an interface's name is shown as it is: the kernel takes any but a space, a slash
/// and a colon, and we write it on terminals and in strings of JSON.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'
}
