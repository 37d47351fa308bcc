//! `announced`: caches that say of themselves where they are, by DNS-SD (RFC 6763), whatever their
//! name: in the rounds of multicast DNS, and to the servers of the domains that we belong to.
//!
//! Who announces also decides port and path. So all that a machine says counts as its own word: what
//! one says of a service, a host, an address is never put together with what another says.

use std::net::{IpAddr, SocketAddr};

use super::Random;
use super::resolver::{Resolver, Subject};
use crate::address::{Family, with_scope};
use crate::elapsed::Elapsed;
use crate::facts::Network;
use crate::interface::{Effects, MdnsDatagram, Output};
use crate::model::{Candidate, Note, Origin, Unusable};
use crate::path::PathId;
use crate::wire::dns::{
    DNS_PORT, Medium, Name, RecordType, Reply, compose_question, compose_questions,
};
use crate::wire::service::{Fact, Place, for_each_fact, value_of};

/// What a domain's caches are called, and those that are announced by hand.
const CACHE_TYPE: &str = "_nix-cache._tcp.";
/// The types of services that may be caches, in wire form: of those announced by hand and by NixOS, of
/// ncro, of nix-cache-beacon.
const TYPES: [&[u8]; 4] = [
    b"\x0a_nix-cache\x04_tcp\x05local\0",
    b"\x0a_nix-serve\x04_tcp\x05local\0",
    b"\x11_nix_binary_cache\x04_tcp\x05local\0",
    WEB_TYPE,
];
/// Web servers, of which every printer is one: caches if they say so, as nixos-passthru-cache does.
const WEB_TYPE: &[u8] = b"\x05_http\x04_tcp\x05local\0";
/// Instances and hosts kept.
const KNOWN_MAX: usize = 64;
/// The same as long as they are web servers: these leave the others room.
const WEB_MAX: usize = 32;
/// The same of one machine.
const KNOWN_PER_SPEAKER_MAX: usize = 16;
/// The same as long as they are web servers: a home server has dozens, and one cache.
const WEB_PER_SPEAKER_MAX: usize = 8;
/// Places taken from one answer, the first in the order of RFC 2782: many times what one host has.
const PLACES_MAX: usize = 4;
/// Addresses taken of one host, as often as they are said.
const HOST_ADDRESSES_MAX: u8 = 32;
/// How often the rest is asked for that did not come along: once in each round.
const ASKS_MAX: u8 = 3;

/// The state of what is announced.
#[derive(Debug)]
pub struct Announced {
    /// The id of our questions, which answers sent to us alone repeat.
    id: u16,
    /// What was announced.
    known: Vec<Known>,
}

/// An instance of a service, or a host that has one.
#[derive(Debug)]
struct Known {
    /// Who has spoken of it.
    speaker: SocketAddr,
    /// What it is called.
    name: Name,
    /// The port of an instance on this host; 0 for the instance itself.
    port: u16,
    /// The path; `None` where the instance is not used.
    path: Option<PathId>,
    /// What the speaker has not said of it yet.
    missing: u8,
    /// How often that may still be asked for.
    asks_left: u8,
    /// How many addresses may still be taken, repeated ones counted.
    addresses_left: u8,
}

/// Of an instance: its text.
const TEXT: u8 = 1;
/// Of an instance: its place.
const PLACE: u8 = 2;
/// Of a host: its addresses.
const ADDRESSES: u8 = 4;

impl Announced {
    /// Nothing yet.
    #[must_use]
    pub fn new(random: &mut Random) -> Self {
        Self { id: random.next_u16(), known: Vec::new() }
    }

    /// The question to everybody on a link: all types in one packet, beside that for the name, which
    /// must not wait as the answer to several questions does (RFC 6762 §6.3). Web servers come first:
    /// Avahi answers the last question first, and leaves out what exceeds 512 bytes.
    #[must_use]
    pub fn question(&self) -> Vec<u8> {
        let mut types = TYPES;
        types.reverse();
        compose_questions(self.id, false, &types, &[RecordType::Ptr])
    }

