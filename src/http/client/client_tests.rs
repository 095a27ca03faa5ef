//! Tests of `client`: against servers on loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use super::*;
use crate::config::{Authorization, BasicAuth, SecretSource};

const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(20),
    body: 100,
};

fn client(settings: Settings) -> Client {
    Client::new(settings, LIMITS).unwrap()
}

/// Reads one request: its head, and as much of a body as that announces.
fn read_request(stream: &mut impl Read) -> Option<String> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        request.push(byte[0]);
    }
    let text = String::from_utf8(request).unwrap();
    let lower = text.to_lowercase();
    let length = lower.split("content-length: ").nth(1);
    let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(text + &String::from_utf8_lossy(&body))
}

/// A server that gives each request this answer, and says what it was asked.
fn server(answer: &'static str) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            while let Some(request) = read_request(&mut stream) {
                if sender.send(request).is_err() || stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        }
    });
    (address, requests)
}

#[test]
fn a_request_has_our_headers_and_its_own_which_count_more() {
    let (address, requests) = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Y: z\r\n\r\nhi");
    let settings = Settings {
        headers: vec![
            ("X-Tenant".into(), Secret::new("edge")),
            ("Accept".into(), Secret::new("text/html")),
        ],
        basic_auth: Some(BasicAuth {
            username: "Aladdin".into(),
            password: SecretSource::Inline(Secret::new("open sesame")),
        }),
        ..Settings::default()
    };
    let client = client(settings);
    let url = format!("http://{address}/api?token=x");
    let answer = client
        .post(&url, &[("accept", "text/plain")], b"body")
        .unwrap();
    assert_eq!((answer.status, answer.header("x-y")), (200, Some("z")));
    assert_eq!((&answer.body[..], answer.whole), (&b"hi"[..], true));
    let request = requests.recv().unwrap().to_lowercase();
    assert!(
        request.starts_with("post /api?token=x http/1.1\r\n"),
        "{request}"
    );
    for line in [
        "x-tenant: edge",
        "accept: text/plain",
        "authorization: basic qwxhzgrpbjpvcgvuihnlc2ftzq==",
        "user-agent: edge-metrics-exporter/",
        "content-length: 4",
    ] {
        assert!(
            request.contains(&format!("\r\n{line}")),
            "{line}: {request}"
        );
    }
    assert!(!request.contains("text/html") && request.ends_with("\r\n\r\nbody"));
    client.head(&url, &[]).unwrap();
    let request = requests.recv().unwrap().to_lowercase();
    assert!(request.starts_with("head /api"), "{request}");
    assert!(!request.contains("authorization"), "{request}");
}

#[test]
fn no_secret_is_shown() {
    let settings = Settings {
        headers: vec![("X-Key".into(), Secret::new("s3cret"))],
        authorization: Some(Authorization {
            kind: "Bearer".into(),
            credentials: SecretSource::Inline(Secret::new("s3cret")),
        }),
        proxy_url: Some(Secret::new("http://me:s3cret@127.0.0.1:1")),
        ..Settings::default()
    };
    let client = client(settings);
    let shown = format!("{:?}", client.settings);
    assert!(!shown.contains("s3cret"), "{shown}");
    for url in [
        "http://127.0.0.1:1/x?token=s3cret",
        "http://me:s3cret@h/",
        "me:s3cret@h",
    ] {
        let error = client.get(url, &[]).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
        assert!(!shown_of(url).contains("s3cret"));
    }
}

fn shown_of(url: &str) -> &str {
    super::url_without_secrets(url)
}

#[test]
fn an_endless_answer_is_cut_off() {
    let long = "HTTP/1.1 500 No\r\nContent-Length: 101\r\n\r\n\
        aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggghhhhhhhhhhiiiiiiiiiijjjjjjjjjj!";
    let (address, _requests) = server(long);
    let answer = client(Settings::default())
        .get(&format!("http://{address}/"), &[])
        .unwrap();
    assert_eq!(
        (answer.status, answer.body.len(), answer.whole),
        (500, 100, false)
    );
}

