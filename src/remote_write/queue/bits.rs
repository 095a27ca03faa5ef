//! A row of bits, the highest of a byte first.

/// Bits being written behind bytes.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits of the last byte that are not used yet.
    free: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> BitWriter<'a> {
        BitWriter { out, free: 0 }
    }

    /// Appends the lowest `count` bits, 64 at most.
    pub(super) fn put(&mut self, bits: u64, mut count: u32) {
        while count > 0 {
            if self.free == 0 {
                self.out.push(0);
                self.free = 8;
            }
            let now = count.min(self.free);
            let part = bits >> (count - now) & ((1 << now) - 1);
            if let Some(last) = self.out.last_mut() {
                *last |= (part as u8) << (self.free - now);
            }
            self.free -= now;
            count -= now;
        }
    }
}

/// Bits being read.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at: 0 }
    }

    /// The next `count` bits, 64 at most.
    pub(super) fn take(&mut self, mut count: u32) -> Option<u64> {
        let mut bits = 0;
        while count > 0 {
            let byte = *self.bytes.get(self.at / 8)?;
            let left = 8 - (self.at % 8) as u32;
            let now = count.min(left);
            let part = u64::from(byte) >> (left - now) & ((1 << now) - 1);
            bits = bits << now | part;
            self.at += now as usize;
            count -= now;
        }
        Some(bits)
    }

    /// How many ones are next, up to `most`; and passes over the zero behind fewer than that.
    pub(super) fn ones(&mut self, most: u32) -> Option<u32> {
        let mut ones = 0;
        loop {
            let byte = *self.bytes.get(self.at / 8)?;
            let used = (self.at % 8) as u32;
            let run = (byte << used).leading_ones().min(most - ones);
            self.at += run as usize;
            ones += run;
            if ones == most {
                return Some(ones);
            }
            if run < 8 - used {
                self.at += 1;
                return Some(ones);
            }
        }
    }

    /// Bytes of which at least a bit was taken.
    pub(super) fn bytes_taken(&self) -> usize {
        self.at.div_ceil(8)
    }
}
