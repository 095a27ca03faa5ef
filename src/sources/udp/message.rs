//! The message of `proto/powermeasurement.proto`, and what is refused of what comes in its place. Pure.

use std::fmt;

use prost::Message;

use crate::metrics::plausible::AMPERES;

/// The longest datagram that is read, in bytes: the buffer of the original exporter. A message of known fields has at
/// most 25; the rest is for fields that a later device may add.
pub const MAX_DATAGRAM: usize = 1024;
/// Beyond 2^53 a double does not hold every whole number: a counter of milliampere-seconds cannot have come there.
const MOST_ENERGY: f64 = 9_007_199_254_740_992.0;

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

/// Why a datagram is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is longer than [`MAX_DATAGRAM`].
    Oversized,
    /// It ends within a field.
    Truncated,
    /// It is no protobuf, or not of these types.
    Malformed,
    /// The numbers cannot be: a current that nothing has, or a total below zero.
    Implausible,
}

impl Refused {
    /// The word it is counted under.
    pub fn kind(self) -> &'static str {
        match self {
            Refused::Oversized => "oversized",
            Refused::Truncated => "truncated",
            Refused::Malformed => "malformed",
            Refused::Implausible => "implausible",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl std::error::Error for Refused {}

impl PowerMeasurement {
    /// Reads one datagram. Fields that are not known are passed over, of a field that stands there twice the last one
    /// counts (protobuf.dev, "Encoding").
    pub fn from_datagram(datagram: &[u8]) -> Result<PowerMeasurement, Refused> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(Refused::Oversized);
        }
        let message = PowerMeasurement::decode(datagram).map_err(|_| {
            if ends_within_a_field(datagram) {
                Refused::Truncated
            } else {
                Refused::Malformed
            }
        })?;
        let total = message.energy_consumption;
        let amperes = f64::from(message.current) / 1000.0;
        if AMPERES.contains(amperes) && (0.0..=MOST_ENERGY).contains(&total) {
            Ok(message)
        } else {
            Err(Refused::Implausible)
        }
    }

    /// The datagram of this message.
    pub fn to_datagram(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Whether all of it is zero: the device has not measured yet.
    pub fn is_nothing(&self) -> bool {
        *self == PowerMeasurement::default()
    }
}

/// Whether these bytes are whole fields and then the beginning of one (protobuf.dev, "Encoding").
fn ends_within_a_field(mut rest: &[u8]) -> bool {
    loop {
        if rest.is_empty() {
            return false;
        }
        let tag = match varint(&mut rest) {
            Varint::Whole(tag) => tag,
            end => return matches!(end, Varint::Ended),
        };
        let skip = match tag & 7 {
            0 => match varint(&mut rest) {
                Varint::Whole(_) => 0,
                end => return matches!(end, Varint::Ended),
            },
            1 => 8,
            2 => match varint(&mut rest) {
                Varint::Whole(length) => length,
                end => return matches!(end, Varint::Ended),
            },
            5 => 4,
            // Groups, which proto3 does not have, and what is no wire type.
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
    /// The bytes came to an end.
    Ended,
    /// Longer than ten bytes.
    Endless,
}

fn varint(bytes: &mut &[u8]) -> Varint {
    let mut value = 0;
    for place in 0..10 {
        let Some((byte, after)) = bytes.split_first() else {
            return Varint::Ended;
        };
        *bytes = after;
        value |= u64::from(byte & 0x7f) << (7 * place).min(63);
        if byte & 0x80 == 0 {
            return Varint::Whole(value);
        }
    }
    Varint::Endless
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Timestamp 1, 304000 mAs, 1600 mA, as the original device's library packs it.
    const WHOLE: &[u8] = &[
        0x08, 0x01, 0x11, 0, 0, 0, 0, 0, 0x8e, 0x12, 0x41, 0x1d, 0, 0, 0xc8, 0x44,
    ];

    fn read(bytes: &[u8]) -> Result<PowerMeasurement, Refused> {
        PowerMeasurement::from_datagram(bytes)
    }

    #[test]
    fn a_message_is_these_bytes_and_no_others() {
        let message = PowerMeasurement {
            timestamp: 1,
            energy_consumption: 304_000.0,
            current: 1600.0,
        };
        assert_eq!(read(WHOLE), Ok(message));
        assert_eq!(message.to_datagram(), WHOLE);
    }

    #[test]
    fn no_bytes_are_a_message_of_zeros() {
        let message = read(b"").unwrap();
        assert!(message.is_nothing());
        assert_eq!(message.to_datagram(), b"");
        assert!(!read(&[0x08, 0x01]).unwrap().is_nothing());
    }

    #[test]
    fn what_ends_within_a_field_is_truncated_wherever_it_ends() {
        for end in 1..WHOLE.len() {
            let outcome = read(&WHOLE[..end]);
            if [2, 11].contains(&end) {
                assert!(outcome.is_ok(), "the fields before are whole: {end}");
            } else {
                assert_eq!(outcome, Err(Refused::Truncated), "{end}");
            }
        }
        assert_eq!(read(&[0x22, 0x7f, b'x']), Err(Refused::Truncated));
        assert_eq!(read(&[0x08, 0xff]), Err(Refused::Truncated));
    }

    #[test]
    fn what_is_no_protobuf_is_malformed() {
        let garbage: [&[u8]; 6] = [
            b"DATA_REQUEST",
            // Field number 0, wire types 6 and 7, a varint of eleven bytes, a total that is said to be a varint.
            &[0x00, 0x00],
            &[0x0e],
            &[0x0f],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            &[0x10, 0x01],
        ];
        for bytes in garbage {
            assert_eq!(read(bytes), Err(Refused::Malformed), "{bytes:x?}");
        }
    }

    #[test]
    fn a_longer_datagram_than_a_message_can_be_is_refused() {
        let mut padded = WHOLE.to_vec();
        let rest = MAX_DATAGRAM - WHOLE.len() - 3;
        padded.extend([0x22, 0x80 | (rest & 0x7f) as u8, (rest >> 7) as u8]);
        padded.resize(MAX_DATAGRAM, b'x');
        assert_eq!(read(&padded), read(WHOLE), "a field that is not known");
        padded.push(0);
        assert_eq!(read(&padded), Err(Refused::Oversized));
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        for total in [f64::NAN, f64::INFINITY, -1.0, -f64::MIN_POSITIVE, 1e300] {
            let mut bytes = vec![0x11];
            bytes.extend(total.to_le_bytes());
            assert_eq!(read(&bytes), Err(Refused::Implausible), "{total}");
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
            assert_eq!(read(&bytes), Err(Refused::Implausible), "{current}");
        }
        // A sensor turned around: it measures all the same.
        let mut bytes = vec![0x1d];
        bytes.extend((-5.0f32).to_le_bytes());
        assert_eq!(read(&bytes).unwrap().current, -5.0);
    }

    #[test]
    fn of_a_field_that_stands_there_twice_the_last_counts() {
        assert_eq!(read(&[0x08, 1, 0x08, 2]).unwrap().timestamp, 2);
    }
}
