use super::SCHEMA;
use crate::config::{Document, MAX_SIZE};

fn json(text: &str) -> Document {
    Document::from_json(text.as_bytes()).unwrap()
}

fn shown(document: &Document) -> String {
    serde_json::to_string(document).unwrap()
}

#[test]
fn json_converts_to_yaml_and_back() {
    let text = concat!(
        r#"{"device_type":"jetson_orin","interval":0.5,"port":9100,"labels":true,"hostname":null,"#,
        r#""metrics":{"b":true,"a":false},"sources":["hwmon","thermal"],"shelly":{},"hwmon":{"power_total":[]}}"#
    );
    let document = json(text);
    assert_eq!(shown(&document), text);
    let yaml = document.to_yaml().unwrap();
    let again = Document::from_yaml(yaml.as_bytes()).unwrap();
    assert_eq!(shown(&again), text);
    assert!(yaml.contains("metrics:\n  b: true\n  a: false\n"), "{yaml}");
}

#[test]
fn any_text_is_preserved_in_yaml() {
    for hard in [
        "",
        " ",
        "~",
        "null",
        "true",
        "yes",
        "0x10",
        "1e3",
        "-",
        "- a",
        "a: b",
        "a #b",
        "#a",
        "'",
        "\"",
        "\\",
        "a\nb",
        "\n",
        " a",
        "a ",
        "\t",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "ü",
        "\u{1f600}",
        "!a",
        "&a",
        "*a",
        "%a",
        "@a",
        "`",
        "{",
        "[",
        "---",
        "...",
        "|",
        ">",
        "?",
        "=",
        "<<",
        "0o17",
        ".inf",
        "2001-01-01",
        "a\r\nb",
        "\r",
    ] {
        let mut document = json(r#"{"metrics": {}}"#);
        document.set_text("hostname", hard);
        let yaml = document
            .to_yaml()
            .unwrap_or_else(|e| panic!("{hard:?}: {e}"));
        let again = Document::from_yaml(yaml.as_bytes()).unwrap();
        assert_eq!(again.text("hostname"), Some(hard));
        let text = serde_json::to_string(&document).unwrap();
        assert_eq!(json(&text), document, "{hard:?}");
    }
}

#[test]
fn numbers_keep_their_kind() {
    let document =
        json(r#"{"a":1,"b":1.0,"c":-9223372036854775808,"d":18446744073709551615,"e":1e300}"#);
    let again = Document::from_yaml(document.to_yaml().unwrap().as_bytes()).unwrap();
    assert_eq!(again, document);
    assert_eq!(
        shown(&again),
        r#"{"a":1,"b":1.0,"c":-9223372036854775808,"d":18446744073709551615,"e":1e+300}"#
    );
}

#[test]
fn invalid_json_is_refused() {
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let maps = "{\"a\":".repeat(10_000);
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_SIZE));
    let many = format!("{{\"a\":[{}1]}}", "1,".repeat(25_000));
    for bad in [
        deep.as_str(),
        &maps,
        &long,
        &many,
        "",
        "{",
        "[]",
        "1",
        "\"a\"",
        "{} {}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1e999}",
        "{\"a\":NaN}",
        "{\"a\":\"\\ud800\"}",
        "{\"<<\":{}}",
        "\u{feff}{}",
    ] {
        let error = Document::from_json(bad.as_bytes()).unwrap_err();
        assert!(!error.message.is_empty() && error.message.len() < 400);
    }
    assert!(Document::from_json(b"{\"a\":\"\xff\"}").is_err());
    let error = Document::from_json(b"{\n \"port\": 1,\n \"port\": 2}").unwrap_err();
    assert_eq!(error.line, Some(3), "{error}");
    assert!(error.message.contains("a second time"), "{error}");
    assert_eq!(json("null"), Document::default());
}

#[test]
fn errors_name_the_key() {
    for (text, key, words) in [
        (r#"{"interval":"fast"}"#, Some("interval"), "seconds"),
        (r#"{"udp":{"port":70000}}"#, Some("udp.port"), "65535"),
        (
            r#"{"shelly":{"devices":[{"host":5}]}}"#,
            Some("shelly.devices.0.host"),
            "host",
        ),
        (r#"{"metrics":{"a":1}}"#, Some("metrics.a"), "true or false"),
        (r#"{"port":5,"reload_port":5}"#, None, "they need two"),
    ] {
        let refused = json(text).read(&SCHEMA).unwrap_err();
        assert_eq!(refused.key.as_deref(), key, "{text}: {refused:?}");
        assert!(refused.message.contains(words), "{text}: {refused:?}");
    }
    let (config, warnings) = json(r#"{"port":9200,"prot":1}"#).read(&SCHEMA).unwrap();
    assert_eq!(config.port, Some(9200));
    assert!(warnings[0].message.contains("did you mean"), "{warnings:?}");
    let refused = Document::read_yaml(&SCHEMA, b"port: 1\ninterval: fast\n").unwrap_err();
    assert_eq!((refused.line, refused.column), (Some(2), Some(11)));
}

#[test]
fn patches_merge_by_key() {
    for (before, patch, after) in [
        (r#"{"a":1,"b":2}"#, r#"{"b":3}"#, r#"{"a":1,"b":3}"#),
        (r#"{"a":1,"b":2}"#, r#"{"a":null,"c":null}"#, r#"{"b":2}"#),
        (
            r#"{"m":{"x":true,"y":true}}"#,
            r#"{"m":{"y":false,"z":true}}"#,
            r#"{"m":{"x":true,"y":false,"z":true}}"#,
        ),
        (
            r#"{"m":{"x":{"y":1}}}"#,
            r#"{"m":{"x":{"y":null}}}"#,
            r#"{"m":{"x":{}}}"#,
        ),
        (
            r#"{"m":5}"#,
            r#"{"m":{"x":null,"y":1}}"#,
            r#"{"m":{"y":1}}"#,
        ),
        (r#"{"l":[1,2]}"#, r#"{"l":[3]}"#, r#"{"l":[3]}"#),
        (
            r#"{}"#,
            r#"{"m":{"x":null,"y":{"z":null}}}"#,
            r#"{"m":{"y":{}}}"#,
        ),
    ] {
        let mut document = json(before);
        document.merge(&json(patch));
        assert_eq!(shown(&document), after, "{before} with {patch}");
    }
}

#[test]
fn keys_are_set_and_removed() {
    let mut document = json(r#"{"a":"x","n":null}"#);
    assert!(document.has("a") && !document.has("n") && !document.has("b"));
    document.set_text("a", "y");
    document.set_text("b", "z");
    assert_eq!(shown(&document), r#"{"b":"z","a":"y","n":null}"#);
    assert!(document.remove("b") && !document.remove("b"));
    assert_eq!((document.text("a"), document.text("n")), (Some("y"), None));
}
