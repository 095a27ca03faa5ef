//! The messages of etcd's JSON gateway: requests and responses. Pure.
//!
//! They are etcd's `rpc.proto` as grpc-gateway maps it to JSON: keys and values in base64, 64-bit numbers as text, and empty
//! or zero fields left out.

use base64::prelude::{Engine, BASE64_STANDARD};
use serde_json::{json, Map, Value};

use crate::config::Secret;

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key. Those of config-server are text.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// etcd's revision when the value was put (`mod_revision`): never 0, and different for every change.
    pub revision: u64,
}

/// The response to a range request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeResponse {
    /// Keys and values, sorted by key.
    pub pairs: Vec<KeyValue>,
    /// Whether there are more than the limit of the request.
    pub more: bool,
    /// The number of keys in the range.
    pub count: u64,
    /// etcd's revision at the time of the response.
    pub revision: u64,
}

/// A message of a watch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchResponse {
    /// The changes, in order.
    pub events: Vec<Event>,
    /// etcd's revision at the time of the message.
    pub revision: u64,
    /// The index of the watch in its stream, from 0.
    pub watch: u64,
    /// The watch was created.
    pub created: bool,
    /// The watch was ended by etcd: its first revision was compacted, or the user may not read the keys.
    pub canceled: bool,
}

/// A change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The key and value. The value of a deleted key is empty.
    pub pair: KeyValue,
    /// Whether the key was deleted.
    pub deleted: bool,
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// A login request.
pub(super) fn authenticate(name: &str, password: &str) -> Value {
    json!({"name": name, "password": password})
}

/// Parses the token in the response to a login.
pub fn parse_token(answer: &[u8]) -> Result<Secret, String> {
    let answer: Value = serde_json::from_slice(answer).map_err(|e| e.to_string())?;
    let token = answer.get("token").and_then(Value::as_str);
    match token {
        Some(token) if !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Secret::new(token))
        }
        _ => Err("there is no token in it".into()),
    }
}

/// A range request for one key.
pub(super) fn get(key: &str) -> Value {
    json!({"key": encoded(key)})
}

/// A range request for at most `limit` keys that begin with `prefix` and follow the key `after`.
pub(super) fn range(prefix: &str, after: Option<&[u8]>, limit: usize) -> Value {
    let from = match after {
        // The smallest key that is greater.
        Some(key) => [key, b"\0"].concat(),
        None => prefix.as_bytes().to_vec(),
    };
    json!({"key": encoded(from), "range_end": encoded(end_of(prefix)), "limit": limit.to_string()})
}

/// A request to watch the keys that begin with `prefix`, from a revision on.
pub(super) fn watch(prefix: &str, from: u64) -> Value {
    json!({"create_request": {
        "key": encoded(prefix),
        "range_end": encoded(end_of(prefix)),
        "start_revision": from.to_string(),
    }})
}

/// A request for the number of keys that begin with `prefix`.
pub(super) fn count(prefix: &str) -> Value {
    json!({"key": encoded(prefix), "range_end": encoded(end_of(prefix)), "count_only": true})
}

/// A request for the key that was put last of those that begin with `prefix`, without its value, and for their number.
pub(super) fn newest(prefix: &str) -> Value {
    json!({
        "key": encoded(prefix),
        "range_end": encoded(end_of(prefix)),
        "limit": "1",
        "sort_order": "DESCEND",
        "sort_target": "MOD",
        "keys_only": true,
    })
}

/// The end of the range of keys that begin with `prefix`: the first greater key that does not.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// A request to put a value, whatever the key has.
pub(super) fn put(key: &str, value: &str) -> Value {
    json!({"key": encoded(key), "value": encoded(value)})
}

/// The operation of a transaction that puts a value.
pub(super) fn put_operation(key: &str, value: &[u8]) -> Value {
    json!({"request_put": {"key": encoded(key), "value": encoded(value)}})
}

/// The operation of a transaction that deletes a key.
pub(super) fn delete_operation(key: &str) -> Value {
    json!({"request_delete_range": {"key": encoded(key)}})
}

/// The operation of a transaction that deletes all keys that begin with `prefix`.
pub(super) fn delete_all_operation(prefix: &str) -> Value {
    json!({"request_delete_range": {"key": encoded(prefix), "range_end": encoded(end_of(prefix))}})
}

/// A comparison of a transaction: the key still has this revision (0: it does not exist).
pub(super) fn comparison(key: &str, revision: u64) -> Value {
    json!({
        "key": encoded(key),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": revision.to_string(),
    })
}

/// A transaction that does all operations if all comparisons hold.
pub(super) fn transaction(comparisons: Vec<Value>, operations: Vec<Value>) -> Value {
    json!({"compare": comparisons, "success": operations})
}

