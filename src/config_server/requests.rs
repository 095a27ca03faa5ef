//! What every request is checked for, whichever documents it is about.

use std::time::Instant;

use super::responses::{access_refused, error, too_many_requests};
use super::{access, ConfigServer};
use crate::http::{Request, Response};
use crate::wire::DeviceId;

/// Refuses a request that may not change anything, or that has other parameters than these: a misspelled `dry_run` must not change
/// anything.
pub(super) fn may_change(
    server: &ConfigServer,
    request: &Request,
    parameters: &[&str],
    id: Option<&DeviceId>,
) -> Result<(), Response> {
    if let Some(refusal) = access::refusal_of_change(request, server.allow_remote) {
        return Err(access_refused(refusal, id));
    }
    known_parameters(request, parameters, id)
}

/// Refuses a request that has other parameters than these.
pub(super) fn known_parameters(
    request: &Request,
    parameters: &[&str],
    id: Option<&DeviceId>,
) -> Result<(), Response> {
    let Some(name) = request.query_key_beside(parameters) else {
        return Ok(());
    };
    let name: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    let known = match parameters {
        [] => "none here".to_owned(),
        some => some.join(", "),
    };
    let why = format!("there is no parameter `{name}`: there are {known}");
    Err(error(400, "Invalid query", id, &why))
}

/// Reading a record or all documents may be a lot: it counts as a search.
pub(super) fn counts_as_search(server: &ConfigServer) -> Result<(), Response> {
    let taken = server.search_rate.take(Instant::now());
    taken.map_err(|wait| too_many_requests("too many requests for documents", wait.as_secs() + 1))
}

/// 400: a parameter is wrong.
pub(super) fn invalid_query(why: &str) -> Response {
    error(400, "Invalid query", None, why)
}
