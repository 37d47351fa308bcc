//! Everything that speaks to people and to other programs: notes → [`account`] → [`cause`] → the log,
//! `--explain` and `--json`. [`sentence`] and [`words`] have all that is said in English of a run; what
//! is said of the command line stands in [`cli`](crate::cli).

mod account;
mod cause;
mod errors;
mod json;
mod log;
mod report;
mod sentence;
mod template;
mod words;

pub use account::Account;
pub use cause::{Cause, Story};
pub use json::render_json;
pub use log::{Log, Sink};
pub use report::{explain, list_events, paint};
pub use words::{Level, Problem, summarise};
