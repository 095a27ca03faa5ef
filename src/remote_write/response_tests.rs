//! Tests of `response`.

use super::*;

/// Sun, 06 Nov 1994 08:49:37 GMT.
const NOW: i64 = 784_111_777;
const V1: SentRequest = SentRequest {
    protocol: Protocol::V1,
    is_understood: false,
    alternative: false,
    samples: 5,
    retry_on_429: true,
};
const V2: SentRequest = SentRequest {
    protocol: Protocol::V2,
    alternative: true,
    ..V1
};
const KNOWN: SentRequest = SentRequest {
    is_understood: true,
    ..V2
};

fn judged(sent: SentRequest, status: u16, headers: &[(&str, &'static str)]) -> Verdict {
    let header = |name: &str| {
        let found = headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| *value)
    };
    judge(status, header, sent, NOW)
}

const SAMPLES: &str = "X-Prometheus-Remote-Write-Samples-Written";
const STORED: Verdict = Verdict::Stored { unwritten: 0 };
const REFUSED: Verdict = Verdict::Refused {
    written: 0,
    may_be_v1: false,
};
/// The samples are not sent again, and 1.0 is sent from now on.
const OLDER: Verdict = Verdict::Refused {
    written: 0,
    may_be_v1: true,
};

#[test]
fn every_2xx_is_success_in_1_0() {
    for status in [200, 202, 204, 299] {
        assert_eq!(judged(V1, status, &[]), STORED);
    }
    assert_eq!(
        judged(V1, 204, &[(SAMPLES, "0")]),
        STORED,
        "1.0 has no such header"
    );
}

#[test]
fn receiver_of_2_0_reports_what_it_wrote() {
    assert_eq!(judged(V2, 204, &[(SAMPLES, "5")]), STORED);
    assert_eq!(judged(V2, 204, &[(SAMPLES, "900")]), STORED);
    let some = Verdict::Stored { unwritten: 3 };
    assert_eq!(judged(V2, 204, &[(SAMPLES, "2")]), some);
    for nonsense in ["", "-1", "x", "99999999999999999999999"] {
        let none = Verdict::Stored { unwritten: 5 };
        assert_eq!(judged(V2, 204, &[(SAMPLES, nonsense)]), none, "{nonsense}");
    }
    let exemplars = "X-Prometheus-Remote-Write-Exemplars-Written";
    let none = Verdict::Stored { unwritten: 5 };
    assert_eq!(judged(V2, 204, &[(exemplars, "0")]), none);
    assert_eq!(
        judged(V2, 400, &[(SAMPLES, "2")]),
        Verdict::Refused {
            written: 2,
            may_be_v1: false
        }
    );
}

#[test]
fn receiver_of_1_x_is_detected() {
    assert_eq!(
        judged(V2, 204, &[]),
        Verdict::NotUnderstood,
        "stored nothing"
    );
    assert_eq!(judged(V2, 415, &[]), Verdict::NotUnderstood);
    assert_eq!(judged(V2, 400, &[]), OLDER);
    assert_eq!(
        judged(KNOWN, 415, &[]),
        Verdict::NotUnderstood,
        "it was replaced by another"
    );
    assert_eq!(judged(KNOWN, 400, &[]), REFUSED);
    assert_eq!(judged(KNOWN, 204, &[]), Verdict::NotUnderstood);
    assert_eq!(judged(V1, 415, &[]), REFUSED, "there is no other");
    assert_eq!(judged(V2, 404, &[]), REFUSED);
}

/// A receiver that understands neither message is not sent both for ever; one of 2.0 alone gets 2.0 again.
#[test]
fn samples_sent_in_both_messages_are_refused() {
    let last = SentRequest {
        alternative: false,
        ..V2
    };
    assert_eq!(judged(last, 415, &[]), REFUSED);
    let all = Verdict::Stored { unwritten: 5 };
    assert_eq!(judged(last, 204, &[]), all);
    let fallen_back = SentRequest {
        alternative: true,
        ..V1
    };
    assert_eq!(judged(fallen_back, 415, &[]), Verdict::NotUnderstood);
    assert_eq!(judged(fallen_back, 400, &[]), REFUSED);
    assert_eq!(judged(fallen_back, 204, &[]), STORED);
}

#[test]
fn refused_samples_are_not_sent_again() {
    for status in [400, 401, 403, 404, 408, 409, 413, 415, 422, 499] {
        assert_eq!(
            judged(V1, status, &[("Retry-After", "1")]),
            REFUSED,
            "{status}"
        );
    }
    let strict = SentRequest {
        retry_on_429: false,
        ..V1
    };
    assert_eq!(judged(strict, 429, &[]), REFUSED);
}

#[test]
fn transient_errors_are_retried() {
    for status in [429, 500, 501, 502, 503, 504, 599] {
        assert_eq!(judged(V1, status, &[]), Verdict::Retry(None), "{status}");
        assert_eq!(judged(KNOWN, status, &[]), Verdict::Retry(None), "{status}");
    }
    for status in [100, 199, 301, 307, 308, 600, 999] {
        assert_eq!(
            judged(V1, status, &[("Retry-After", "1")]),
            Verdict::Retry(None),
            "{status}"
        );
    }
}

#[test]
fn retry_after_sets_the_delay() {
    let after = |value: &'static str| judged(V1, 503, &[("Retry-After", value)]);
    let seconds = |n| Verdict::Retry(Some(Duration::from_secs(n)));
    assert_eq!(after("0"), seconds(0));
    assert_eq!(after(" 120 "), seconds(120));
    assert_eq!(after("86400"), seconds(300), "no longer than that");
    assert_eq!(after("99999999999999999999999999"), seconds(300));
    assert_eq!(after("Sun, 06 Nov 1994 08:50:07 GMT"), seconds(30));
    assert_eq!(after("Sun Nov  6 08:50:07 1994"), seconds(30));
    assert_eq!(
        after("Sun, 06 Nov 1994 08:49:07 GMT"),
        seconds(0),
        "in the past"
    );
    assert_eq!(after("Fri, 31 Dec 9999 23:59:59 GMT"), seconds(300));
    for nonsense in [
        "",
        "-1",
        "1.5",
        "soon",
        "1 2",
        "+3",
        "Sun, 99 Nov 1994 08:50:07 GMT",
    ] {
        assert_eq!(after(nonsense), Verdict::Retry(None), "{nonsense}");
    }
    // The receiver's clock counts, whatever this board's says.
    let date = [
        ("Date", "Sat, 05 Nov 1994 08:49:37 GMT"),
        ("Retry-After", "Sat, 05 Nov 1994 08:49:40 GMT"),
    ];
    assert_eq!(judged(V1, 503, &date), seconds(3));
}

/// `log_error_messages_verbatim` of the compliance suite.
#[test]
fn error_text_is_kept_on_one_line() {
    let said = "Error: Invalid label name '__invalid__' \"é\"";
    assert_eq!(error_text(said.as_bytes()), said);
    assert_eq!(
        error_text(b"  two\nlines\r\x1b[31m\xff\n"),
        "two lines  [31m\u{fffd}"
    );
    assert_eq!(error_text(&[b'x'; 100_000]).len(), 2000);
}
