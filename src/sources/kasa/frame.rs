//! The frames of TP-Link's Smart Home protocol: four bytes of length, the highest first, and JSON in which each byte is combined with
//! the one before by exclusive or. That hides nothing from anybody. Pure. (softScheck, "Reverse engineering the TP-Link HS110".)

/// Bytes of a frame before its text.
pub const HEAD: usize = 4;
/// Bytes of the longest text that is taken. What a strip of six sockets says about itself has two thousand.
pub const MAX_TEXT: usize = 64 * 1024;
/// What the first byte is combined with.
const FIRST_KEY: u8 = 171;

/// A frame with this text.
pub fn encode(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes().to_vec();
    let mut key = FIRST_KEY;
    frame.extend(text.bytes().map(|byte| {
        key ^= byte;
        key
    }));
    frame
}

/// The length of the text that follows. The error is for people.
pub fn length(head: [u8; HEAD]) -> Result<usize, String> {
    let length = u32::from_be_bytes(head);
    match usize::try_from(length).ok().filter(|n| *n <= MAX_TEXT) {
        Some(length) => Ok(length),
        None => Err("the answer is longer than any device's, or of another protocol".to_string()),
    }
}

/// The text of what followed the length, in place.
pub fn decode(bytes: &mut [u8]) {
    let mut key = FIRST_KEY;
    for byte in bytes {
        let next = *byte;
        *byte ^= key;
        key = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"system":{"get_sysinfo":{}}}`, by the datagram that many programs send to find such devices.
    const SYSINFO: &str = "d0f281f88bff9af7d5ef94b6d1b4c09fec95e68fe187e8caf08bf68bf6";

    #[test]
    fn frame_is_as_on_the_wire() {
        let frame = encode("{\"system\":{\"get_sysinfo\":{}}}");
        let hexadecimal: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hexadecimal, format!("0000001d{SYSINFO}"));
    }

    #[test]
    fn text_comes_back() {
        for text in ["", "{}", "{\"name\":\"Küche 🐟\"}"] {
            let mut frame = encode(text);
            let (head, bytes) = frame.split_at_mut(HEAD);
            assert_eq!(length(head.as_ref().try_into().unwrap()), Ok(text.len()));
            decode(bytes);
            assert_eq!(bytes, text.as_bytes());
        }
    }

    #[test]
    fn length_beyond_any_device_is_refused() {
        assert_eq!(length([0, 1, 0, 0]), Ok(MAX_TEXT));
        assert!(length([0, 1, 0, 1]).is_err());
        // As of a server of HTTP.
        assert!(length(*b"HTTP").is_err());
    }
}
