//! The message of `proto/powermeasurement.proto`, decoded and checked.

use std::fmt;

use prost::Message;

use crate::metrics::plausible::AMPERES;

/// The longest accepted datagram, in bytes: the buffer size of the replaced exporter. A message with the known fields has
/// at most 25 bytes; the rest is for fields that later devices may add.
pub const MAX_DATAGRAM: usize = 1024;
/// 2^53: above this a double does not hold every whole number, so a counter of milliampere-seconds cannot count there.
const MAX_ENERGY: f64 = 9_007_199_254_740_992.0;

/// `power_measurement`: the device's totals at one moment.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct PowerMeasurement {
    /// Microseconds since the device started.
    #[prost(uint64, tag = "1")]
    pub timestamp: u64,
    /// Milliampere-seconds since the device started.
    #[prost(double, tag = "2")]
    pub energy_consumption: f64,
    /// Milliamperes.
    #[prost(float, tag = "3")]
    pub current: f32,
}

/// Why a datagram is not a valid message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageError {
    /// The datagram is longer than [`MAX_DATAGRAM`].
    Oversized,
    /// The datagram ends within a field.
    Truncated,
    /// The datagram is not protobuf, or a field has another type.
    Malformed,
    /// The message has a current that no device draws, or a total that is negative or too large.
    Implausible,
}

impl MessageError {
    /// The value of the label `kind` under which such datagrams are counted.
    pub fn kind(self) -> &'static str {
        match self {
            MessageError::Oversized => "oversized",
            MessageError::Truncated => "truncated",
            MessageError::Malformed => "malformed",
            MessageError::Implausible => "implausible",
        }
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl std::error::Error for MessageError {}

impl PowerMeasurement {
    /// Decodes a datagram. Unknown fields are skipped. If a field occurs twice, the last one counts (protobuf.dev,
    /// "Encoding").
    pub fn from_datagram(datagram: &[u8]) -> Result<PowerMeasurement, MessageError> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(MessageError::Oversized);
        }
        let message = PowerMeasurement::decode(datagram).map_err(|_| {
            if ends_within_a_field(datagram) {
                MessageError::Truncated
            } else {
                MessageError::Malformed
            }
        })?;
        let total = message.energy_consumption;
        let amperes = f64::from(message.current) / 1000.0;
        if AMPERES.contains(amperes) && (0.0..=MAX_ENERGY).contains(&total) {
            Ok(message)
        } else {
            Err(MessageError::Implausible)
        }
    }

    /// Encodes the message as a datagram.
    pub fn to_datagram(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Whether all fields are zero: the device has not measured anything yet.
    pub fn is_zero(&self) -> bool {
        *self == PowerMeasurement::default()
    }
}

/// Whether the bytes are complete fields followed by an incomplete one (protobuf.dev, "Encoding").
fn ends_within_a_field(mut rest: &[u8]) -> bool {
    loop {
        if rest.is_empty() {
            return false;
        }
        let tag = match varint(&mut rest) {
            Varint::Whole(tag) => tag,
            end => return matches!(end, Varint::Truncated),
        };
        let skip = match tag & 7 {
            0 => match varint(&mut rest) {
                Varint::Whole(_) => 0,
                end => return matches!(end, Varint::Truncated),
            },
            1 => 8,
            2 => match varint(&mut rest) {
                Varint::Whole(length) => length,
                end => return matches!(end, Varint::Truncated),
            },
            5 => 4,
            // Groups, which proto3 does not have, and invalid wire types.
            _ => return false,
        };
        match usize::try_from(skip).ok().and_then(|n| rest.get(n..)) {
            Some(after) => rest = after,
            None => return true,
        }
    }
}

enum Varint {
    Whole(u64),
    /// The bytes end within the number.
    Truncated,
    /// The number is longer than ten bytes.
    TooLong,
}

