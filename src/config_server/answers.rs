//! Answers in JSON, in the forms of edge-metrics-server.

use serde_json::json;

use super::access::Refusal;
use super::etag::Etag;
use super::store::Failure;
use crate::http::{Request, Response, BEARER};
use crate::wire::{DeviceId, INVALID_CONFIGURATION};

/// An error: `{"error": …, "message": …}`, with the device's id if it is about one.
pub(super) fn error(status: u16, error: &str, id: Option<&DeviceId>, message: &str) -> Response {
    let mut body = json!({"error": error, "message": message});
    if let Some(id) = id {
        body["device_id"] = id.as_str().into();
    }
    Response::json(status, &body)
}

/// There is no such device. `hint`: what to do instead, if there is something.
pub(super) fn unknown_device(id: &DeviceId, hint: &str) -> Response {
    match hint {
        "" => Response::json(
            404,
            &json!({"error": "Device not found", "device_id": id.as_str()}),
        ),
        hint => error(404, "Device not found", Some(id), hint),
    }
}

/// The state is not the one that the request is meant for.
pub(super) fn precondition_failed(id: &DeviceId, current: Option<Etag>) -> Response {
    let response = error(
        412,
        "Precondition failed",
        Some(id),
        "the configuration is not what If-Match or If-None-Match say: GET it again",
    );
    match current {
        Some(tag) => response.with_header("ETag", &tag.to_string()),
        None => response,
    }
}

/// The store failed.
pub(super) fn failure(failure: &Failure) -> Response {
    match failure {
        Failure::Away(why) => {
            error(503, "Store unavailable", None, why).with_header("Retry-After", "5")
        }
        Failure::Broken(why) => error(500, "Store failed", None, why),
        Failure::Unreadable(why) => error(500, INVALID_CONFIGURATION, None, why),
        Failure::Full => error(507, "Too many devices", None, &failure.to_string()),
    }
}

/// The resource takes other methods.
pub(super) fn not_allowed(request: &Request, allowed: &str) -> Response {
    let message = format!("{} takes {allowed}, not {}", request.path, request.method);
    error(405, "Method not allowed", None, &message).with_header("Allow", allowed)
}

/// Somebody may not do this, for this reason.
pub(super) fn refused_access(refusal: Refusal, id: Option<&DeviceId>) -> Response {
    match refusal {
        Refusal::Unknown(why) => {
            error(401, "Unauthorized", id, &why).with_header(BEARER.0, BEARER.1)
        }
        Refusal::Forbidden(why) => error(403, "Forbidden", id, &why),
    }
}

/// Too many requests of this kind: the next may come after so many seconds.
pub(super) fn too_many(message: &str, seconds: u64) -> Response {
    error(429, "Too many requests", None, message).with_header("Retry-After", &seconds.to_string())
}