#[test]
fn who_does_not_answer_in_time_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let limits = Limits {
        timeout: Duration::from_millis(100),
        ..LIMITS
    };
    let client = Client::new(Settings::default(), limits).unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let error = client.post(&url, &[], b"x").unwrap_err().to_string();
    assert!(
        error.ends_with("/: no whole answer within 0.1 s"),
        "{error}"
    );
}

/// Whether a receiver is there shows in that it can be connected to, whatever it does then.
#[test]
fn an_error_says_whether_there_was_a_connection() {
    let limits = Limits {
        timeout: Duration::from_secs(2),
        ..LIMITS
    };
    let client = Client::new(Settings::default(), limits).unwrap();
    let connected = |listener: &SocketAddr| {
        let error = client
            .head(&format!("http://{listener}/"), &[])
            .unwrap_err();
        error.was_connected()
    };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    assert!(connected(&address));
    // Nobody is given this port by chance, as the one before may be to somebody once it is free.
    assert!(!connected(&SocketAddr::from(([127, 0, 0, 1], 1))));
    let curt = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = curt.local_addr().unwrap();
    let thread = std::thread::spawn(move || read_request(&mut curt.accept().unwrap().0));
    assert!(connected(&address));
    thread.join().unwrap();
    let error = client
        .head("http://no-such-host.invalid/", &[])
        .unwrap_err();
    assert!(!error.was_connected(), "{error}");
}

/// The first answer is one, wherever it points.
#[test]
fn a_head_is_not_looked_for_elsewhere() {
    let (address, _requests) =
        server("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nDate: today\r\n\r\n");
    let answer = client(Settings::default())
        .head(&format!("http://{address}/"), &[])
        .unwrap();
    assert_eq!((answer.status, answer.header("Date")), (302, Some("today")));
}

#[test]
fn a_request_is_broken_off_from_outside() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let client = std::sync::Arc::new(client(Settings::default()));
    let other = std::sync::Arc::clone(&client);
    let asking = std::thread::spawn(move || other.get(&url, &[]).unwrap_err());
    let (_connection, _) = silent.accept().unwrap();
    client.shut_down();
    asking.join().unwrap();
}

/// A redirect would carry samples, and a password, to somebody else.
#[test]
fn a_body_is_not_sent_to_where_a_redirect_points() {
    let answer = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    let (address, _requests) = server(answer);
    let url = format!("http://{address}/");
    assert_eq!(
        client(Settings::default())
            .post(&url, &[], b"x")
            .unwrap()
            .status,
        302
    );
    let stays = Settings {
        follow_redirects: false,
        ..Settings::default()
    };
    assert_eq!(client(stays).get(&url, &[]).unwrap().status, 302);
    assert!(
        client(Settings::default()).get(&url, &[]).is_err(),
        "follows to nobody"
    );
}

/// A server that redirects to `location`.
fn redirecting(location: &str) -> (SocketAddr, Receiver<String>) {
    let answer = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
    server(Box::leak(answer.into_boxed_str()))
}

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A client with something secret of every kind.
fn with_secrets() -> Client {
    client(Settings {
        headers: vec![
            ("X-Key".into(), Secret::new("s3cret")),
            ("Cookie".into(), Secret::new("id=s3cret")),
            ("X-Scope-OrgID".into(), Secret::new("s3cret")),
        ],
        authorization: Some(Authorization {
            kind: "Bearer".into(),
            credentials: SecretSource::Inline(Secret::new("s3cret")),
        }),
        ..Settings::default()
    })
}

#[test]
fn headers_and_logins_do_not_follow_a_redirect_to_another_server() {
    let (end, ended) = server(HI);
    // By another port, by another name of this host, and by way of a third server.
    let (third, passed) = redirecting(&format!("http://{end}/third"));
    for location in [
        format!("http://{end}/x"),
        format!("//{end}/x"),
        format!("http://localhost:{}/x", end.port()),
        format!("http://{third}/"),
    ] {
        let (first, asked) = redirecting(&location);
        let accept = [("Accept", "text/plain")];
        let answer = with_secrets().get(&format!("http://{first}/"), &accept);
        assert_eq!(answer.unwrap().body, b"hi", "{location}");
        let request = asked.recv().unwrap();
        assert_eq!(request.matches("s3cret").count(), 4, "{request}");
        for request in passed.try_iter().chain([ended.recv().unwrap()]) {
            assert!(!request.contains("s3cret"), "{location}: {request}");
            assert!(
                request.to_lowercase().contains("accept: text/plain"),
                "{request}"
            );
        }
    }
}