    /// Asks the servers for the caches of our domains: first for the path, then for the rest.
    pub fn ask(
        &self,
        now: Elapsed,
        network: &Network,
        resolver: &mut Resolver,
        effects: &mut Effects,
    ) {
        for domain in network.search_domains.split_ascii_whitespace() {
            let Ok(name) = Name::from_text(&[CACHE_TYPE, domain].concat()) else { continue };
            for server in &network.nameservers {
                resolver.ask(now, &subject(*server, &name, RecordType::Txt), effects);
            }
        }
    }

    /// Takes what came from a link of ours, and asks there for what did not come along.
    pub fn handle(&mut self, datagram: &MdnsDatagram, effects: &mut Effects) {
        let MdnsDatagram { interface, source, multicast, payload } = *datagram;
        let medium = Medium::Multicast((!multicast).then_some(self.id));
        // Of a message that breaks off nothing counts.
        if for_each_fact(payload, medium, &mut |_, _| ()).is_err() {
            return;
        }
        let _ = for_each_fact(payload, medium, &mut |owner, fact| match fact {
            Fact::Text(text) => self.take_text(&source, owner, text, effects),
            Fact::Instance(name) => {
                self.instance(&source, &name, effects);
            }
            _ => {}
        });
        self.take_places(&source, None, payload, medium, effects);
        self.take_addresses(&source, interface, payload, medium, effects);
        for known in self.known.iter_mut().filter(|known| known.is_of(&source)) {
            if known.missing != 0 && known.asks_left != 0 {
                known.asks_left -= 1;
                let question = compose_question(self.id, false, &known.name, &known.types());
                let family = Family::of(source.ip());
                effects.output(Output::AskMulticast { interface, family, question });
            }
        }
    }

    /// Takes what a server says; what else it is to be asked is asked by `ask_servers`.
    pub fn handle_reply(&mut self, subject: &Subject, reply: &Reply, effects: &mut Effects) {
        let Subject { server, name, kind, .. } = subject;
        match reply {
            Reply::Addresses(addresses) => {
                for known in &mut self.known {
                    if known.is_of(server) && known.name == *name {
                        for address in addresses {
                            known.follow(0, *address, effects);
                        }
                    }
                }
            }
            Reply::Records(packet) if *kind == RecordType::Srv => {
                self.take_places(server, Some(name), packet, Medium::Server, effects);
                self.take_addresses(server, 0, packet, Medium::Server, effects);
            }
            Reply::Records(packet) => {
                let _ = for_each_fact(packet, Medium::Server, &mut |_, fact| {
                    if let Fact::Text(text) = fact {
                        self.take_text(server, name, text, effects);
                    }
                });
            }
            // As long as no text comes after this, its path is the root.
            _ if *kind == RecordType::Txt => {
                self.instance(server, name, effects);
            }
            _ => {}
        }
    }

    /// Asks the servers for what they have not said yet of what they have named.
    pub fn ask_servers(&self, now: Elapsed, resolver: &mut Resolver, effects: &mut Effects) {
        for known in self.known.iter().filter(|known| known.missing != 0) {
            if known.speaker.port() == DNS_PORT {
                for kind in known.types() {
                    resolver.ask(now, &subject(known.speaker, &known.name, kind), effects);
                }
            }
        }
    }

    /// Takes the first text of an instance: the path in it, or that it is no cache for us. So each brings
    /// one path at most.
    fn take_text(&mut self, speaker: &SocketAddr, name: &Name, text: &[u8], effects: &mut Effects) {
        let Some(known) = self.instance(speaker, name, effects) else { return };
        if known.missing & TEXT == 0 {
            return;
        }
        let is_cache = !name.is_child_of(WEB_TYPE) || value_of(text, "nix-cache") == Some(b"1");
        let path = value_of(text, "path").unwrap_or(b"/");
        known.path = is_cache.then(|| effects.paths.add(path)).flatten();
        if known.path.is_none() {
            let why = if is_cache { Unusable::Path } else { Unusable::NoCache };
            effects.note(Note::Unusable(speaker.ip(), why));
        }
        known.missing &= if known.path.is_some() { PLACE } else { 0 };
    }

