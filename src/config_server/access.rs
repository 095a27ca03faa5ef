//! Who may change something: whoever is on this machine, as with a board's management API, unless others may too; and
//! never a page from elsewhere.

use crate::http::{foreign_page, is_local, Request};

/// Why this request may not do anything at all; `None`: it may. For what is open to all but pages from elsewhere.
pub(super) fn refusal_of_page(request: &Request) -> Option<String> {
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    let hostname = hostname.to_string_lossy();
    let names = [hostname.as_ref()]
        .into_iter()
        .filter(|name| !name.is_empty());
    foreign_page(request, &names.collect::<Vec<_>>())
}

/// Why this request may not change anything; `None`: it may.
pub(super) fn refusal_of_change(request: &Request, allow_remote: bool) -> Option<String> {
    if let Some(why) = refusal_of_page(request) {
        return Some(why);
    }
    (!allow_remote && !is_local(request)).then(|| {
        "configurations may be changed from the server's own machine alone: start config-server with \
         --management.allow-remote if everybody who reaches it may change the boards' configurations"
            .to_string()
    })
}
