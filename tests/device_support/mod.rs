//! A stand-in for devices that are read by HTTP: it answers as a test's [`Device`] says, and misbehaves on demand.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a device answers.
pub trait Device: Send + 'static {
    /// The whole response to a GET of this path, with its query, and this `Authorization`.
    fn answer(&mut self, path: &str, authorization: Option<&str>) -> String;
}

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
    /// Announces a length that ends in the middle of the body.
    Truncated,
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
    /// Sends many headers.
    LongHead,
    Resets,
    /// Sends something other than HTTP.
    Garbage,
}

/// A device, and what was asked of it.
pub struct State<D> {
    device: D,
    pub mood: Mood,
    /// The behaviour at single paths, by their ends.
    pub moods: HashMap<&'static str, Mood>,
    /// Path and `Authorization` of each request, in order.
    pub requests: Vec<(String, Option<String>)>,
    pub connections: usize,
}

impl<D> Deref for State<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.device
    }
}

impl<D> DerefMut for State<D> {
    fn deref_mut(&mut self) -> &mut D {
        &mut self.device
    }
}

pub struct Server<D> {
    pub address: SocketAddr,
    state: Arc<Mutex<State<D>>>,
}

impl<D> Clone for Server<D> {
    fn clone(&self) -> Server<D> {
        Server {
            address: self.address,
            state: Arc::clone(&self.state),
        }
    }
}

impl<D: Device> Server<D> {
    pub fn of(device: D) -> Server<D> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State {
                device,
                mood: Mood::Well,
                moods: HashMap::new(),
                requests: Vec::new(),
                connections: 0,
            })),
        };
        let shared = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = shared.clone();
                server.with(|state| state.connections += 1);
                std::thread::spawn(move || server.serve(stream));
            }
        });
        server
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State<D>) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    pub fn requests(&self) -> usize {
        self.with(|state| state.requests.len())
    }

    /// The paths of all requests.
    pub fn paths(&self) -> Vec<String> {
        self.with(|state| {
            let paths = state.requests.iter().map(|(path, _)| path.clone());
            paths.collect()
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
                let mut moods = state.moods.iter();
                let own = moods.find(|(end, _)| path.ends_with(**end));
                let mood = own.map_or(state.mood, |(_, mood)| *mood);
                (mood, state.device.answer(&path, authorization.as_deref()))
            });
            if !respond(&mut stream, mood, &answer) {
                return;
            }
        }
    }
}

pub fn page(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
}

pub fn json(body: &str) -> String {
    page("200 OK", "application/json", body)
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
                more = send(&block);
            }
            false
        }
        Mood::Truncated => {
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            send(&json(&body[..body.len() / 2]))
        }
        Mood::BreaksOff => {
            let _ = send(&answer[..answer.len() - 20]);
            false
        }
        Mood::IsGone => false,
        Mood::Says(text) => send(&json(text)),
        Mood::Status(status) => send(&format!(
            "HTTP/1.1 {status} Elsewhere\r\nLocation: http://127.0.0.1:1/login?t=s3cret-token\r\nContent-Length: 0\r\n\r\n"
        )),
        Mood::Deep => send(&json(&format!(
            "{}1{}",
            "[".repeat(10_000),
            "]".repeat(10_000)
        ))),
        Mood::LongHead => {
            let mut more = send("HTTP/1.1 200 OK\r\n");
            for i in 0..4096 {
                more = more && send(&format!("X-{i}: {}\r\n", "y".repeat(100)));
            }
            false
        }
        Mood::Resets => {
            let now = nix::libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &now).unwrap();
            let _ = stream.shutdown(std::net::Shutdown::Read);
            false
        }
        Mood::Garbage => {
            let _ = send("SSH-2.0-dropbear\r\n");
            false
        }
    }
}
