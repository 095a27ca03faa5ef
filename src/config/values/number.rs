//! Numbers with their units and ranges.

use std::time::Duration;

use super::{refuse, Outcome};
use crate::config::tree::Node;

/// The minimum and maximum of times, in seconds.
const SECONDS: (f64, f64) = (0.001, 86_400.0);
/// The same of the interval at which meters are read.
const INTERVAL: (f64, f64) = (0.0001, 86_400.0);
/// The maximum voltage, above that of any board.
const MAX_VOLTS: f64 = 1000.0;
/// The maximum power, above that of any machine.
const MAX_WATTS: f64 = 1e6;

/// A whole number in the range of `T`.
pub(crate) fn whole<T: TryFrom<i128>>(node: &Node) -> Option<T> {
    match node {
        Node::Int(value) => T::try_from(*value).ok(),
        _ => None,
    }
}

/// Any number. NaN is returned too; it is in no range.
pub(crate) fn real(node: &Node) -> Option<f64> {
    match node {
        // Above 2^53 the float is inexact, but no range reaches that far.
        Node::Int(value) => Some(*value as f64),
        Node::Float(value) => Some(*value),
        _ => None,
    }
}

/// Seconds, whole or not.
pub(crate) fn seconds(node: &Node) -> Outcome<Duration> {
    seconds_within(node, SECONDS)
}

/// The interval at which meters are read, in seconds.
pub(crate) fn interval(node: &Node) -> Outcome<Duration> {
    seconds_within(node, INTERVAL)
}

fn seconds_within(node: &Node, (least, most): (f64, f64)) -> Outcome<Duration> {
    let Some(seconds) = real(node) else {
        return refuse(node, "seconds as a number, such as 1 or 0.1");
    };
    if (least..=most).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    refuse(node, &format!("seconds from {least} to {most}"))
}

/// The maximum age of the history in seconds, whole or not; 0 keeps no history.
pub(crate) fn history_seconds(node: &Node) -> Outcome<Duration> {
    const MAX: f64 = 86_400.0;
    match real(node).filter(|seconds| (0.0..=MAX).contains(seconds)) {
        Some(seconds) => Ok(Duration::from_secs_f64(seconds)),
        None => refuse(node, &format!("seconds from 0 to {MAX}, as a number")),
    }
}

/// A size of memory, in bytes.
pub(crate) fn bytes(node: &Node) -> Outcome<usize> {
    const MAX: usize = 1 << 30;
    match whole(node).filter(|bytes| *bytes <= MAX) {
        Some(bytes) => Ok(bytes),
        None => refuse(node, &format!("a whole number of bytes from 0 to {MAX}")),
    }
}

/// A number of rows.
pub(crate) fn rows(node: &Node) -> Outcome<usize> {
    match whole(node).filter(|rows| *rows > 0) {
        Some(rows) => Ok(rows),
        None => refuse(node, "a whole number from 1"),
    }
}

/// A port; 0 lets the kernel choose one.
pub(crate) fn port(node: &Node) -> Outcome<u16> {
    let wanted = "a port from 1 to 65535, or 0 for any free one";
    whole(node).map_or_else(|| refuse(node, wanted), Ok)
}

/// A TCP port, or `off` for no port.
pub(crate) fn port_or_off(node: &Node) -> Outcome<Option<u16>> {
    match node {
        Node::Bool(false) => Ok(None),
        Node::Text(text) if text.eq_ignore_ascii_case("off") => Ok(None),
        Node::Int(_) => port(node).map(Some),
        _ => refuse(node, "a port from 1 to 65535, 0 for any free one, or off"),
    }
}

/// Volts, whole or not.
pub(crate) fn volts(node: &Node) -> Outcome<f64> {
    let Some(volts) = real(node) else {
        return refuse(node, "volts as a number, such as 5 or 5.1");
    };
    if (MAX_VOLTS.recip()..=MAX_VOLTS).contains(&volts) {
        return Ok(volts);
    }
    refuse(node, &format!("volts, up to {MAX_VOLTS}"))
}

/// Watts, whole or not.
pub(crate) fn watts(node: &Node) -> Outcome<f64> {
    match real(node).filter(|watts| (0.0..=MAX_WATTS).contains(watts)) {
        Some(watts) => Ok(watts),
        None => refuse(node, &format!("watts from 0 to {MAX_WATTS}, as a number")),
    }
}

/// An index from 0.
pub(crate) fn index(node: &Node) -> Outcome<u32> {
    whole(node).map_or_else(|| refuse(node, "a whole number from 0"), Ok)
}
