//! A stand-in for devices that answer by HTTP with JSON, and that misbehave on demand.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The behaviour of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Accepts requests and never responds.
    Hangs,
    /// Sends one byte at a time.
    Drips,
    /// Sends a body without an end.
    Endless,
    /// Closes the connection in the middle of the response.
    BreaksOff,
    /// Closes the connection without a response.
    IsGone,
    /// Sends this instead of an answer.
    Says(&'static str),
    /// Answers with this status, as a redirect to elsewhere.
    Status(u16),
    /// Sends deeply nested JSON.
    Deep,
}

pub struct State {
    /// Bodies by path, with the query. Other paths have the status 404.
    pub answers: HashMap<String, String>,
    /// The whole `Authorization` header that is required.
    pub login: Option<String>,
    pub mood: Mood,
    /// Path and `Authorization` of each request, in order.
    pub requests: Vec<(String, Option<String>)>,
    pub connections: usize,
}

#[derive(Clone)]
pub struct Device {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

pub fn fixture(name: &str) -> String {
    let path = format!(
        "{}/tests/fixtures/json/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read_to_string(path).unwrap()
}

impl Device {
    pub fn start(answers: &[(&str, &str)]) -> Device {
        let answers = answers
            .iter()
            .map(|(path, body)| (path.to_string(), body.to_string()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let device = Device {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State {
                answers: answers.collect(),
                login: None,
                mood: Mood::Well,
                requests: Vec::new(),
                connections: 0,
            })),
        };
        let shared = device.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let device = shared.clone();
                device.with(|state| state.connections += 1);
                std::thread::spawn(move || device.serve(stream));
            }
        });
        device
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    pub fn set(&self, path: &str, body: &str) {
        self.with(|state| state.answers.insert(path.to_string(), body.to_string()));
    }

    pub fn requests(&self) -> usize {
        self.with(|state| state.requests.len())
    }

    /// The paths of all requests.
    pub fn paths(&self) -> Vec<String> {
        self.with(|state| {
            state
                .requests
                .iter()
                .map(|(path, _)| path.clone())
                .collect()
        })
    }

    fn serve(&self, mut stream: TcpStream) {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some((path, authorization)) = request(&mut reader) {
            let (mood, answer) = self.with(|state| {
                state.requests.push((path.clone(), authorization.clone()));
                (state.mood, state.answer(&path, authorization.as_deref()))
            });
            if !respond(&mut stream, mood, &answer) {
                return;
            }
        }
    }
}

impl State {
    fn answer(&self, path: &str, authorization: Option<&str>) -> String {
        if self.login.is_some() && self.login.as_deref() != authorization {
            return "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"1\"\r\nContent-Length: 2\r\n\r\n{}"
                .to_string();
        }
        match self.answers.get(path) {
            Some(body) => page("200 OK", "application/json", body),
            None => page("404 Not Found", "text/html", "<html>not found</html>"),
        }
    }
}

fn page(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn request(reader: &mut impl BufRead) -> Option<(String, Option<String>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let path = line.split(' ').nth(1)?.to_string();
    assert!(
        line.starts_with("GET ") && line.ends_with(" HTTP/1.1\r\n"),
        "{line:?}"
    );
    let mut authorization = None;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|n| *n > 0)?;
        match header.trim_end().split_once(':') {
            None => return Some((path, authorization)),
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                authorization = Some(value.trim().to_string());
            }
            Some(_) => {}
        }
    }
}

/// Sends the response in this mood; false: the connection is over.
fn respond(stream: &mut TcpStream, mood: Mood, answer: &str) -> bool {
    let mut send = |text: &str| stream.write_all(text.as_bytes()).is_ok();
    match mood {
        Mood::Well => send(answer),
        Mood::Hangs => {
            // Until the client gives up.
            let _ = stream.read(&mut [0]);
            false
        }
        Mood::Drips => {
            for byte in answer.bytes() {
                if stream.write_all(&[byte]).is_err() {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            false
        }
        Mood::Endless => {
            let mut more = send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"x\": \"");
            let block = "x".repeat(4096);
            while more {
                more = stream.write_all(block.as_bytes()).is_ok();
            }
            false
        }
        Mood::BreaksOff => {
            let _ = send(&answer[..answer.len() - 20]);
            false
        }
        Mood::IsGone => false,
        Mood::Says(text) => send(&page("200 OK", "application/json", text)),
        Mood::Status(status) => send(&format!(
            "HTTP/1.1 {status} Elsewhere\r\nLocation: http://127.0.0.1:1/login?t=s3cret-token\r\nContent-Length: 0\r\n\r\n"
        )),
        Mood::Deep => {
            let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
            send(&page("200 OK", "application/json", &deep))
        }
    }
}
