//! Which requests may change something: those with a valid login; if there are no logins, those from this machine, or from
//! anywhere with `--management.allow-remote`. A page of another site never may. A board's management API has the same rules.

use crate::http::{foreign_page, Request, WriteAccess};

/// Why a request is refused.
pub(super) enum Refusal {
    /// Clients with a valid login may.
    Unauthorized(String),
    /// Nobody may from there.
    Forbidden(String),
}

/// Why this request is refused because a page of another site sent it; `None`: it is not.
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
        WriteAccess::LoginRequired => Some(Refusal::Unauthorized(
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