/// A transaction that puts or deletes (`None`) a value if the key still has this revision (0: the key does not exist). A
/// deletion also deletes the key `also_delete`.
pub(super) fn compare_and_swap(
    key: &str,
    revision: u64,
    value: Option<&str>,
    also_delete: Option<&str>,
) -> Value {
    transaction(
        vec![comparison(key, revision)],
        swap_operations(key, value, also_delete),
    )
}

/// The operations of a transaction that put or delete a value, as [`compare_and_swap`] does.
pub(super) fn swap_operations(
    key: &str,
    value: Option<&str>,
    also_delete: Option<&str>,
) -> Vec<Value> {
    match value {
        Some(value) => vec![put_operation(key, value.as_bytes())],
        None => [key]
            .into_iter()
            .chain(also_delete)
            .map(delete_operation)
            .collect(),
    }
}

/// Parses the response to a range request.
pub fn parse_range(answer: &[u8]) -> Result<RangeResponse, String> {
    let answer = object(answer)?;
    let mut pairs = Vec::new();
    for found in list(&answer, "kvs")? {
        pairs.push(pair(found)?);
    }
    Ok(RangeResponse {
        pairs,
        more: answer.get("more") == Some(&Value::Bool(true)),
        count: number(answer.get("count"))?,
        revision: revision(&answer)?,
    })
}

/// Parses one line of a watch's stream.
pub fn parse_watch(line: &[u8]) -> Result<WatchResponse, String> {
    let line: Value = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let Some(Value::Object(result)) = line.get("result") else {
        return Err(match line.get("error") {
            Some(error) => parse_error(error.to_string().as_bytes()),
            None => "no `result`".to_string(),
        });
    };
    let is = |key: &str| result.get(key) == Some(&Value::Bool(true));
    let mut events = Vec::new();
    for event in list(result, "events")? {
        let kv = event.get("kv").ok_or("an event without `kv`")?;
        events.push(Event {
            pair: pair(kv)?,
            deleted: event.get("type").and_then(Value::as_str) == Some("DELETE"),
        });
    }
    Ok(WatchResponse {
        events,
        revision: revision(result)?,
        watch: number(result.get("watch_id"))?,
        created: is("created"),
        canceled: is("canceled"),
    })
}

fn list<'a>(answer: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], String> {
    match answer.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(found)) => Ok(found),
        Some(_) => Err(format!("`{key}` is no list")),
    }
}

fn pair(found: &Value) -> Result<KeyValue, String> {
    let revision = number(found.get("mod_revision"))?;
    if revision == 0 {
        return Err("a key without mod_revision".to_string());
    }
    Ok(KeyValue {
        key: bytes(found.get("key"))?,
        value: bytes(found.get("value"))?,
        revision,
    })
}

fn revision(answer: &Map<String, Value>) -> Result<u64, String> {
    number(
        answer
            .get("header")
            .and_then(|header| header.get("revision")),
    )
}

/// Parses the response to a compare-and-swap: whether it was done.
pub fn parse_swap(answer: &[u8]) -> Result<bool, String> {
    Ok(parse_transaction(answer)?.is_some())
}

/// Parses the response to a transaction: the revision of what was put; `None`: a comparison did not hold.
pub(super) fn parse_transaction(answer: &[u8]) -> Result<Option<u64>, String> {
    let answer = object(answer)?;
    match answer.get("succeeded") {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(Value::Bool(true)) => Ok(Some(revision(&answer)?)),
        Some(_) => Err("`succeeded` is neither true nor false".to_string()),
    }
}

/// The message of an error response, shortened.
pub fn parse_error(answer: &[u8]) -> String {
    const MAX_CHARS: usize = 200;
    let text = match serde_json::from_slice::<Value>(answer) {
        Ok(answer) => ["message", "error"]
            .iter()
            .find_map(|key| answer.get(*key)?.as_str().map(str::to_string)),
        Err(_) => None,
    };
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(answer).into_owned());
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_CHARS)
        .collect()
}

