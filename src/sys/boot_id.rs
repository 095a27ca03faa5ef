//! The identity of the current boot. Times of the boot-time clock can only be compared within one boot.

/// The kernel's id of this boot (`/proc/sys/kernel/random/boot_id`, random(4)). It belongs to the running kernel's clock, and
/// so is always read from `/proc`, not below a test's root. `None`: there is no `/proc`.
pub fn boot_id() -> Option<[u8; 16]> {
    parse(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?)
}

/// Parses a UUID: 32 hexadecimal digits with hyphens.
fn parse(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    let hex = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| u128::from_str_radix(&digits, 16).ok())?
        .map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_id_is_stable_and_uuids_are_parsed() {
        assert_eq!(boot_id(), boot_id());
        let id = parse("7a4abd37-7f79-4e12-8bdb-240ec3f44658\n").unwrap();
        assert_eq!(id[..4], [0x7a, 0x4a, 0xbd, 0x37]);
        for bad in [
            "",
            "7a4abd37",
            "+a4abd37-7f79-4e12-8bdb-240ec3f44658",
            "7a4abd37-7f79-4e12-8bdb-240ec3f4465x",
        ] {
            assert_eq!(parse(bad), None);
        }
    }
}