    /// Takes the first places in an answer; of a server all are those of the name that was `asked`,
    /// whatever that is an alias of.
    fn take_places(
        &mut self,
        speaker: &SocketAddr,
        asked: Option<&Name>,
        packet: &[u8],
        medium: Medium,
        effects: &mut Effects,
    ) {
        let mut first: Vec<(Name, Place)> = Vec::new();
        let _ = for_each_fact(packet, medium, &mut |owner, fact| {
            if let Fact::Place(place) = fact {
                let is_later = |(_, known): &(Name, Place)| place.rank < known.rank;
                let at = first.iter().position(is_later).unwrap_or(first.len());
                first.insert(at, (owner.clone(), place));
                first.truncate(PLACES_MAX);
            }
        });
        for (owner, place) in &first {
            self.take_place(speaker, asked.unwrap_or(owner), place, effects);
        }
    }

    /// Takes where an instance is.
    fn take_place(
        &mut self,
        speaker: &SocketAddr,
        name: &Name,
        place: &Place,
        effects: &mut Effects,
    ) {
        let Some(known) = self.instance(speaker, name, effects) else { return };
        let is_new = known.missing & PLACE != 0;
        known.missing &= !PLACE;
        let Some(path) = known.path else { return };
        if place.port != 0 && !place.target.is_root() {
            self.add(speaker, &place.target, place.port, Some(path), ADDRESSES);
        } else if is_new {
            effects.note(Note::Unusable(speaker.ip(), Unusable::Nowhere));
        }
    }

    /// Takes the addresses in an answer, those of the first places first.
    fn take_addresses(
        &mut self,
        speaker: &SocketAddr,
        interface: u32,
        packet: &[u8],
        medium: Medium,
        effects: &mut Effects,
    ) {
        let is_host = |known: &&mut Known| known.port != 0 && known.is_of(speaker);
        for known in self.known.iter_mut().filter(is_host) {
            let _ = for_each_fact(packet, medium, &mut |owner, fact| {
                if let Fact::Address(address) = fact
                    && *owner == known.name
                {
                    known.follow(interface, address, effects);
                }
            });
        }
    }

    /// The instance of this name that the speaker has announced, or a server was asked for. As long as
    /// nothing else is said its path is the root, and a web server is none.
    fn instance(
        &mut self,
        speaker: &SocketAddr,
        name: &Name,
        effects: &mut Effects,
    ) -> Option<&mut Known> {
        let is_service =
            speaker.port() == DNS_PORT || TYPES.iter().any(|kind| name.is_child_of(kind));
        if !is_service {
            return None;
        }
        let path = if name.is_child_of(WEB_TYPE) { None } else { effects.paths.add(b"/") };
        self.add(speaker, name, 0, path, TEXT | PLACE)
    }

    /// What is known under this name, new where it was not; `None` where there is no room for it.
    fn add(
        &mut self,
        speaker: &SocketAddr,
        name: &Name,
        port: u16,
        path: Option<PathId>,
        missing: u8,
    ) -> Option<&mut Known> {
        let is_it = |known: &Known| {
            known.is_of(speaker)
                && known.port == port
                && known.name == *name
                && (port == 0 || known.path == path)
        };
        if let Some(index) = self.known.iter().position(is_it) {
            return self.known.get_mut(index);
        }
        let (max, share) = if path.is_some() {
            (KNOWN_MAX, KNOWN_PER_SPEAKER_MAX)
        } else {
            (WEB_MAX, WEB_PER_SPEAKER_MAX)
        };
        let rivals = self.known.iter().filter(|known| known.is_of(speaker)).count();
        if share <= rivals {
            return None;
        }
        if max <= self.known.len() {
            // Printers without end are no reason to overlook a cache.
            let is_useless = |known: &Known| known.path.is_none() && known.missing == 0;
            let index = self.known.iter().position(is_useless)?;
            self.known.swap_remove(index);
        }
        self.known.push(Known {
            speaker: *speaker,
            name: name.clone(),
            port,
            path,
            missing,
            asks_left: ASKS_MAX,
            addresses_left: HOST_ADDRESSES_MAX,
        });
        self.known.last_mut()
    }
}

impl Known {
    /// Whether this machine has spoken of it.
    #[inline(never)]
    fn is_of(&self, speaker: &SocketAddr) -> bool {
        self.speaker == *speaker
    }

