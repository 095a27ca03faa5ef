//! Numbers and text as bytes: variable-length integers, and a reader that never goes beyond what there is.

/// Appends a number, seven bits a byte, the lowest first; the last byte has no high bit (LEB128).
pub(in crate::remote_write) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a number of either sign: those near zero are short.
pub(super) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, zigzag(number));
}

/// 0, -1, 1, -2, … as 0, 1, 2, 3, ….
pub(super) fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

/// The inverse of [`zigzag`].
pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Appends text with its length before it.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Reads values from front to back. A value that is missing or too long is `None`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A count: `None` if it is more than `max`.
    pub(super) fn count(&mut self, max: usize) -> Option<usize> {
        let number = usize::try_from(self.number()?).ok()?;
        (number <= max).then_some(number)
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        self.number().map(unzigzag)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.count(self.rest.len())?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_those_near_zero_are_short() {
        let some = [0, 1, -1, 63, -64, 64, 1 << 20, i64::MAX, i64::MIN];
        let mut out = Vec::new();
        some.iter().for_each(|number| put_signed(&mut out, *number));
        assert_eq!(out.len(), 5 + 2 + 4 + 10 + 10);
        put_number(&mut out, u64::MAX);
        put_text(&mut out, "µJ");
        let mut reader = Reader::new(&out);
        for number in some {
            assert_eq!(reader.signed(), Some(number));
        }
        assert_eq!(reader.number(), Some(u64::MAX));
        assert_eq!(reader.text(), Some("µJ"));
        assert_eq!(reader.byte(), None);
    }

    #[test]
    fn missing_and_oversized_values_are_none() {
        assert_eq!(Reader::new(&[0x80]).number(), None);
        assert_eq!(Reader::new(&[0xff; 10]).number(), None);
        let beyond_64_bits = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2];
        assert_eq!(Reader::new(&beyond_64_bits).number(), None);
        assert_eq!(Reader::new(&[5, b'a']).text(), None);
        assert_eq!(Reader::new(&[1, 0xff]).text(), None);
        assert_eq!(Reader::new(&[9]).count(8), None);
    }
}
