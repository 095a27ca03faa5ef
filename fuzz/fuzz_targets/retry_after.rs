//! Any answer of a receiver: two bytes of status, one of circumstances, lines of headers, an empty line, a body. Whatever it is,
//! the verdict is within its bounds, and what is logged of it is one line.
#![no_main]

use std::time::Duration;

use edge_metrics_exporter::config::Protocol;
use edge_metrics_exporter::http::parse_date;
use edge_metrics_exporter::remote_write::{error_text, judge, SentRequest, Verdict};
use libfuzzer_sys::fuzz_target;

/// The last second of the year 9999.
const LAST: i64 = 253_402_300_799;

fuzz_target!(|bytes: &[u8]| {
    let [high, low, flags, rest @ ..] = bytes else {
        return;
    };
    let end = rest.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = rest.split_at(end.unwrap_or(rest.len()));
    let head = String::from_utf8_lossy(head);
    let headers: Vec<(&str, &str)> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let header = |name: &str| {
        let found = headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| *value)
    };
    for (_, value) in &headers {
        assert!(parse_date(value).is_none_or(|seconds| (0..=LAST).contains(&seconds)));
    }
    let sent = SentRequest {
        protocol: if flags & 1 == 0 {
            Protocol::V1
        } else {
            Protocol::V2
        },
        is_understood: flags & 2 != 0,
        alternative: flags & 8 != 0,
        retry_on_429: flags & 4 != 0,
        samples: u64::from(flags >> 4) * 1000,
    };
    let status = u16::from_be_bytes([*high, *low]) % 1000;
    let verdict = judge(status, header, sent, i64::from_be_bytes([*low; 8]));
    match verdict {
        Verdict::Stored { unwritten } => {
            assert!((200..300).contains(&status) && unwritten <= sent.samples);
        }
        Verdict::NotUnderstood => assert!(sent.alternative),
        Verdict::Refused { written, .. } => {
            assert!((400..500).contains(&status) && written <= sent.samples);
        }
        Verdict::Retry(wait) => {
            assert!(!(200..300).contains(&status));
            assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(300)));
        }
    }
    let text = error_text(body);
    assert!(text.chars().count() <= 2000 && !text.contains(char::is_control));
});
