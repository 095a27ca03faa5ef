//! Changing the user's configuration file: the setting, and nothing else.
//!
//! [`set_metrics`] is pure: it takes the text and gives the text with the settings changed in place, so that comments,
//! order, quoting and line ends stay as the user wrote them. It trusts its own understanding of YAML with nothing: the
//! result is parsed, and must say the same as before but for that setting, or the edit is refused and names the line to
//! edit by hand. `text`, `block` and `flow` know how YAML is laid out, [`update`] reads and replaces the file.

mod block;
mod document;
mod edit;
mod flow;
mod old_list;
mod save;
mod text;

pub use document::selects_metrics;
pub use edit::set_metrics;
pub use save::{update, Unsaved, Update};
