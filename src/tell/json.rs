//! `--json`: a run for other programs. Its form is `tests/json/schema.json`; `schema` counts on when it
//! changes in a way that they must know of.

use std::net::SocketAddr;

use super::account::Account;
use super::cause::{Cause, Story};
use super::report::{push_result, push_word};
use super::sentence::split;
use super::template::Values;
use super::words::{describe, outcome_word};
use crate::elapsed::Elapsed;
use crate::facts::Network;
use crate::model::{Origin, Outcome};
use crate::output::{Files, State};
use crate::path::Paths;
use crate::text::Text;

/// One JSON object (RFC 8259).
#[must_use]
pub fn render_json(
    story: &Story,
    cause: Cause,
    state: State,
    files: &Files,
    paths: &Paths,
) -> String {
    let config = story.config;
    let mut json = Text::default();
    let mut values = Values { time: story.ended_at, ..Values::NONE };
    values.words = outcome_word(story.outcome);
    json.fill(r#"{"schema":1,"outcome":"%w","milliseconds":%u"#, &values);
    if let Outcome::Found(found) = story.outcome {
        (values.origin, values.remote) = (found.origin, found.remote);
        values.words = files.address.as_deref().unwrap_or_default().trim_ascii_end();
        values.path = paths.text(found.path);
        json.fill(r#","origin":"%o","address":"%w","port":%p,"path":"%c""#, &values);
    }
    push_cause(&mut json, cause, story);
    if let Some(directory) = config.output_dir.as_ref().filter(|_| !config.dry_run) {
        values.words = directory;
        json.fill(r#","output_dir":%q"#, &values);
    }
    json.add(if state.is_in_place() { r#","written":true"# } else { r#","written":false"# });
    json.add(if state == State::Written { r#","changed":true"# } else { r#","changed":false"# });
    values.words = &files.nix_conf;
    json.fill(r#","nix_conf":%q,"network":{"interfaces":["#, &values);
    push_network(&mut json, story.network);
    for origin in Origin::ALL {
        if story.account.is_used(origin) {
            push_method(&mut json, story, origin);
        }
    }
    json.add(r#"],"timeline":["#);
    push_events(&mut json, story.account, paths);
    json.add("]}\n");
    json.0
}

/// Adds the cause.
fn push_cause(json: &mut Text, cause: Cause, story: &Story) {
    let description = cause.describe(story);
    let (what, remedy) = split(&description);
    let mut values = Values { file: cause.code(), words: what, ..Values::NONE };
    json.fill(r#","cause":{"code":"%f","text":%q"#, &values);
    values.words = remedy;
    json.fill(r#","remedy":%q"#, &values);
    if let Some(remote) = cause.remote() {
        values.remote = remote;
        json.fill(r#","address":"%r""#, &values);
    }
    if let Some(status) = cause.status() {
        values.other = status.into();
        json.fill(r#","http_status":%d"#, &values);
    }
    json.add("}");
}

/// Adds the network, and begins the methods.
fn push_network(json: &mut Text, network: &Network) {
    let mut values = Values::NONE;
    for interface in network.interfaces.iter().filter(|interface| !interface.is_loopback()) {
        json.separate().add(r#"{"name":""#).link(&interface.link);
        values.words = if interface.is_running() { "true" } else { "false" };
        json.fill(r#"","carrier":%w,"addresses":["#, &values);
        for (address, length) in &interface.addresses {
            values.remote.set_ip(*address);
            values.other = (*length).into();
            json.separate().fill(r#""%a/%d""#, &values);
        }
        json.add("]}");
    }
    json.add(r#"],"gateways":["#);
    push_addresses(json, &network.gateways);
    json.add(r#"],"nameservers":["#);
    push_addresses(json, &network.nameservers);
    json.add(r#"]},"methods":["#);
}

/// Adds addresses without their ports.
fn push_addresses(json: &mut Text, addresses: &[SocketAddr]) {
    for remote in addresses {
        json.separate().fill(r#""%a""#, &Values { remote: *remote, ..Values::NONE });
    }
}

/// Adds a method and the hosts that it has led to.
fn push_method(json: &mut Text, story: &Story, origin: Origin) {
    let times = story.account.times(origin);
    let mut values = Values { origin, ..Values::NONE };
    json.separate().fill(r#"{"name":"%o","started":"#, &values);
    push_time(json, times.began);
    json.add(r#","ended":"#);
    push_time(json, times.ended);
    let mut text = Text::default();
    push_result(story, origin, &mut text);
    values.words = &text.0;
    json.fill(r#","result":%q,"hosts":["#, &values);
    for asked in story.account.of(origin) {
        values.remote = asked.candidate.remote;
        json.separate().fill(r#"{"address":"%r","result":""#, &values);
        push_word(story, asked, json);
        json.add(r#""}"#);
    }
    json.add("]}");
}

/// Adds a time in milliseconds, or that there is none.
fn push_time(json: &mut Text, at: Option<Elapsed>) {
    match at {
        Some(at) => json.milliseconds(at),
        None => json.add("null"),
    };
}

/// Adds all that happened.
fn push_events(json: &mut Text, account: &Account, paths: &Paths) {
    for (at, note) in account.events() {
        let mut text = Text::default();
        describe(*note, paths, &mut text);
        let values = Values { time: *at, words: &text.0, ..Values::NONE };
        json.separate().fill(r#"{"milliseconds":%u,"event":%q}"#, &values);
    }
}
