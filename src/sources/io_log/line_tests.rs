use super::*;

fn entry(key: &str, kind: EntryKind, response: Response) -> Line {
    let key = key.to_string();
    Line::Entry {
        key,
        kind,
        response,
    }
}

#[test]
fn written_line_parses_as_the_same_line() {
    let failed = |errno, message: &str| {
        Err(Failure {
            errno,
            message: message.to_string(),
        })
    };
    for (text, line) in [
        ("0.000000000 open\n", Line::Step(Step::Open)),
        ("0.000000000 poll\n", Line::Step(Step::Poll)),
        ("0.000000000 rescan\n", Line::Step(Step::Rescan)),
        ("0.000000000 end\n", Line::End),
        (
            "0.000000000 discard 12.000000345\n",
            Line::Discard(12_000_000_345),
        ),
        (
            "0.000000000 sys/class/hwmon/hwmon0/in1_input = 5012\\n\n",
            entry(
                "sys/class/hwmon/hwmon0/in1_input",
                EntryKind::Response,
                Ok(b"5012\n".to_vec()),
            ),
        ),
        (
            "0.000000000 dev/cpu/0/msr 0x639 ! 5 input/output error\n",
            entry(
                "dev/cpu/0/msr 0x639",
                EntryKind::Response,
                failed(Some(5), "input/output error"),
            ),
        ),
        (
            "0.000000000 udp > DATA = REQUEST\n",
            entry("udp", EntryKind::Sent, Ok(b"DATA = REQUEST".to_vec())),
        ),
        (
            "0.000000000 udp < a \\x00\\x08\\\\\\t\\r\\xff \\x20\n",
            entry(
                "udp",
                EntryKind::Received,
                Ok(b"a \0\x08\\\t\r\xff  ".to_vec()),
            ),
        ),
        (
            "0.000000000 tegrastats <! - ended with exit status 1\n",
            entry(
                "tegrastats",
                EntryKind::Received,
                failed(None, "ended with exit status 1"),
            ),
        ),
        (
            "0.000000000 udp >! 101 no\n",
            entry("udp", EntryKind::Sent, failed(Some(101), "no")),
        ),
        (
            "0.000000000 nothing = \n",
            entry("nothing", EntryKind::Response, Ok(Vec::new())),
        ),
    ] {
        assert_eq!(render(0, &line), text);
        assert_eq!(parse(text.trim_end_matches('\n').as_bytes()), Ok((0, line)));
    }
    assert_eq!(render(61_000_000_002, &Line::End), "61.000000002 end\n");
}

#[test]
fn trailing_space_may_be_stripped() {
    let empty = entry("x", EntryKind::Response, Ok(Vec::new()));
    assert_eq!(parse(b"0.000000000 x ="), Ok((0, empty)));
}

#[test]
fn invalid_line_is_refused_with_a_reason() {
    for (text, why) in [
        ("", "does not begin with a time"),
        ("open", "does not begin with a time"),
        ("1 open", "does not begin with a time"),
        ("1.5 open", "does not begin with a time"),
        ("-1.000000000 open", "does not begin with a time"),
        ("+1.000000000 open", "does not begin with a time"),
        ("1.00000000x open", "does not begin with a time"),
        ("99999999999.000000000 open", "does not begin with a time"),
        ("9999999999.000000000 open", "more than a year"),
        ("1.000000000", "none of open"),
        ("1.000000000 opened", "none of open"),
        ("1.000000000 discard", "none of open"),
        ("1.000000000 discard soon", "does not begin with a time"),
        ("1.000000000 = 5", "does not say what it is about"),
        ("1.000000000  = 5", "does not say what it is about"),
        ("1.000000000 a  b = 5", "does not say what it is about"),
        ("1.000000000 a = \\", "has none of n, r, t"),
        ("1.000000000 a = \\0", "has none of n, r, t"),
        ("1.000000000 a = \\x", "not two hexadecimal"),
        ("1.000000000 a = \\x4", "not two hexadecimal"),
        ("1.000000000 a = \\xg0", "not two hexadecimal"),
        ("1.000000000 a ! EIO", "no error number"),
        ("1.000000000 a ! 0 x", "no error number"),
        ("1.000000000 a ! -5 x", "no error number"),
        ("1.000000000 a ! 99999999999 x", "no error number"),
        ("1.000000000 a = \u{e9}", "not printable"),
        ("1.000000000 a = \t", "not printable"),
    ] {
        let error = parse(text.as_bytes()).unwrap_err();
        assert!(error.contains(why), "{text:?}: {error}");
    }
    assert!(parse(&vec![b'x'; MAX_LINE_BYTES + 1]).is_err());
}

#[test]
fn escaped_word_is_one_word_and_no_sign() {
    for (text, escaped) in [
        ("in1_input", "in1_input"),
        ("a b\n", "a\\x20b\\n"),
        ("\\", "\\\\"),
        ("", "''"),
        ("=", "'='"),
        ("<!", "'<!'"),
        ("a=b", "a=b"),
    ] {
        assert_eq!(escape_word(text), escaped);
        let line = entry(
            &format!("request {}", escape_word(text)),
            EntryKind::Response,
            Ok(b"x".to_vec()),
        );
        let text = render(0, &line);
        assert_eq!(parse(text.trim_end().as_bytes()), Ok((0, line)));
    }
}
