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

fn client(settings: ClientSettings) -> Client {
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

/// A server that sends this response to every request, and the requests that it got.
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
fn request_headers_replace_headers_of_the_settings() {
    let (address, requests) = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Y: z\r\n\r\nhi");
    let settings = ClientSettings {
        headers: vec![
            ("X-Tenant".into(), Secret::new("edge")),
            ("Accept".into(), Secret::new("text/html")),
        ],
        basic_auth: Some(BasicAuth {
            username: "Aladdin".into(),
            password: SecretSource::Inline(Secret::new("open sesame")),
        }),
        ..ClientSettings::default()
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
fn errors_and_debug_output_show_no_secret() {
    let settings = ClientSettings {
        headers: vec![("X-Key".into(), Secret::new("s3cret"))],
        authorization: Some(Authorization {
            kind: "Bearer".into(),
            credentials: SecretSource::Inline(Secret::new("s3cret")),
        }),
        proxy_url: Some(Secret::new("http://me:s3cret@127.0.0.1:1")),
        ..ClientSettings::default()
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
fn body_beyond_the_limit_is_cut_off() {
    let long = "HTTP/1.1 500 No\r\nContent-Length: 101\r\n\r\n\
        aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggghhhhhhhhhhiiiiiiiiiijjjjjjjjjj!";
    let (address, _requests) = server(long);
    let answer = client(ClientSettings::default())
        .get(&format!("http://{address}/"), &[])
        .unwrap();
    assert_eq!(
        (answer.status, answer.body.len(), answer.whole),
        (500, 100, false)
    );
}

#[test]
fn silent_server_times_out() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let limits = Limits {
        timeout: Duration::from_millis(100),
        ..LIMITS
    };
    let client = Client::new(ClientSettings::default(), limits).unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let error = client.post(&url, &[], b"x").unwrap_err().to_string();
    assert!(
        error.ends_with("/: no whole answer within 0.1 s"),
        "{error}"
    );
}

/// Remote write takes a receiver that can be connected to as present, whatever the receiver does then.
#[test]
fn errors_of_head_tell_whether_there_was_a_connection() {
    let limits = Limits {
        timeout: Duration::from_secs(2),
        ..LIMITS
    };
    let client = Client::new(ClientSettings::default(), limits).unwrap();
    let connected = |listener: &SocketAddr| {
        let error = client
            .head(&format!("http://{listener}/"), &[])
            .unwrap_err();
        error.was_connected()
    };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    assert!(connected(&address));
    // The kernel assigns this port to nobody. A port that was just freed could be in use again.
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

#[test]
fn head_does_not_follow_redirects() {
    let (address, _requests) =
        server("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nDate: today\r\n\r\n");
    let answer = client(ClientSettings::default())
        .head(&format!("http://{address}/"), &[])
        .unwrap();
    assert_eq!((answer.status, answer.header("Date")), (302, Some("today")));
}

#[test]
fn shut_down_aborts_a_request_in_another_thread() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let client = std::sync::Arc::new(client(ClientSettings::default()));
    let other = std::sync::Arc::clone(&client);
    let asking = std::thread::spawn(move || other.get(&url, &[]).unwrap_err());
    let (_connection, _) = silent.accept().unwrap();
    client.shut_down();
    asking.join().unwrap();
}

/// A redirect would send samples and the password to another server.
#[test]
fn post_does_not_follow_redirects() {
    let answer = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    let (address, _requests) = server(answer);
    let url = format!("http://{address}/");
    assert_eq!(
        client(ClientSettings::default())
            .post(&url, &[], b"x")
            .unwrap()
            .status,
        302
    );
    let stays = ClientSettings {
        follow_redirects: false,
        ..ClientSettings::default()
    };
    assert_eq!(client(stays).get(&url, &[]).unwrap().status, 302);
    assert!(
        client(ClientSettings::default()).get(&url, &[]).is_err(),
        "the redirect was followed to a closed port"
    );
}

/// A server that redirects to `location`.
fn redirect_server(location: &str) -> (SocketAddr, Receiver<String>) {
    let answer = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
    server(Box::leak(answer.into_boxed_str()))
}

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A client with every kind of secret.
fn client_with_secrets() -> Client {
    client(ClientSettings {
        headers: vec![
            ("X-Key".into(), Secret::new("s3cret")),
            ("Cookie".into(), Secret::new("id=s3cret")),
            ("X-Scope-OrgID".into(), Secret::new("s3cret")),
        ],
        authorization: Some(Authorization {
            kind: "Bearer".into(),
            credentials: SecretSource::Inline(Secret::new("s3cret")),
        }),
        ..ClientSettings::default()
    })
}

#[test]
fn redirect_to_another_server_gets_no_login_and_no_configured_headers() {
    let (end, ended) = server(HI);
    // By another port, by another name of this host, and by way of a third server.
    let (third, passed) = redirect_server(&format!("http://{end}/third"));
    for location in [
        format!("http://{end}/x"),
        format!("//{end}/x"),
        format!("http://localhost:{}/x", end.port()),
        format!("http://{third}/"),
    ] {
        let (first, asked) = redirect_server(&location);
        let accept = [("Accept", "text/plain")];
        let answer = client_with_secrets().get(&format!("http://{first}/"), &accept);
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
fn redirect_within_a_server_keeps_login_and_configured_headers() {
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
    let answer = client_with_secrets().get(&format!("http://{address}/a"), &[]);
    assert_eq!(answer.unwrap().body, b"hi");
    let requests = thread.join().unwrap();
    assert!(requests[1].starts_with("GET /b HTTP/1.1"), "{requests:?}");
    assert_eq!(requests[1].matches("s3cret").count(), 4, "{requests:?}");
}

/// The other server chose the path, so the first server gets no secrets with that request.
#[test]
fn redirect_back_to_the_first_server_gets_no_login() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (other, _asked) = redirect_server(&format!("http://{address}/again"));
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
    let answer = client_with_secrets().get(&format!("http://{address}/"), &[]);
    assert_eq!(answer.unwrap().body, b"hi");
    let requests = thread.join().unwrap();
    assert_eq!(requests[0].matches("s3cret").count(), 4, "{requests:?}");
    assert!(!requests[1].contains("s3cret"), "{requests:?}");
}

#[test]
fn redirects_are_limited_in_number_and_to_http_urls() {
    let (address, requests) = redirect_server("/again");
    let answer = client(ClientSettings::default()).get(&format!("http://{address}/"), &[]);
    assert_eq!(answer.unwrap().status, 302);
    assert_eq!(requests.try_iter().count(), 1 + MAX_REDIRECTS as usize);
    for location in ["http://me:s3cret@127.0.0.1:1/", "file:///etc/passwd"] {
        let (address, _requests) = redirect_server(location);
        let error = client(ClientSettings::default()).get(&format!("http://{address}/"), &[]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("it redirects to"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn malformed_urls_are_refused() {
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
    let socks = ClientSettings {
        proxy_url: Some(Secret::new("socks5://127.0.0.1:1080")),
        ..ClientSettings::default()
    };
    assert!(Client::new(socks, LIMITS).is_err());
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_tls_https_is_refused_with_what_would_help() {
    let error = client(ClientSettings::default()).get("https://127.0.0.1:1/", &[]);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("build with the feature `tls`"), "{error}");
}
