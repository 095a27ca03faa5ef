//! Tests of the parser, with a table of well-formed and malformed heads.

use super::*;

fn status(bytes: &[u8]) -> u16 {
    match parse_head(bytes, &Limits::default()) {
        Ok(Some(_)) => 200,
        Ok(None) => 0,
        Err(e) => e.status,
    }
}

fn parsed(text: &str) -> Head {
    let (head, length) = parse_head(text.as_bytes(), &Limits::default())
        .unwrap_or_else(|e| panic!("{e}: {text:?}"))
        .unwrap_or_else(|| panic!("not whole: {text:?}"));
    assert_eq!(length, text.len(), "{text:?}");
    head
}

/// `200`: a valid head; `0`: incomplete so far.
#[test]
fn heads_get_the_expected_status() {
    let long = "a".repeat(9000);
    let cases: Vec<(u16, String)> = [
        (200, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (200, "GET / HTTP/1.1\r\nhost:a\r\n\r\n"),
        (200, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        (200, "GET / HTTP/1.1\r\nHost: [::1]:9100\r\n\r\n"),
        (200, "GET / HTTP/1.0\r\n\r\n"),
        (200, "\r\n\r\nGET / HTTP/1.0\r\n\r\n"),
        (200, "get / HTTP/1.0\r\n\r\n"),
        (200, "M-SEARCH / HTTP/1.0\r\n\r\n"),
        (200, "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (200, "GET http://a HTTP/1.0\r\n\r\n"),
        (200, "OPTIONS * HTTP/1.0\r\n\r\n"),
        (200, "CONNECT a:443 HTTP/1.0\r\n\r\n"),
        (200, "GET /%41%7e HTTP/1.0\r\n\r\n"),
        (200, "GET /?100%&a=%zz HTTP/1.0\r\n\r\n"),
        (200, "GET / HTTP/1.0\r\nX: \t v \t\r\n\r\n"),
        (200, "GET / HTTP/1.0\r\nX: gr\u{fc}n\r\n\r\n"),
        (200, "GET / HTTP/1.0\r\nContent-Length: 0\r\n\r\n"),
        (200, "POST / HTTP/1.0\r\nContent-Length: 00065536\r\n\r\n"),
        (
            200,
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n",
        ),
        (0, ""),
        (0, "\r"),
        (0, "\r\n"),
        (0, "G"),
        (0, "GET / HTTP/1.0\r"),
        (0, "GET / HTTP/1.0\r\n"),
        (0, "GET / HTTP/1.0\r\n\r"),
        (0, "GET / HTTP/1.0\r\nX"),
        (400, "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n"),
        (400, "GET /\r\n\r\n"),
        (400, "GET\r\n\r\n"),
        (400, " GET / HTTP/1.0\r\n\r\n"),
        (400, "GET  / HTTP/1.0\r\n\r\n"),
        (400, "GET /  HTTP/1.0\r\n\r\n"),
        (400, "GET / HTTP/1.0 \r\n\r\n"),
        (400, "GET /a b HTTP/1.0\r\n\r\n"),
        (400, "GET\t/ HTTP/1.0\r\n\r\n"),
        (400, "GET / http/1.0\r\n\r\n"),
        (400, "GET / HTTP/1\r\n\r\n"),
        (400, "GET / HTTP/11\r\n\r\n"),
        (400, "GET / HTTP/1.10\r\n\r\n"),
        (400, "GET / HTTP/1.x\r\n\r\n"),
        (400, "GET / FTP/1.0\r\n\r\n"),
        (400, "G(T / HTTP/1.0\r\n\r\n"),
        (400, "G\u{e9}T / HTTP/1.0\r\n\r\n"),
        (400, " / HTTP/1.0\r\n\r\n"),
        (505, "GET / HTTP/2.0\r\n\r\n"),
        (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (505, "GET / HTTP/1.2\r\n\r\n"),
        (505, "GET / HTTP/0.9\r\n\r\n"),
        (400, "GET metrics HTTP/1.0\r\n\r\n"),
        (400, "GET * HTTP/1.0\r\n\r\n"),
        (400, "GET ftp://a/ HTTP/1.0\r\n\r\n"),
        (400, "GET http:/// HTTP/1.0\r\n\r\n"),
        (400, "GET /\u{fc} HTTP/1.0\r\n\r\n"),
        (400, "GET /#a HTTP/1.0\r\n\r\n"),
        (400, "GET /%4 HTTP/1.0\r\n\r\n"),
        (400, "GET /%zz HTTP/1.0\r\n\r\n"),
        (400, "GET /% HTTP/1.0\r\n\r\n"),
        (400, "GET /\0 HTTP/1.0\r\n\r\n"),
        (400, "GET / HTTP/1.0\n\n"),
        (400, "GET / HTTP/1.0\r\nX: a\n\r\n"),
        (400, "GET / HTTP/1.0\r\nX: a\rb\r\n\r\n"),
        (400, "GET / HTTP/1.0\r\r\n\r\n"),
        (400, "GET / HTTP/1.0\r\nX: a\0\r\n\r\n"),
        (400, "GET / HTTP/1.0\r\nX: a\u{1b}[2J\r\n\r\n"),
        (400, "GET / HTTP/1.0\r\nX: \u{7f}\r\n\r\n"),
        (400, "GET / HTTP/1.0\r\nX : a\r\n\r\n"),
        (400, "GET / HTTP/1.0\r\nX\t: a\r\n\r\n"),
        (400, "GET / HTTP/1.0\r\n: a\r\n\r\n"),
        (400, "GET / HTTP/1.0\r\nX\r\n\r\n"),
        (400, "GET / HTTP/1.0\r\nX Y: a\r\n\r\n"),
        (400, "GET / HTTP/1.0\r\nX: a\r\n b\r\n\r\n"),
        (400, "GET / HTTP/1.0\r\n X: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        (400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
        (
            400,
            "POST / HTTP/1.0\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        ),
        (
            400,
            "POST / HTTP/1.0\r\nContent-Length: 5\r\ncontent-length: 6\r\n\r\n",
        ),
        (400, "POST / HTTP/1.0\r\nContent-Length: 5, 5\r\n\r\n"),
        (400, "POST / HTTP/1.0\r\nContent-Length: +5\r\n\r\n"),
        (400, "POST / HTTP/1.0\r\nContent-Length: -1\r\n\r\n"),
        (400, "POST / HTTP/1.0\r\nContent-Length: 0x5\r\n\r\n"),
        (400, "POST / HTTP/1.0\r\nContent-Length: 5 5\r\n\r\n"),
        (400, "POST / HTTP/1.0\r\nContent-Length:\r\n\r\n"),
        (400, "POST / HTTP/1.0\r\nContent-Length: \u{665}\r\n\r\n"),
        (413, "POST / HTTP/1.0\r\nContent-Length: 65537\r\n\r\n"),
        (
            413,
            "POST / HTTP/1.0\r\nContent-Length: 100000000000\r\n\r\n",
        ),
        (
            413,
            "POST / HTTP/1.0\r\nContent-Length: 18446744073709551617\r\n\r\n",
        ),
        (
            501,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            501,
            "POST / HTTP/1.0\r\nTransfer-Encoding: identity\r\n\r\n",
        ),
        (501, "POST / HTTP/1.0\r\nTransfer-Encoding: \r\n\r\n"),
        (
            400,
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        ),
        (
            400,
            "POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\n",
        ),
        (417, "GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n"),
        // What is no HTTP at all: a TLS hello, an SSH banner, a PROXY line.
        (400, "\u{16}\u{3}\u{1}\0"),
        (400, "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        (
            400,
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.0\r\n\r\n",
        ),
    ]
    .into_iter()
    .map(|(status, text)| (status, text.to_owned()))
    .chain([
        (414, long.clone()),
        (414, format!("GET /{long} HTTP/1.0\r\n\r\n")),
        (431, format!("GET / HTTP/1.0\r\nX: {long}")),
        (431, format!("GET / HTTP/1.0\r\n{}", "X: a\r\n".repeat(65))),
        (
            431,
            format!(
                "GET / HTTP/1.0\r\n{}",
                format!("X: {}\r\n", &long[..500]).repeat(20)
            ),
        ),
        (
            200,
            format!("GET / HTTP/1.0\r\n{}\r\n", "X: a\r\n".repeat(64)),
        ),
    ])
    .collect();
    for (wanted, text) in cases {
        assert_eq!(
            status(text.as_bytes()),
            wanted,
            "{:?}",
            &text[..text.len().min(100)]
        );
    }
}

#[test]
fn incomplete_head_is_neither_accepted_nor_refused() {
    let text = b"\r\nPOST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX: y\r\n\r\n";
    for cut in 0..text.len() {
        assert_eq!(status(&text[..cut]), 0, "cut at {cut}");
    }
    let (_, length) = parse_head(&[text.as_slice(), b"abcGET"].concat(), &Limits::default())
        .unwrap()
        .unwrap();
    assert_eq!(length, text.len());
}

#[test]
fn head_fields_are_parsed() {
    let head = parsed(
        "PUT http://board:9100/a%20b?c=d?e HTTP/1.1\r\nHost: board\r\nX-Y:  gr\u{fc}n \r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(head.method, Method::Put);
    assert_eq!(
        (head.path.as_str(), head.query.as_deref()),
        ("/a%20b", Some("c=d?e"))
    );
    assert_eq!(head.version, HTTPVersion(1, 1));
    assert_eq!(head.headers[1].value.as_str(), "gr??n");
    assert_eq!(
        (head.body_length, head.keep_alive, head.expects_continue),
        (7, true, true)
    );
    let head = parsed("OPTIONS http://a?b HTTP/1.0\r\n\r\n");
    assert_eq!(
        (head.path.as_str(), head.query.as_deref()),
        ("/", Some("b"))
    );
    assert_eq!((head.body_length, head.expects_continue), (0, false));
}

#[test]
fn connection_options_and_versions_decide_on_keep_alive() {
    let cases = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Upgrade,  CLOSE\r\n", false),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ];
    for (version, header, wanted) in cases {
        let head = parsed(&format!("GET / HTTP/{version}\r\nHost: a\r\n{header}\r\n"));
        assert_eq!(head.keep_alive, wanted, "{version} {header:?}");
    }
}
