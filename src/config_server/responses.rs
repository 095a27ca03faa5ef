//! JSON responses, in the format of edge-metrics-server.

use serde_json::json;

use super::access::Refusal;
use super::etag::Etag;
use super::store::StoreError;
use crate::http::{Request, Response, BEARER};
use crate::wire::{DeviceId, INVALID_CONFIGURATION};

/// An error: `{"error": …, "message": …}`, with `device_id` if it is about a device.
pub(super) fn error(status: u16, error: &str, id: Option<&DeviceId>, message: &str) -> Response {
    let mut body = json!({"error": error, "message": message});
    if let Some(id) = id {
        body["device_id"] = id.as_str().into();
    }
    Response::json(status, &body)
}

/// 404. `hint` is a message about what to do instead, or empty.
pub(super) fn unknown_device(id: &DeviceId, hint: &str) -> Response {
    match hint {
        "" => Response::json(
            404,
            &json!({"error": "Device not found", "device_id": id.as_str()}),
        ),
        hint => error(404, "Device not found", Some(id), hint),
    }
}

/// 412: the preconditions of the request do not hold for the current configuration.
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

/// The response to a request whose call of the store failed.
pub(super) fn store_error(store_error: &StoreError) -> Response {
    match store_error {
        StoreError::Unavailable(why) => {
            error(503, "Store unavailable", None, why).with_header("Retry-After", "5")
        }
        StoreError::Busy(why) => error(503, "Busy", None, why).with_header("Retry-After", "5"),
        StoreError::Failed(why) => error(500, "Store failed", None, why),
        StoreError::Unreadable(why) => error(500, INVALID_CONFIGURATION, None, why),
        StoreError::Full { what, .. } => {
            let kind = format!("Too many {what}");
            error(507, &kind, None, &store_error.to_string())
        }
    }
}

/// 405: the resource has the methods `allowed`.
pub(super) fn method_not_allowed(request: &Request, allowed: &str) -> Response {
    let message = format!("{} takes {allowed}, not {}", request.path, request.method);
    error(405, "Method not allowed", None, &message).with_header("Allow", allowed)
}

/// 401 or 403.
pub(super) fn access_refused(refusal: Refusal, id: Option<&DeviceId>) -> Response {
    match refusal {
        Refusal::Unauthorized(why) => {
            error(401, "Unauthorized", id, &why).with_header(BEARER.0, BEARER.1)
        }
        Refusal::Forbidden(why) => error(403, "Forbidden", id, &why),
    }
}

/// 429: the client may try again after `seconds`.
pub(super) fn too_many_requests(message: &str, seconds: u64) -> Response {
    error(429, "Too many requests", None, message).with_header("Retry-After", &seconds.to_string())
}
