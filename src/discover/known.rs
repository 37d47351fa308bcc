//! `override`, `previous` and `hosts`: what the host itself already knows.

use std::net::SocketAddr;

use crate::facts::{Known, Override};
use crate::interface::Effects;
use crate::model::{Candidate, Methods, Note, Origin};

/// Turns what is known into candidates; true when an override excludes everything else.
pub fn follow(known: &Known, methods: Methods, port: u16, effects: &mut Effects) -> bool {
    if let Some(order) = known.override_ {
        effects.note(Note::Started(Origin::Override));
        if let Override::At(remote) = order {
            effects.candidate(Candidate::new(Origin::Override, remote));
        }
        return true;
    }
    if methods.contains(Origin::Previous) {
        effects.note(Note::Started(Origin::Previous));
        if let Some(previous) = known.previous {
            // One of another name stays weak: the cache of ours may have come.
            let is_named = !previous.is_announced;
            let origin = if is_named { Origin::Previous } else { Origin::Announced };
            effects.candidate(Candidate {
                path: previous.path,
                has_name: previous.by_name,
                ..Candidate::new(origin, previous.remote)
            });
        }
    }
    if methods.contains(Origin::Hosts) {
        effects.note(Note::Started(Origin::Hosts));
        for address in &known.hosts {
            effects.candidate(Candidate::new(Origin::Hosts, SocketAddr::new(*address, port)));
        }
    }
    false
}