/// Parses a response object. etcd's responses have a header with a revision, which those of other programs at the address
/// lack.
fn object(answer: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(answer) {
        Ok(Value::Object(object)) if object.get("header").is_some_and(Value::is_object) => {
            Ok(object)
        }
        Ok(_) => Err("no object with a header".to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn bytes(value: Option<&Value>) -> Result<Vec<u8>, String> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => BASE64_STANDARD
            .decode(text)
            .map_err(|e| format!("base64: {e}")),
        Some(_) => Err("a key or value that is no text".to_string()),
    }
}

fn number(value: Option<&Value>) -> Result<u64, String> {
    match value {
        None => Ok(0),
        Some(Value::String(text)) => text.parse().map_err(|_| format!("the number {text:?}")),
        Some(value) => value.as_u64().ok_or_else(|| format!("the number {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Responses of etcd 3.4.23.
    #[test]
    fn responses_are_parsed() {
        let range = br#"{"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437","revision":"3","raft_term":"2"},"kvs":[{"key":"L2EvYg==","create_revision":"2","mod_revision":"3","version":"2","value":"eDogMQo="},{"key":"L2EvYw==","mod_revision":"2"}],"more":true,"count":"5"}"#;
        let range = parse_range(range).unwrap();
        assert_eq!((range.more, range.count), (true, 5));
        let pair = |key: &str, value: &str, revision| KeyValue {
            key: key.into(),
            value: value.into(),
            revision,
        };
        assert_eq!(
            range.pairs,
            [pair("/a/b", "x: 1\n", 3), pair("/a/c", "", 2)]
        );
        assert_eq!(
            parse_range(br#"{"header":{"revision":"3"}}"#),
            Ok(RangeResponse {
                revision: 3,
                ..RangeResponse::default()
            })
        );
        assert_eq!(
            parse_swap(br#"{"header":{"revision":"3"},"succeeded":true,"responses":[]}"#),
            Ok(true)
        );
        assert_eq!(parse_swap(br#"{"header":{"revision":"3"}}"#), Ok(false));
        assert_eq!(
            parse_error(
                br#"{"error":"etcdserver: no leader","message":"etcdserver: no leader","code":14}"#
            ),
            "etcdserver: no leader"
        );
        assert_eq!(parse_error(b"404 page\nnot found"), "404 pagenot found");
    }

    /// Lines of etcd 3.4.23.
    #[test]
    fn watch_messages_are_parsed() {
        let created = br#"{"result":{"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437","revision":"3","raft_term":"2"},"created":true}}"#;
        let created = parse_watch(created).unwrap();
        assert_eq!((created.created, created.revision), (true, 3));
        let events = br#"{"result":{"header":{"revision":"5"},"events":[{"kv":{"key":"L2EvYg==","create_revision":"4","mod_revision":"4","version":"1","value":"eDogMQo="}},{"type":"DELETE","kv":{"key":"L2EvYg==","mod_revision":"5"}}]}}"#;
        let events = parse_watch(events).unwrap();
        let of = |event: &Event| (event.pair.revision, event.deleted, event.pair.value.clone());
        let found: Vec<_> = events.events.iter().map(of).collect();
        assert_eq!(
            found,
            [(4, false, b"x: 1\n".to_vec()), (5, true, Vec::new())]
        );
        let lost =
            br#"{"result":{"header":{"revision":"9"},"canceled":true,"compact_revision":"7"}}"#;
        assert!(parse_watch(lost).unwrap().canceled);
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"result":5}"#,
            r#"{"result":{"events":5}}"#,
            r#"{"result":{"events":[{}]}}"#,
            r#"{"result":{"header":{"revision":"x"}}}"#,
            r#"{"error":{"message":"no"}}"#,
        ] {
            assert!(parse_watch(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn token_must_fit_in_a_header() {
        let token = parse_token(br#"{"header":{"revision":"1"},"token":"DhRvXkWhOkpnQhBQ.12"}"#);
        assert_eq!(token.unwrap().reveal(), "DhRvXkWhOkpnQhBQ.12");
        for bad in [
            "",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":5}"#,
            r#"{"token":"a\r\nb"}"#,
        ] {
            assert!(parse_token(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn malformed_responses_are_refused() {
        for bad in [
            "",
            "[]",
            "1",
            "{",
            "{}",
            r#"{"kvs":5}"#,
            r#"{"kvs":[5]}"#,
            r#"{"kvs":[{"key":"L2E="}]}"#,
            r#"{"kvs":[{"key":"!","mod_revision":"1"}]}"#,
            r#"{"kvs":[{"key":5,"mod_revision":"1"}]}"#,
            r#"{"kvs":[{"mod_revision":"-1"}]}"#,
            r#"{"count":-1}"#,
            r#"{"count":1.5}"#,
        ] {
            assert!(parse_range(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse_swap(br#"{"succeeded":"true"}"#).is_err());
    }

    #[test]
    fn range_of_a_prefix_ends_at_the_next_prefix() {
        assert_eq!(end_of("/a/"), b"/a0");
        assert_eq!(end_of("a\u{7f}"), b"a\x80");
        assert_eq!(end_of(""), [0]);
        assert_eq!(range("/a/", Some(b"/a/b"), 7)["key"], encoded("/a/b\0"));
        assert_eq!(
            compare_and_swap("k", 0, None, Some("n"))["compare"][0]["mod_revision"],
            "0"
        );
    }
}
