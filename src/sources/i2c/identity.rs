//! The identity registers of Texas Instruments' power monitors. Pure.

/// The manufacturer's register: "TI".
pub const TEXAS_INSTRUMENTS: u16 = 0x5449;

/// The chip with these two identity registers, if known. The die's lower four bits are its revision.
pub fn chip(manufacturer: u16, die: u16) -> Option<&'static str> {
    if manufacturer != TEXAS_INSTRUMENTS {
        return None;
    }
    match die >> 4 {
        0x226 => Some("INA226"),
        0x227 => Some("INA260"),
        0x228 => Some("INA228"),
        0x238 => Some("INA238"),
        0x322 => Some("INA3221"),
        _ => None,
    }
}

/// The words of another chip for a message: "manufacturer 0x5449, die 0x2260, as an INA226 does".
pub(in crate::sources) fn describe(manufacturer: u16, die: u16) -> String {
    let known =
        chip(manufacturer, die).map_or(String::new(), |name| format!(", as an {name} does"));
    format!("manufacturer {manufacturer:#06x}, die {die:#06x}{known}")
}
