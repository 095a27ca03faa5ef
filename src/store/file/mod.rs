//! Changing the user's configuration file: the metrics that are exported, and nothing else.
//!
//! [`set_metrics`] is pure: it returns the text with the values changed in place, so that comments, order, quotes and line
//! breaks stay as the user wrote them. It does not rely on its own understanding of YAML: the result is parsed, and
//! the edit is refused unless only the metrics differ from before. [`update`] reads and replaces the file.

mod document;
mod edit;
mod save;

pub use document::selects_metrics;
pub use edit::set_metrics;
pub use save::{update, SaveError, Update};
