//! Any bytes as a request's head: the same verdict in whatever pieces they come, and what is taken is what the strict
//! reading of RFC 9112 takes.
#![no_main]

use edge_metrics_exporter::http::{parse_head, Head, Limits, RequestError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&step, bytes)) = input.split_first() else {
        return;
    };
    // Limits that a short input reaches, in half of the cases.
    let limits = match step & 1 {
        0 => Limits::default(),
        _ => Limits {
            request_line: 64,
            head: 160,
            headers: 5,
            body: 99,
            ..Limits::default()
        },
    };
    let whole = parse_head(bytes, &limits);
    let pieces = in_pieces(bytes, usize::from(step / 2) + 1, &limits);
    match (&whole, &pieces) {
        (Ok(Some((head, length))), Ok(Some((again, length_again)))) => {
            assert_eq!((shown(head), length), (shown(again), length_again));
            check(bytes, head, *length, &limits);
        }
        (Ok(None), Ok(None)) => assert!(bytes.len() <= limits.head + 16, "waits without end"),
        // Where there are two faults, which of them is seen first depends on the pieces.
        (Err(error), Err(_)) => {
            assert!([400, 413, 414, 417, 431, 501, 505].contains(&error.status));
        }
        _ => panic!("whole: {whole:?}, in pieces: {pieces:?}"),
    }
});

/// As a connection does it: after each piece the parser sees all that has come, until it has made up its mind.
fn in_pieces(
    bytes: &[u8],
    step: usize,
    limits: &Limits,
) -> Result<Option<(Head, usize)>, RequestError> {
    let mut come = 0;
    while come < bytes.len() {
        come = (come + step).min(bytes.len());
        let verdict = parse_head(&bytes[..come], limits);
        if !matches!(verdict, Ok(None)) {
            return verdict;
        }
    }
    parse_head(bytes, limits)
}

fn check(bytes: &[u8], head: &Head, length: usize, limits: &Limits) {
    assert!(bytes[..length].ends_with(b"\r\n\r\n"));
    let count = |name: &str| {
        let same = |h: &&_| -> bool {
            let h: &edge_metrics_exporter::http::Header = h;
            h.field.as_str().as_str().eq_ignore_ascii_case(name)
        };
        head.headers.iter().filter(same).count()
    };
    assert_eq!(count("Transfer-Encoding"), 0);
    assert!(count("Content-Length") <= 1 && count("Host") <= 1);
    assert!(head.body_length <= limits.body);
    assert!(head.body_length == 0 || count("Content-Length") == 1);
    assert!(head.headers.len() <= limits.headers);
    assert!(head.path.bytes().all(|b| b.is_ascii_graphic()));

    // Written down again, it is read as the same head: nothing in it can be taken for anything else.
    let query = head
        .query
        .as_ref()
        .map(|q| format!("?{q}"))
        .unwrap_or_default();
    let mut text = format!(
        "{} {}{query} HTTP/{}\r\n",
        head.method, head.path, head.version
    );
    for header in &head.headers {
        text.push_str(&format!("{}:{}\r\n", header.field, header.value));
    }
    text.push_str("\r\n");
    match parse_head(text.as_bytes(), limits) {
        Ok(Some((again, length))) => {
            assert_eq!((shown(head), text.len()), (shown(&again), length));
        }
        other => panic!("{text:?} became {other:?}"),
    }
}

fn shown(head: &Head) -> String {
    format!("{head:?}")
}
