//! HTTP service discovery for Prometheus (prometheus.io, "Writing HTTP service discovery").

use serde_json::{json, Value};

use super::device::Device;

/// The target group of a device; `None`: its metrics port is not known, or it has none.
pub(super) fn target(device: &Device) -> Option<Value> {
    let port = device.port()?;
    let (_, from) = device.host();
    let mut group = json!({
        "targets": [device.authority(port)],
        "labels": {
            "device_type": device.device_type(),
            "hostname": device.hostname(),
            "__meta_edge_device_id": device.id.as_str(),
            "__meta_edge_address_from": from.as_str(),
            "__meta_edge_status": device.status().0,
        },
    });
    for (name, value) in device.labels() {
        group["labels"][name] = value.as_str().into();
    }
    // This label overrides the scheme of the scrape job.
    if device.scheme() == "https" {
        group["labels"]["__scheme__"] = "https".into();
    }
    if let Some(port) = device.reload_port() {
        group["labels"]["__meta_edge_reload_port"] = port.to_string().into();
    }
    Some(group)
}
