//! Text that is put together from templates, so that what is said in English is data and no code; and
//! all of our numbers, times and addresses look alike.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::elapsed::Elapsed;
use crate::model::Origin;
use crate::sys;
use crate::wire::netlink::Link;

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

/// Text that grows.
#[derive(Debug, Default)]
pub struct Text(pub String);

impl Text {
    /// Adds text.
    #[inline(never)]
    pub fn add(&mut self, part: &str) -> &mut Self {
        self.0.push_str(part);
        self
    }

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
                "a" => self.show(&values.remote.ip()),
                "p" => self.show(&values.remote.port()),
                "n" => self.number(values.number as usize),
                "s" => self.add(if values.number == 1 { "" } else { "s" }),
                "i" => self.interface(values.number),
                "m" => self.number(values.other as usize),
                "d" => self.show(&values.other),
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

    /// Adds whatever has a form of its own.
    #[inline(never)]
    pub fn show(&mut self, part: &dyn Display) -> &mut Self {
        self.add(&part.to_string())
    }

    /// Adds a number with a comma before each three digits.
    #[inline(never)]
    pub fn number(&mut self, number: usize) -> &mut Self {
        let (high, low) = (number / 1000, number % 1000);
        if high == 0 {
            return self.show(&low);
        }
        self.number(high).add(",").padded(low)
    }

    /// Adds three digits.
    #[inline(never)]
    pub fn padded(&mut self, number: usize) -> &mut Self {
        self.add(if number < 100 { "0" } else { "" }).add(if number < 10 { "0" } else { "" });
        self.show(&number)
    }

    /// Adds an address and its port; the interface of a link-local one by its name.
    #[inline(never)]
    pub fn remote(&mut self, remote: SocketAddr) -> &mut Self {
        match remote {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => self
                .add("[")
                .show(v6.ip())
                .add("%")
                .interface(v6.scope_id())
                .add("]:")
                .show(&v6.port()),
            _ => self.show(&remote),
        }
    }

    /// Adds what an interface is called; its number where it is gone.
    #[inline(never)]
    pub fn interface(&mut self, index: u32) -> &mut Self {
        match sys::interface_name(index) {
            Some(name) => self.add(&name),
            None => self.show(&index),
        }
    }

    /// Adds what a link is called.
    #[inline(never)]
    pub fn link(&mut self, link: &Link) -> &mut Self {
        let name = link.name.split(|byte| *byte == 0).next().unwrap_or_default();
        self.add(std::str::from_utf8(name).unwrap_or("?"))
    }

    /// Adds a time as a person writes it: 0.8 ms, 130 ms, 3.2 s.
    #[inline(never)]
    pub fn time(&mut self, at: Elapsed) -> &mut Self {
        let micros = at.as_micros();
        match micros {
            0..9_950 => self.tenths(micros.div_ceil(100)).add(" ms"),
            9_950..999_500 => self.show(&((micros + 500) / 1000)).add(" ms"),
            _ => self.tenths((micros + 50_000) / 100_000).add(" s"),
        }
    }

    /// Adds a number of tenths.
    #[inline(never)]
    pub fn tenths(&mut self, tenths: u64) -> &mut Self {
        self.show(&(tenths / 10)).add(".").show(&(tenths % 10))
    }

    /// Adds milliseconds with three decimals.
    #[inline(never)]
    pub fn milliseconds(&mut self, at: Elapsed) -> &mut Self {
        let micros = at.as_micros();
        self.show(&(micros / 1000)).add(".").padded((micros % 1000) as usize)
    }

    /// Adds a string of JSON (RFC 8259 §7).
    #[inline(never)]
    fn quoted(&mut self, text: &str) -> &mut Self {
        self.add("\"");
        for letter in text.chars() {
            let code = u32::from(letter);
            match letter {
                '"' | '\\' => self.add("\\"),
                '\n' => {
                    self.add("\\n");
                    continue;
                }
                _ if code < 0x20 => {
                    self.add(if code < 0x10 { "\\u000" } else { "\\u001" });
                    self.0.push(char::from_digit(code & 15, 16).unwrap_or('0'));
                    continue;
                }
                _ => self,
            };
            self.0.push(letter);
        }
        self.add("\"")
    }

    /// Adds a comma where another member or element stands before.
    #[inline(never)]
    pub fn separate(&mut self) -> &mut Self {
        let is_first = self.0.ends_with(['[', '{']);
        self.add(if is_first { "" } else { "," })
    }

    /// Adds spaces up to this length.
    #[inline(never)]
    pub fn pad(&mut self, length: usize) -> &mut Self {
        while self.0.len() < length {
            self.add(" ");
        }
        self
    }

    /// Adds a comma where something stands after `start`.
    #[inline(never)]
    pub fn comma_after(&mut self, start: usize) -> &mut Self {
        if self.0.len() == start { self } else { self.add(", ") }
    }
}
