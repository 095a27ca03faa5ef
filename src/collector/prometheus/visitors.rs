//! Reads the JSON of an answer with serde visitors, so that nothing but the wanted labels and values is kept.

use std::cell::Cell;
use std::fmt;
use std::io::Read;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{excerpt, Error, Series, MAX_LABEL, MAX_SERIES};

/// An answer, of success or of an error.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) status: String,
    /// `errorType`.
    pub(super) kind: String,
    pub(super) error: String,
    pub(super) series: Option<Vec<Series>>,
}

/// Reads an answer. serde's errors are for invalid JSON; an error of the answer's shape is stored in [`Reader::error`].
pub(super) fn read(from: impl Read, wanted: &'static [&'static str]) -> Result<Answer, Error> {
    let shape_error = Cell::new(None);
    let reader = Reader {
        wanted,
        error: &shape_error,
    };
    let mut json = serde_json::Deserializer::from_reader(from);
    let read = json.deserialize_any(Envelope(reader));
    let read = read.and_then(|answer| json.end().map(|()| answer));
    read.map_err(|error| shape_error.take().unwrap_or(Error::Json(error)))
}

/// What all visitors share.
#[derive(Clone, Copy)]
struct Reader<'t> {
    wanted: &'static [&'static str],
    /// The error, if valid JSON is not an answer of Prometheus.
    error: &'t Cell<Option<Error>>,
}

impl Reader<'_> {
    fn fail<T, E: de::Error>(self, error: Error) -> Result<T, E> {
        self.error.set(Some(error));
        Err(E::custom("not an answer"))
    }
}

/// A visitor that is its own seed.
macro_rules! seed {
    ($name:ty, $value:ty) => {
        impl<'de> DeserializeSeed<'de> for $name {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<$value, D::Error> {
                from.deserialize_any(self)
            }
        }
    };
}

/// The top-level object.
struct Envelope<'t>(Reader<'t>);

impl<'de> Visitor<'de> for Envelope<'_> {
    type Value = Answer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Answer, A::Error> {
        let mut answer = Answer::default();
        while let Some(key) = map.next_key_seed(Key(&["status", "errorType", "error", "data"]))? {
            match key {
                Some("status") => answer.status = map.next_value_seed(Text)?,
                Some("errorType") => answer.kind = map.next_value_seed(Text)?,
                Some("error") => answer.error = map.next_value_seed(Text)?,
                Some(_) => answer.series = map.next_value_seed(Data(self.0))?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(answer)
    }
}

/// The object `data`.
struct Data<'t>(Reader<'t>);
seed!(Data<'_>, Option<Vec<Series>>);

impl<'de> Visitor<'de> for Data<'_> {
    type Value = Option<Vec<Series>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("data")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut series = None;
        while let Some(key) = map.next_key_seed(Key(&["result"]))? {
            match key {
                Some(_) => series = Some(map.next_value_seed(Results(self.0))?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(series)
    }
}

/// The list `result`: series, or the two parts of a scalar.
struct Results<'t>(Reader<'t>);
seed!(Results<'_>, Vec<Series>);

/// An item of `result`, or of a sample.
enum Item {
    Series(Option<Series>),
    Time(f64),
    Value(f64),
}

impl<'de> Visitor<'de> for Results<'_> {
    type Value = Vec<Series>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of series")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Series>, A::Error> {
        let mut all = Vec::new();
        let (mut time, mut is_scalar) = (None, false);
        while let Some(item) = seq.next_element_seed(OneItem(self.0))? {
            match (item, time.take()) {
                (Item::Series(Some(_)), None) if all.len() >= MAX_SERIES => {
                    return self.0.fail(Error::TooMany);
                }
                (Item::Series(series), None) if !is_scalar => all.extend(series),
                (Item::Time(at), None) if all.is_empty() => time = Some(at),
                (Item::Value(value), Some(at)) => {
                    is_scalar = true;
                    all.push(Series {
                        labels: Vec::new(),
                        at,
                        value,
                    });
                }
                _ => return self.0.fail(Error::Shape("neither a vector nor a scalar")),
            }
        }
        match time {
            None => Ok(all),
            Some(_) => self.0.fail(Error::Shape("a time without a value")),
        }
    }
}

struct OneItem<'t>(Reader<'t>);
seed!(OneItem<'_>, Item);

impl<'de> Visitor<'de> for OneItem<'_> {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a series")
    }

    fn visit_u64<E>(self, time: u64) -> Result<Item, E> {
        Ok(Item::Time(time as f64))
    }

    fn visit_i64<E>(self, time: i64) -> Result<Item, E> {
        Ok(Item::Time(time as f64))
    }

    fn visit_f64<E>(self, time: f64) -> Result<Item, E> {
        Ok(Item::Time(time))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Item, E> {
        match text.parse() {
            Ok(value) => Ok(Item::Value(value)),
            Err(_) => self.0.fail(Error::Shape("a value is no number")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        let mut labels = None;
        let mut sample = None;
        let mut is_histogram = false;
        while let Some(key) = map.next_key_seed(Key(&["metric", "value", "values", "histogram"]))? {
            match key {
                Some("metric") => labels = Some(map.next_value_seed(Labels(self.0))?),
                Some("value") => sample = Some(map.next_value_seed(Sample(self.0))?),
                Some("values") => return self.0.fail(Error::Shape("a series over time")),
                Some(_) => {
                    is_histogram = true;
                    map.next_value::<IgnoredAny>()?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match (labels, sample) {
            (Some(labels), Some((at, value))) => {
                Ok(Item::Series(Some(Series { labels, at, value })))
            }
            (Some(_), None) if is_histogram => Ok(Item::Series(None)),
            _ => self
                .0
                .fail(Error::Shape("a series without metric or value")),
        }
    }
}

/// `[1435781451.781, "1"]`.
struct Sample<'t>(Reader<'t>);
seed!(Sample<'_>, (f64, f64));

impl<'de> Visitor<'de> for Sample<'_> {
    type Value = (f64, f64);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("time and value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(f64, f64), A::Error> {
        let mut next = || seq.next_element_seed(OneItem(self.0));
        match (next()?, next()?, next()?) {
            (Some(Item::Time(at)), Some(Item::Value(value)), None) => Ok((at, value)),
            _ => self.0.fail(Error::Shape("a value is not time and text")),
        }
    }
}

/// The object `metric`.
struct Labels<'t>(Reader<'t>);
seed!(Labels<'_>, Vec<(&'static str, Box<str>)>);

impl<'de> Visitor<'de> for Labels<'_> {
    type Value = Vec<(&'static str, Box<str>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut labels: Self::Value = Vec::new();
        while let Some(key) = map.next_key_seed(Key(self.0.wanted))? {
            let Some(name) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value_seed(Label)?;
            labels.retain(|(known, _)| *known != name);
            labels.extend(value.map(|value| (name, value)));
        }
        Ok(labels)
    }
}

/// The value of a wanted label; `None` if it is empty or too long.
struct Label;
seed!(Label, Option<Box<str>>);

impl<'de> Visitor<'de> for Label {
    type Value = Option<Box<str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let kept = !text.is_empty() && text.len() <= MAX_LABEL;
        Ok(kept.then(|| text.into()))
    }
}

/// A text from Prometheus for an error message.
struct Text;
seed!(Text, String);

impl<'de> Visitor<'de> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(excerpt(text))
    }
}

/// The key of a member, if it is one of these.
struct Key(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|known| **known == key).copied())
    }
}
