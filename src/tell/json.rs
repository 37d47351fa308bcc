//! `--json`: a run for other programs.

use super::report::Timeline;
use super::words::{describe, milliseconds, word};
use crate::config::Config;
use crate::elapsed::Elapsed;
use crate::model::Outcome;
use crate::output::Files;
use crate::path::Paths;

/// One JSON object (RFC 8259).
#[must_use]
pub fn render_json(
    timeline: &Timeline,
    ended: Elapsed,
    outcome: Outcome,
    config: &Config,
    files: &Files,
    paths: &Paths,
) -> String {
    let mut json = String::from("{\"outcome\":");
    push_string(&mut json, word(outcome));
    if let Outcome::Found(found) = outcome {
        json += ",\"origin\":";
        push_string(&mut json, found.origin.word());
        json += ",\"address\":";
        push_string(&mut json, files.address.as_deref().unwrap_or_default().trim_ascii_end());
        json += ",\"port\":";
        json += &found.remote.port().to_string();
        json += ",\"path\":";
        push_string(&mut json, paths.text(found.path));
    }
    json += ",\"milliseconds\":";
    json += &milliseconds(ended);
    if let Some(directory) = config.output_dir.as_ref().filter(|_| !config.dry_run) {
        json += ",\"output_dir\":";
        push_string(&mut json, directory);
    }
    json += ",\"nix_conf\":";
    push_string(&mut json, &files.nix_conf);
    json += ",\"timeline\":[";
    for (index, (at, note)) in timeline.entries.iter().enumerate() {
        json += if index == 0 { "" } else { "," };
        json += "{\"milliseconds\":";
        json += &milliseconds(*at);
        json += ",\"event\":";
        push_string(&mut json, &describe(*note, paths));
        json += "}";
    }
    json += "]}\n";
    json
}

/// Adds a JSON string.
fn push_string(json: &mut String, text: &str) {
    json.push('"');
    for letter in text.chars() {
        match letter {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            control if control.is_ascii_control() => {
                let escaped = format!("\\u{:04x}", control as u32);
                json.push_str(&escaped);
            }
            other => json.push(other),
        }
    }
    json.push('"');
}
