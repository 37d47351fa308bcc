//! Machines that announce services by DNS-SD, and liars among them.

use std::net::{IpAddr, SocketAddr};

use cache_resolver::elapsed::Elapsed;

use crate::support::{
    ANSWER, MULTICAST, NXDOMAIN, Record, address, alias, id_of, message, name, questions, reply,
    service,
};

/// What a machine says when it is asked for the services of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// All that is to be known.
    All,
    /// The instance's name, and everything else only when it is asked for.
    Pieces,
}

/// A machine that announces one service.
#[derive(Clone, Debug)]
pub struct Announcer {
    /// Its own address.
    pub address: IpAddr,
    pub delay: Elapsed,
    pub says: Says,
    /// Whether it only answers to the group.
    pub to_group: bool,
    /// The type of service.
    pub kind: &'static str,
    pub port: u16,
    /// The strings of its text, if it has one.
    pub text: Option<Vec<Vec<u8>>>,
    /// The addresses of its host.
    pub answers: Vec<IpAddr>,
    /// How many such services it has.
    pub count: usize,
    /// Whether the service's host is the service itself.
    pub points_to_itself: bool,
}

impl Announcer {
    /// An honest one.
    pub fn new(address: IpAddr, port: u16, text: &[&str]) -> Self {
        Self {
            address,
            delay: Elapsed::from_micros(1000),
            says: Says::All,
            to_group: false,
            kind: "_nix-cache._tcp.local",
            port,
            text: Some(text.iter().map(|string| string.as_bytes().to_vec()).collect()),
            answers: vec![address],
            count: 1,
            points_to_itself: false,
        }
    }

    /// The name of one of its services: a label with a dot and a space.
    fn instance(&self, number: usize) -> Vec<u8> {
        let label = format!("Nix v1.{number} on {}", self.address);
        [&[u8::try_from(label.len()).unwrap()], label.as_bytes(), &name(self.kind)].concat()
    }

    /// The name of its host.
    fn host(&self) -> Vec<u8> {
        if self.points_to_itself { self.instance(0) } else { name("hive.local") }
    }

    /// What it sends back, if it is asked.
    pub fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let (mut answers, mut additionals) = (Vec::new(), Vec::new());
        for (asked, kind) in questions(question) {
            let is_it = |other: &[u8]| asked.eq_ignore_ascii_case(other);
            match kind {
                12 if is_it(&name(self.kind)) => {
                    for number in 0..self.count {
                        answers.push(service::pointer(&name(self.kind), &self.instance(number)));
                        if self.says == Says::All {
                            self.push_service(number, &mut additionals);
                        }
                    }
                    if self.says == Says::All {
                        additionals.extend(self.addresses());
                    }
                }
                33 => {
                    for number in (0..self.count).filter(|number| is_it(&self.instance(*number))) {
                        self.push_service(number, &mut answers);
                    }
                }
                1 if is_it(&self.host()) => answers.extend(self.addresses()),
                _ => {}
            }
        }
        // What does not fit into a message is not sent.
        answers.truncate(250);
        additionals.truncate(250 - answers.len());
        let id = if self.to_group { 0 } else { id_of(question) };
        (!answers.is_empty()).then(|| message(id, MULTICAST, &[], [&answers, &[], &additionals]))
    }

    /// Adds place and text of a service.
    fn push_service(&self, number: usize, records: &mut Vec<Record>) {
        let owner = self.instance(number);
        let port = self.port.wrapping_add(u16::try_from(number).unwrap());
        records.push(service::place(&owner, 0, 0, port, &self.host()));
        records.extend(self.text.iter().map(|strings| service::text(&owner, strings)));
    }

    /// The address records of its host.
    fn addresses(&self) -> impl Iterator<Item = Record> {
        let host = self.host();
        self.answers.iter().map(move |given| address(&host, *given))
    }
}

/// How a DNS server knows the caches of its domain, `lan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The string of the text, if there is one.
    pub text: Option<&'static str>,
    /// Whether the addresses come along with the places.
    pub says: Says,
    /// Whether the service's name is an alias.
    pub is_alias: bool,
}

impl Domain {
    /// The answer of a server that knows these places.
    pub fn answer(self, query: &[u8], places: &[(u16, u16, SocketAddr)]) -> Vec<u8> {
        let (asked, kind) = questions(query).remove(0);
        let service = name("_nix-cache._tcp.lan");
        let owner = if self.is_alias { name("caches.lan") } else { service.clone() };
        let host = |number| name(&format!("host{number}.lan"));
        let address = |number: usize| address(&host(number), places[number].2.ip());
        let (mut answers, mut additionals) = (Vec::new(), Vec::new());
        if asked == service {
            if self.is_alias {
                answers.push(alias(&service, &owner));
            }
            match (kind, self.text) {
                (16, Some(text)) => answers.push(service::text(&owner, &[text.into()])),
                (33, _) => {
                    for (number, (priority, weight, remote)) in places.iter().enumerate() {
                        let host = host(number);
                        let place =
                            service::place(&owner, *priority, *weight, remote.port(), &host);
                        answers.push(place);
                        if self.says == Says::All {
                            additionals.push(address(number));
                        }
                    }
                }
                // What an alias leads to is not there: no answer but the alias.
                _ => answers.clear(),
            }
        } else if kind == 1 {
            let known = (0..places.len()).filter(|number| asked == host(*number));
            answers.extend(known.map(address));
        } else {
            return reply(query, NXDOMAIN, &[]);
        }
        message(id_of(query), ANSWER, &query[12..], [&answers, &[], &additionals])
    }
}

/// Texts that lead nowhere.
pub const BAD_PATHS: [&[u8]; 16] = [
    b"path=/a b",
    b"path=/a#b",
    b"path=/a?b",
    b"path=/a\"b",
    b"path=/a\nsubstituters = http://evil",
    b"path=/a\r\nX: y",
    b"path=/../etc",
    b"path=/./a",
    b"path=/a//b",
    b"path=a",
    b"path=",
    b"path=/\xc3\xa4",
    b"path=/%2e%2e/a",
    b"path=/%20",
    b"path=/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    b"PATH=@evil.example/",
];
