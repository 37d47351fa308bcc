//! Everything that speaks to people and to other programs. [`words`] has all that is said in English
//! of a run; what is said of the command line stands in [`cli`](crate::cli).

mod errors;
mod json;
mod log;
mod report;
mod words;

pub use json::render_json;
pub use log::{Log, Sink};
pub use report::Timeline;
pub use words::{Level, Problem, summarise};
