//! Who may change something: whoever shows that, or where nobody can, whoever is on this machine, as with a board's
//! management API, unless others may too; and never a page from elsewhere.

use crate::http::{foreign_page, Request, WriteAccess};

/// Why a request may not do something.
pub(super) enum Refusal {
    /// Others may.
    Unknown(String),
    /// Nobody may from there.
    Forbidden(String),
}

/// Why this request may not do anything at all; `None`: it may. For what is open to all but pages from elsewhere.
pub(super) fn refusal_of_page(request: &Request) -> Option<Refusal> {
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    let hostname = hostname.to_string_lossy();
    let names = [hostname.as_ref()]
        .into_iter()
        .filter(|name| !name.is_empty());
    foreign_page(request, &names.collect::<Vec<_>>()).map(Refusal::Forbidden)
}

/// Why this request may not change anything; `None`: it may.
pub(super) fn refusal_of_change(request: &Request, allow_remote: bool) -> Option<Refusal> {
    if let Some(refusal) = refusal_of_page(request) {
        return Some(refusal);
    }
    match WriteAccess::of(request, allow_remote) {
        WriteAccess::Allowed => None,
        WriteAccess::LoginRequired => Some(Refusal::Unknown(
            "configurations may be changed by those who show a token (Authorization: Bearer ...) or a certificate".into(),
        )),
        WriteAccess::LocalOnly => Some(Refusal::Forbidden(
            "configurations may be changed from the server's own machine alone: start config-server with \
             --management.token-file or users (--web.config.file), or with --management.allow-remote if everybody who \
             reaches it may change the boards' configurations"
                .into(),
        )),
    }
}