fn varint(bytes: &mut &[u8]) -> Varint {
    let mut value = 0;
    for place in 0..10 {
        let Some((byte, after)) = bytes.split_first() else {
            return Varint::Truncated;
        };
        *bytes = after;
        value |= u64::from(byte & 0x7f) << (7 * place).min(63);
        if byte & 0x80 == 0 {
            return Varint::Whole(value);
        }
    }
    Varint::TooLong
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Timestamp 1, 304000 mAs, 1600 mA, as encoded by the protobuf library of the replaced device agent.
    const WHOLE: &[u8] = &[
        0x08, 0x01, 0x11, 0, 0, 0, 0, 0, 0x8e, 0x12, 0x41, 0x1d, 0, 0, 0xc8, 0x44,
    ];

    fn read(bytes: &[u8]) -> Result<PowerMeasurement, MessageError> {
        PowerMeasurement::from_datagram(bytes)
    }

    #[test]
    fn message_is_decoded_and_encoded() {
        let message = PowerMeasurement {
            timestamp: 1,
            energy_consumption: 304_000.0,
            current: 1600.0,
        };
        assert_eq!(read(WHOLE), Ok(message));
        assert_eq!(message.to_datagram(), WHOLE);
    }

    #[test]
    fn empty_datagram_is_a_message_of_zeros() {
        let message = read(b"").unwrap();
        assert!(message.is_zero());
        assert_eq!(message.to_datagram(), b"");
        assert!(!read(&[0x08, 0x01]).unwrap().is_zero());
    }

    #[test]
    fn incomplete_field_is_truncated() {
        for end in 1..WHOLE.len() {
            let outcome = read(&WHOLE[..end]);
            if [2, 11].contains(&end) {
                assert!(outcome.is_ok(), "the fields before are complete: {end}");
            } else {
                assert_eq!(outcome, Err(MessageError::Truncated), "{end}");
            }
        }
        assert_eq!(read(&[0x22, 0x7f, b'x']), Err(MessageError::Truncated));
        assert_eq!(read(&[0x08, 0xff]), Err(MessageError::Truncated));
    }

    #[test]
    fn invalid_protobuf_is_malformed() {
        let garbage: [&[u8]; 6] = [
            b"DATA_REQUEST",
            // Field number 0, wire types 6 and 7, a varint of eleven bytes, a total encoded as a varint.
            &[0x00, 0x00],
            &[0x0e],
            &[0x0f],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            &[0x10, 0x01],
        ];
        for bytes in garbage {
            assert_eq!(read(bytes), Err(MessageError::Malformed), "{bytes:x?}");
        }
    }

    #[test]
    fn datagram_longer_than_the_limit_is_refused() {
        let mut padded = WHOLE.to_vec();
        let rest = MAX_DATAGRAM - WHOLE.len() - 3;
        padded.extend([0x22, 0x80 | (rest & 0x7f) as u8, (rest >> 7) as u8]);
        padded.resize(MAX_DATAGRAM, b'x');
        assert_eq!(read(&padded), read(WHOLE), "an unknown field");
        padded.push(0);
        assert_eq!(read(&padded), Err(MessageError::Oversized));
    }

    #[test]
    fn impossible_numbers_are_refused() {
        for total in [f64::NAN, f64::INFINITY, -1.0, -f64::MIN_POSITIVE, 1e300] {
            let mut bytes = vec![0x11];
            bytes.extend(total.to_le_bytes());
            assert_eq!(read(&bytes), Err(MessageError::Implausible), "{total}");
        }
        for current in [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            1e30,
            f32::MAX,
            -5.1e6,
        ] {
            let mut bytes = vec![0x1d];
            bytes.extend(current.to_le_bytes());
            assert_eq!(read(&bytes), Err(MessageError::Implausible), "{current}");
        }
        // A sensor that is connected the wrong way round still measures.
        let mut bytes = vec![0x1d];
        bytes.extend((-5.0f32).to_le_bytes());
        assert_eq!(read(&bytes).unwrap().current, -5.0);
    }

    #[test]
    fn last_value_of_a_repeated_field_counts() {
        assert_eq!(read(&[0x08, 1, 0x08, 2]).unwrap().timestamp, 2);
    }
}
