//! Settings that the meters with chips on I2C have in common.

use serde::Serializer;

use crate::config::diagnose::quoted;
use crate::config::tree::Node;
use crate::config::values::{rails, refuse, whole, Outcome, Refusal};

/// The highest number of a bus (Linux, include/uapi/linux/i2c-dev.h and drivers/i2c/i2c-dev.c: `I2C_MINORS`).
const MAX_BUS: u32 = 0xF_FFFF;

/// N of `/dev/i2c-N`.
pub(in crate::sources) fn bus(node: &Node) -> Outcome<u32> {
    whole(node).filter(|n| *n <= MAX_BUS).map_or_else(
        || refuse(node, "the number of a bus, such as 1 for /dev/i2c-1"),
        Ok,
    )
}

/// The 7-bit address of a chip with two pins to choose it by.
pub(in crate::sources) fn address(node: &Node) -> Outcome<u8> {
    let wanted = "an address from 0x40 to 0x4f";
    match node {
        Node::Int(address @ 0x40..=0x4f) => {
            u8::try_from(*address).or_else(|_| refuse(node, wanted))
        }
        // i2cdetect prints addresses in hexadecimal without saying so.
        Node::Int(decimal @ 40..=49) => {
            refuse(node, &format!("{wanted} (did you mean 0x{decimal}?)"))
        }
        Node::Int(other) if *other >= 0 => Err(Refusal::new(format!(
            "is {other} ({other:#04x}): write {wanted}"
        ))),
        _ => refuse(node, wanted),
    }
}

/// One of these numbers. `or` is what else may be written.
pub(in crate::sources) fn one_of(node: &Node, allowed: &[u16], or: &str) -> Outcome<u16> {
    whole(node).filter(|n| allowed.contains(n)).map_or_else(
        || {
            let all: Vec<_> = allowed.iter().map(u16::to_string).collect();
            refuse(node, &format!("one of {}{or}", all.join(", ")))
        },
        Ok,
    )
}

/// `auto`, or one of these numbers.
pub(in crate::sources) fn or_auto(node: &Node, allowed: &[u16]) -> Outcome<Option<u16>> {
    match node {
        Node::Text(text) if text.eq_ignore_ascii_case("auto") => Ok(None),
        _ => one_of(node, allowed, ", or auto").map(Some),
    }
}

/// Shows what [`or_auto`] reads.
pub(in crate::sources) fn show_auto<S: Serializer>(
    count: &Option<u16>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match count {
        Some(count) => serializer.serialize_u16(*count),
        None => serializer.serialize_str("auto"),
    }
}

/// Names of these rails, whose sum is the board's total.
pub(in crate::sources) fn power_total(node: &Node, there: &[String]) -> Outcome<Vec<String>> {
    let names = rails(node)?;
    for (i, name) in names.iter().enumerate() {
        if !there.contains(name) {
            let there = match there {
                [] => "there is none".to_string(),
                some => format!("write one of {}", some.join(", ")),
            };
            let message = format!("is {}, which is no chip's name: {there}", quoted(name));
            return Err(Refusal::new(message).at(i));
        }
    }
    Ok(names)
}
