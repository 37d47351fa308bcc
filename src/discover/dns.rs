//! Unicast DNS: every server is asked for the addresses of the cache's name.

use std::net::SocketAddr;

use super::resolver::{Resolver, Subject};
use crate::address::with_scope;
use crate::elapsed::Elapsed;
use crate::interface::Effects;
use crate::model::{Candidate, Note, Origin};
use crate::wire::dns::{Denial, Name, RecordType, Reply};

/// What unicast DNS is asked.
#[derive(Debug)]
pub struct Dns {
    /// The name asked for.
    name: Name,
    /// The port that a candidate gets.
    port: u16,
}

impl Dns {
    /// Asks nobody yet.
    #[must_use]
    pub const fn new(name: Name, port: u16) -> Self {
        Self { name, port }
    }

    /// Asks the configured servers, or guessed ones, that were not asked before.
    pub fn ask(
        &self,
        now: Elapsed,
        servers: &[SocketAddr],
        is_guess: bool,
        resolver: &mut Resolver,
        effects: &mut Effects,
    ) {
        for server in servers {
            let (name, kind) = (self.name.clone(), RecordType::A);
            let mut subject = Subject { asker: Origin::Dns, server: *server, is_guess, name, kind };
            if resolver.ask(now, &subject, effects) {
                effects.note(Note::AskedServer(*server));
            }
            subject.kind = RecordType::Aaaa;
            resolver.ask(now, &subject, effects);
        }
    }

    /// Takes what a server says.
    pub fn handle(&self, subject: &Subject, reply: &Reply, effects: &mut Effects) {
        let (addresses, denial) = match reply {
            Reply::Addresses(addresses) => (addresses.as_slice(), None),
            Reply::Denied(denial) => (&[][..], Some(*denial)),
            Reply::Records(_) | Reply::Truncated => (&[][..], Some(Denial::Failed)),
        };
        effects.note(Note::ServerSaid(subject.server, denial));
        let scope = scope_of(subject.server);
        for address in addresses {
            let remote = with_scope(SocketAddr::new(*address, self.port), scope);
            effects.candidate(Candidate {
                has_name: !subject.is_guess,
                ..Candidate::heard(Origin::Dns, remote, subject.server.ip())
            });
        }
    }
}

/// The interface through which a link-local server is reached, and so the scope of its answers.
fn scope_of(server: SocketAddr) -> u32 {
    match server {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(server) => server.scope_id(),
    }
}
