//! The body of a request, read by hand: snappy's block format by its crate, protobuf by the encoding's own document
//! (protobuf.dev/programming-guides/encoding).

/// A message of either version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// Of 2.0.
    pub symbols: Vec<String>,
    pub series: Vec<Series>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    pub labels: Vec<(String, String)>,
    pub samples: Vec<Sample>,
    /// Of 2.0: the references as they came, and type, help and unit.
    pub refs: Vec<u64>,
    pub metadata: Option<(u64, u64, u64)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    pub bits: u64,
    pub stamp: i64,
    /// Of 2.0.
    pub start: i64,
}

impl Sample {
    pub fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }
}

impl Series {
    pub fn name(&self) -> &str {
        self.label("__name__").unwrap()
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        let label = self.labels.iter().find(|(n, _)| n == name);
        label.map(|(_, value)| value.as_str())
    }
}

impl Message {
    pub fn of(&self, name: &str) -> &Series {
        let found = self.series.iter().find(|series| series.name() == name);
        found.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

/// Decodes the message, and panics at anything outside the specification.
pub fn message(body: &[u8], second: bool) -> Message {
    let bytes = snap::raw::Decoder::new().decompress_vec(body).unwrap();
    let mut message = Message::default();
    for (tag, field) in fields(&bytes) {
        match (second, tag) {
            (false, 1) => message.series.push(first_series(field.bytes())),
            (true, 4) => message.symbols.push(text(field.bytes())),
            (true, 5) => message.series.push(second_series(field.bytes())),
            _ => panic!("field {tag}"),
        }
    }
    for series in &mut message.series {
        let symbol = |at: &u64| message.symbols[usize::try_from(*at).unwrap()].clone();
        for pair in series.refs.chunks(2) {
            series.labels.push((symbol(&pair[0]), symbol(&pair[1])));
        }
    }
    message
}

fn first_series(bytes: &[u8]) -> Series {
    let mut series = Series::default();
    for (tag, field) in fields(bytes) {
        match tag {
            1 => {
                let mut label = (String::new(), String::new());
                for (tag, field) in fields(field.bytes()) {
                    match tag {
                        1 => label.0 = text(field.bytes()),
                        2 => label.1 = text(field.bytes()),
                        _ => panic!("field {tag} of a label"),
                    }
                }
                series.labels.push(label);
            }
            2 => series.samples.push(sample(field.bytes(), 2)),
            _ => panic!("field {tag} of a series"),
        }
    }
    series
}

fn second_series(bytes: &[u8]) -> Series {
    let mut series = Series::default();
    for (tag, field) in fields(bytes) {
        match (tag, field) {
            (1, Field::Bytes(packed)) => {
                let mut rest = packed;
                while !rest.is_empty() {
                    series.refs.push(varint(&mut rest));
                }
            }
            (1, Field::Number(single)) => series.refs.push(single),
            (2, field) => series.samples.push(sample(field.bytes(), 3)),
            (5, field) => {
                let mut metadata = (0, 0, 0);
                for (tag, field) in fields(field.bytes()) {
                    match tag {
                        1 => metadata.0 = field.number(),
                        3 => metadata.1 = field.number(),
                        4 => metadata.2 = field.number(),
                        _ => panic!("field {tag} of metadata"),
                    }
                }
                series.metadata = Some(metadata);
            }
            (tag, _) => panic!("field {tag} of a series"),
        }
    }
    series
}

fn sample(bytes: &[u8], most: u64) -> Sample {
    let mut sample = Sample::default();
    for (tag, field) in fields(bytes) {
        assert!(tag <= most, "field {tag} of a sample");
        match tag {
            1 => sample.bits = field.number(),
            2 => sample.stamp = field.number() as i64,
            _ => sample.start = field.number() as i64,
        }
    }
    sample
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[derive(Debug, Clone, Copy)]
enum Field<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

impl<'b> Field<'b> {
    fn number(self) -> u64 {
        match self {
            Field::Number(number) => number,
            Field::Bytes(_) => panic!("not a number"),
        }
    }

    fn bytes(self) -> &'b [u8] {
        match self {
            Field::Bytes(bytes) => bytes,
            Field::Number(_) => panic!("not of a length"),
        }
    }
}

fn fields(bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut rest = bytes;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut rest)),
            1 => {
                let (number, after) = rest.split_at(8);
                rest = after;
                Field::Number(u64::from_le_bytes(number.try_into().unwrap()))
            }
            2 => {
                let length = usize::try_from(varint(&mut rest)).unwrap();
                let (inner, after) = rest.split_at(length);
                rest = after;
                Field::Bytes(inner)
            }
            kind => panic!("wire type {kind}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in 0..10 {
        let (byte, after) = rest.split_first().unwrap();
        *rest = after;
        number |= u64::from(byte & 0x7f) << (7 * shift);
        if byte & 0x80 == 0 {
            return number;
        }
    }
    panic!("a number without end");
}
