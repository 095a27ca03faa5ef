//! Parsing a device's answer as JSON.

use std::borrow::Cow;

use serde_json::Value;

/// The deepest nesting: the stack of a source's thread has room for much more. Redfish's answers have some ten levels.
const MAX_DEPTH: usize = 32;

/// Parses an answer of a limited size. Numbers that are none (`nan`, which old
/// Tasmota writes without quotes, although JSON has no such word) are read as `null`.
pub(super) fn parse(body: &[u8]) -> Result<Value, String> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if depth(body) > MAX_DEPTH {
        return Err(format!("the answer nests deeper than {MAX_DEPTH} levels"));
    }
    let parsed = serde_json::from_slice(body).or_else(|error| match without_nan(body) {
        Cow::Owned(body) => serde_json::from_slice(&body),
        Cow::Borrowed(_) => Err(error),
    });
    let error = match parsed {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    Err(if error.is_eof() {
        "the answer breaks off".to_string()
    } else if body.trim_ascii_start().starts_with(b"<") {
        "the answer is a page for people (HTML), and no JSON".to_string()
    } else {
        format!("the answer is not JSON ({error})")
    })
}

/// Members that say where a device is, or what its owner called it.
const PERSONAL: [&str; 9] = [
    "alias",
    "nickname",
    "ssid",
    "ip",
    "latitude",
    "longitude",
    "latitude_i",
    "longitude_i",
    "avatar",
];

/// The answer as it is recorded: without the members that are nobody's business. What is no JSON stays as it is.
pub(super) fn without_personal(body: Vec<u8>) -> Vec<u8> {
    fn remove(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.retain(|key, _| !PERSONAL.contains(&key.as_str()));
                members.values_mut().for_each(remove);
            }
            Value::Array(items) => items.iter_mut().for_each(remove),
            _ => {}
        }
    }
    match parse(&body) {
        Ok(mut value) => {
            remove(&mut value);
            value.to_string().into_bytes()
        }
        Err(_) => body,
    }
}

/// How many lists and objects are open at once at most. Closing ones that were never opened count for nothing: what comes after
/// them is no JSON.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut most) = (0usize, 0);
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = end_of_string(text, at);
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
        at += 1;
    }
    most
}

/// The text with `null` in place of each `nan`, `inf` and the like that stands outside of quotes.
fn without_nan(text: &[u8]) -> Cow<'_, [u8]> {
    let mut changed: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at),
            b'-' | b'+' | b'a'..=b'z' | b'A'..=b'Z' => {
                let rest = text.get(at..).unwrap_or_default();
                let is_in_word = |b: &&u8| b.is_ascii_alphanumeric() || b"+-.".contains(*b);
                let length = rest.iter().take_while(is_in_word).count().max(1);
                let word = rest.get(..length).unwrap_or_default();
                let letters = word
                    .strip_prefix(b"-")
                    .or(word.strip_prefix(b"+"))
                    .unwrap_or(word);
                if [&b"nan"[..], b"inf", b"infinity"]
                    .iter()
                    .any(|w| letters.eq_ignore_ascii_case(w))
                {
                    let changed = changed.get_or_insert_with(|| Vec::with_capacity(text.len()));
                    changed.extend_from_slice(text.get(copied..at).unwrap_or_default());
                    changed.extend_from_slice(b"null");
                    copied = at + length;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    match changed {
        Some(mut changed) => {
            changed.extend_from_slice(text.get(copied..).unwrap_or_default());
            Cow::Owned(changed)
        }
        None => Cow::Borrowed(text),
    }
}

/// The index after the string that begins at `start`.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_that_are_none_are_read_as_null() {
        for (text, value) in [
            (
                r#"{"Temperature": nan, "Humidity":nan}"#,
                json!({"Temperature": null, "Humidity": null}),
            ),
            (
                r#"[NaN,-nan,inf,-Infinity,1]"#,
                json!([null, null, null, null, 1]),
            ),
            (
                r#"{"nan": "nan", "a\"nan": nan}"#,
                json!({"nan": "nan", "a\"nan": null}),
            ),
            (
                "\u{feff}{\"a\": true, \"b\": -1.5e-3}",
                json!({"a": true, "b": -1.5e-3}),
            ),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(value), "{text}");
        }
    }

    #[test]
    fn recorded_answer_has_no_names_and_places() {
        let text = r#"{"system":{"get_sysinfo":{"alias":"Küche","model":"HS110","children":[{"id":"00","alias":"x"}],"latitude_i":1}}}"#;
        let left = without_personal(text.as_bytes().to_vec());
        let wanted = r#"{"system":{"get_sysinfo":{"model":"HS110","children":[{"id":"00"}]}}}"#;
        assert_eq!(left, wanted.as_bytes());
        assert_eq!(without_personal(b"{\"alias\":".to_vec()), b"{\"alias\":");
    }

    #[test]
    fn brackets_in_strings_are_no_nesting() {
        let text = format!(
            r#"{{"a": "{}", "b": [{}1{}]}}"#,
            "[".repeat(500),
            "[".repeat(30),
            "]".repeat(30)
        );
        assert_eq!(depth(text.as_bytes()), 32);
        assert!(parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn other_text_is_refused_with_the_reason() {
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        for (text, why) in [
            ("", "breaks off"),
            (r#"{"a": 1"#, "breaks off"),
            ("\n<!DOCTYPE html>", "HTML"),
            ("hello", "not JSON"),
            ("{nan}", "not JSON"),
            ("nano", "not JSON"),
            ("[nan, \"", "breaks off"),
            ("\"\\", "breaks off"),
            (deep.as_str(), "nests deeper than 32"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(
                error.contains(why) && error.len() < 100,
                "{text:.20}: {error}"
            );
        }
    }
}