    /// Makes a candidate of an address of this host.
    fn follow(&mut self, interface: u32, address: IpAddr, effects: &mut Effects) {
        if let Some(path) = self.path
            && self.port != 0
            && self.addresses_left != 0
        {
            self.addresses_left -= 1;
            self.missing = 0;
            let remote = with_scope(SocketAddr::new(address, self.port), interface);
            let heard = Candidate::heard(Origin::Announced, remote, self.speaker.ip());
            effects.candidate(Candidate { path, ..heard });
        }
    }

    /// The types of record that say what is to be known of it.
    const fn types(&self) -> [RecordType; 2] {
        if self.port == 0 {
            [RecordType::Txt, RecordType::Srv]
        } else {
            [RecordType::A, RecordType::Aaaa]
        }
    }
}

/// What a server is asked about a name.
fn subject(server: SocketAddr, name: &Name, kind: RecordType) -> Subject {
    let asker = Origin::Announced;
    Subject { asker, server, is_guess: false, name: name.clone(), kind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Paths;

    /// A record of class IN with a TTL.
    fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len()).unwrap().to_be_bytes();
        [owner, &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 9], &length, data].concat()
    }

    /// An answer to everybody with these records.
    fn answer(records: &[Vec<u8>]) -> Vec<u8> {
        let count = u8::try_from(records.len()).unwrap();
        [&[0, 0, 0x84, 0, 0, 0, 0, count, 0, 0, 0, 0], &*records.concat()].concat()
    }

    /// The name of an instance, its place, its text, and the address of its host.
    fn service() -> [Vec<u8>; 4] {
        let owner = [b"\x04v1.0", TYPES[0]].concat();
        let host = b"\x04hive\x05local\0";
        [
            record(TYPES[0], 12, &owner),
            record(&owner, 33, &[b"\0\0\0\0\x13\x88", &host[..]].concat()),
            record(&owner, 16, b"\x09path=/nix"),
            record(host, 1, &[10, 0, 0, 5]),
        ]
    }

    /// Has a machine of the LAN say this.
    fn tell(announced: &mut Announced, host: u8, packet: &[u8], effects: &mut Effects) {
        let source = SocketAddr::from(([10, 0, 0, host], 5353));
        let datagram = MdnsDatagram { interface: 2, source, multicast: true, payload: packet };
        announced.handle(&datagram, effects);
    }

    /// The same: the candidates, and how many questions come back.
    fn say(announced: &mut Announced, host: u8, packet: &[u8]) -> (Vec<Candidate>, usize) {
        let mut effects = Effects::new(Paths::new("/system".to_owned()));
        tell(announced, host, packet, &mut effects);
        let is_question = |output: &&Output| matches!(output, Output::AskMulticast { .. });
        let asked = effects.outputs.iter().filter(is_question).count();
        (effects.candidates, asked)
    }

    /// Knows nothing yet.
    fn announced() -> Announced {
        Announced::new(&mut Random::new(1))
    }

    #[test]
    fn printers_leave_a_cache_room() {
        let mut announced = announced();
        let web = |text: &[u8]| {
            let owner = [b"\x03web", WEB_TYPE].concat();
            let host = b"\x03web\x05local\0";
            answer(&[
                record(WEB_TYPE, 12, &owner),
                record(&owner, 33, &[b"\0\0\0\0\x13\x88", &host[..]].concat()),
                record(&owner, 16, text),
                record(host, 1, &[10, 0, 0, 5]),
            ])
        };
        for host in 1..=60 {
            assert_eq!(say(&mut announced, host, &web(b"\x05ty=HP")), (vec![], 0), "{host}");
        }
        let (candidates, asked) = say(&mut announced, 70, &web(b"\x0bnix-cache=1"));
        assert_eq!((candidates.len(), asked), (1, 0));
    }

    #[test]
    fn a_message_that_breaks_off_says_nothing() {
        let packet = answer(&service());
        for cut in 0..packet.len() {
            let mut announced = announced();
            assert_eq!(say(&mut announced, 5, &packet[..cut]), (vec![], 0), "cut at {cut}");
            assert!(announced.known.is_empty(), "cut at {cut}");
        }
        let (candidates, asked) = say(&mut announced(), 5, &packet);
        assert_eq!((candidates[0].remote.to_string().as_str(), asked), ("10.0.0.5:5000", 0));
    }

    #[test]
    fn what_one_machine_says_is_not_put_together_with_another_s() {
        let [instance, place, text, address] = service();
        let mut announced = announced();
        assert_eq!(say(&mut announced, 5, &answer(&[instance, place, text])).1, 1);
        assert_eq!(say(&mut announced, 6, &answer(std::slice::from_ref(&address))), (vec![], 0));
        assert_eq!(say(&mut announced, 5, &answer(&[address])).0.len(), 1);
    }

    #[test]
    fn what_is_missing_is_asked_for_three_times() {
        let [instance, place, ..] = service();
        for (records, each) in [(vec![instance.clone()], 1), (vec![instance, place], 2)] {
            let mut announced = announced();
            let asked = [0; 5].map(|_| say(&mut announced, 5, &answer(&records)).1);
            assert_eq!(asked, [each, each, each, 0, 0]);
        }
    }

    #[test]
    fn each_machine_has_its_share() {
        let mut announced = announced();
        let instance = |kind: usize, number: u8| {
            record(TYPES[kind], 12, &[&[1, number], TYPES[kind]].concat())
        };
        let many = |kind| answer(&(0..60).map(|number| instance(kind, number)).collect::<Vec<_>>());
        for host in 1..=10 {
            say(&mut announced, host, &many(3));
        }
        assert_eq!(announced.known.len(), WEB_MAX, "printers");
        for host in 11..=20 {
            say(&mut announced, host, &many(0));
        }
        assert_eq!(announced.known.len(), KNOWN_MAX);
        let of_one = |host| {
            announced
                .known
                .iter()
                .filter(|known| known.speaker.ip() == IpAddr::from([10, 0, 0, host]))
                .count()
        };
        assert_eq!([1, 4, 5, 11, 12, 13].map(of_one), [8, 8, 0, 16, 16, 0]);
    }

    #[test]
    fn a_machine_s_web_servers_leave_its_cache_room() {
        let mut announced = announced();
        let web = (0..60).map(|number| record(TYPES[3], 12, &[&[1, number], TYPES[3]].concat()));
        say(&mut announced, 5, &answer(&web.collect::<Vec<_>>()));
        assert_eq!(say(&mut announced, 5, &answer(&service())).0.len(), 1);
    }

    #[test]
    fn there_are_paths_for_all() {
        let instance = |number: u8| [&[1, number], TYPES[0]].concat();
        let text = |owner: &[u8], path: &str| {
            record(owner, 16, &[&[u8::try_from(path.len()).unwrap()], path.as_bytes()].concat())
        };
        let one_of_many = (0..200).map(|number| text(&instance(1), &format!("path=/{number}")));
        let many = |host| {
            (0..20).map(move |number| text(&instance(number), &format!("path=/{host}/{number}")))
        };
        for liars in [
            vec![one_of_many.collect::<Vec<_>>()],
            (6..9).map(|host| many(host).collect()).collect(),
        ] {
            let mut announced = announced();
            let mut effects = Effects::new(Paths::new("/system".to_owned()));
            for (host, records) in (6..).zip(liars) {
                tell(&mut announced, host, &answer(&records), &mut effects);
            }
            tell(&mut announced, 5, &answer(&service()), &mut effects);
            let paths: Vec<_> = effects
                .candidates
                .iter()
                .map(|candidate| effects.paths.text(candidate.path))
                .collect();
            assert_eq!(paths, ["/nix"]);
        }
    }

    #[test]
    fn a_host_s_addresses_and_asks_end() {
        let [instance, place, text, address] = service();
        let mut announced = announced();
        let mut packet = vec![instance, place, text];
        packet.extend(std::iter::repeat_n(address, 200));
        let (candidates, asked) = say(&mut announced, 5, &answer(&packet));
        assert_eq!((candidates.len(), asked), (usize::from(HOST_ADDRESSES_MAX), 0));
        assert_eq!(say(&mut announced, 5, &answer(&packet)), (vec![], 0));
    }
}