#[test]
fn headers_and_logins_follow_a_redirect_within_a_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        while requests.len() < 2 {
            let mut stream = listener.accept().unwrap().0;
            let Some(request) = read_request(&mut stream) else {
                continue;
            };
            let answer = match requests.len() {
                0 => "HTTP/1.1 308 Moved\r\nLocation: b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                _ => HI,
            };
            stream.write_all(answer.as_bytes()).unwrap();
            requests.push(request);
        }
        requests
    });
    let answer = with_secrets().get(&format!("http://{address}/a"), &[]);
    assert_eq!(answer.unwrap().body, b"hi");
    let requests = thread.join().unwrap();
    assert!(requests[1].starts_with("GET /b HTTP/1.1"), "{requests:?}");
    assert_eq!(requests[1].matches("s3cret").count(), 4, "{requests:?}");
}

/// A server that somebody else redirects back to is not shown them: that somebody chose the path.
#[test]
fn headers_and_logins_do_not_come_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (other, _asked) = redirecting(&format!("http://{address}/again"));
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        while requests.len() < 2 {
            let mut stream = listener.accept().unwrap().0;
            let Some(request) = read_request(&mut stream) else {
                continue;
            };
            let answer = match requests.len() {
                0 => format!("HTTP/1.1 302 F\r\nLocation: http://{other}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
                _ => HI.to_owned(),
            };
            stream.write_all(answer.as_bytes()).unwrap();
            requests.push(request);
        }
        requests
    });
    let answer = with_secrets().get(&format!("http://{address}/"), &[]);
    assert_eq!(answer.unwrap().body, b"hi");
    let requests = thread.join().unwrap();
    assert_eq!(requests[0].matches("s3cret").count(), 4, "{requests:?}");
    assert!(!requests[1].contains("s3cret"), "{requests:?}");
}

#[test]
fn a_redirect_is_followed_so_often_and_only_to_urls() {
    let (address, requests) = redirecting("/again");
    let answer = client(Settings::default()).get(&format!("http://{address}/"), &[]);
    assert_eq!(answer.unwrap().status, 302);
    assert_eq!(requests.try_iter().count(), 1 + MAX_REDIRECTS as usize);
    for location in ["http://me:s3cret@127.0.0.1:1/", "file:///etc/passwd"] {
        let (address, _requests) = redirecting(location);
        let error = client(Settings::default()).get(&format!("http://{address}/"), &[]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("it redirects to"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn what_is_no_url_is_refused_at_once() {
    for (url, why) in [
        ("", "it does not begin with http:// or https://"),
        ("http://", "it is no URL"),
        (
            "host:9090/api",
            "it does not begin with http:// or https://",
        ),
        ("/api", "it does not begin with http:// or https://"),
        ("http", "it does not begin with http:// or https://"),
        ("http://a b/", "it is no URL"),
        ("ftp://host/", "it does not begin with http:// or https://"),
        (
            "http://me@host/",
            "it holds a user name or a password, which belong below `basic_auth`",
        ),
        ("http://:80/", "it has no host"),
    ] {
        assert_eq!(check_url(url), Err(why), "{url}");
    }
    assert!(check_url("http://[::1]:9090/api/v1/write").is_ok());
    let socks = Settings {
        proxy_url: Some(Secret::new("socks5://127.0.0.1:1080")),
        ..Settings::default()
    };
    assert!(Client::new(socks, LIMITS).is_err());
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_tls_https_is_refused_with_what_would_help() {
    let error = client(Settings::default()).get("https://127.0.0.1:1/", &[]);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("build with the feature `tls`"), "{error}");
}
