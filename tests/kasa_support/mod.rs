//! A stand-in for TP-Link Kasa plugs and strips, which misbehaves on demand.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The behaviour of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Closes the connection after each answer, as some firmware does.
    ClosesAfterEach,
    /// Accepts requests and never answers.
    Hangs,
    /// Sends one byte at a time.
    Drips,
    /// Says that four gigabytes follow.
    TooLong,
    /// Closes the connection in the middle of the answer.
    BreaksOff,
    /// Answers with this text.
    Says(&'static str),
    /// Answers as a server of HTTP.
    IsHttp,
}

pub struct State {
    pub mood: Mood,
    /// What `get_sysinfo` is answered with.
    pub sysinfo: String,
    /// What `get_realtime` is answered with, by the id of the socket; of a single plug, by "".
    pub realtime: Vec<(&'static str, String)>,
    pub requests: Vec<String>,
    pub connections: usize,
}

#[derive(Clone)]
pub struct Device {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

fn code(bytes: &[u8], encrypts: bool) -> Vec<u8> {
    let mut last = 0xab;
    let mut out = Vec::new();
    for byte in bytes {
        let other = byte ^ last;
        last = if encrypts { other } else { *byte };
        out.push(other);
    }
    out
}

impl Device {
    pub fn start(sysinfo: &str, realtime: &[(&'static str, &str)]) -> Device {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let realtime = realtime.iter().map(|(id, body)| (*id, body.to_string()));
        let device = Device {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State {
                mood: Mood::Well,
                sysinfo: sysinfo.to_string(),
                realtime: realtime.collect(),
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

    pub fn set(&self, id: &str, body: &str) {
        self.with(|state| {
            let found = state.realtime.iter_mut().find(|(known, _)| *known == id);
            found.unwrap().1 = body.to_string();
        });
    }

    fn serve(&self, mut stream: TcpStream) {
        let timeout = Some(Duration::from_secs(60));
        stream.set_read_timeout(timeout).unwrap();
        loop {
            let mut head = [0; 4];
            if stream.read_exact(&mut head).is_err() {
                return;
            }
            let mut request = vec![0; u32::from_be_bytes(head) as usize];
            if stream.read_exact(&mut request).is_err() {
                return;
            }
            let request = String::from_utf8(code(&request, false)).unwrap();
            let (mood, answer) = self.with(|state| {
                state.requests.push(request.clone());
                (state.mood, state.answer(&request))
            });
            if !respond(&mut stream, mood, &answer) {
                return;
            }
        }
    }
}

impl State {
    fn answer(&self, request: &str) -> String {
        let request: serde_json::Value = serde_json::from_str(request).unwrap();
        if request["system"]["get_sysinfo"].is_object() {
            return format!(r#"{{"system":{{"get_sysinfo":{}}}}}"#, self.sysinfo);
        }
        assert!(request["emeter"]["get_realtime"].is_object(), "{request}");
        let id = request["context"]["child_ids"][0].as_str().unwrap_or("");
        let body = self.realtime.iter().find(|(known, _)| *known == id);
        match body {
            Some((_, body)) => format!(r#"{{"emeter":{{"get_realtime":{body}}}}}"#),
            None => r#"{"emeter":{"err_code":-1,"err_msg":"module not support"}}"#.to_string(),
        }
    }
}

/// Returns whether the connection goes on.
fn respond(stream: &mut TcpStream, mood: Mood, answer: &str) -> bool {
    let answer = match mood {
        Mood::Says(text) => text,
        _ => answer,
    };
    let mut frame = (answer.len() as u32).to_be_bytes().to_vec();
    frame.extend(code(answer.as_bytes(), true));
    match mood {
        Mood::Well | Mood::Says(_) => stream.write_all(&frame).is_ok(),
        Mood::ClosesAfterEach => {
            let _ = stream.write_all(&frame);
            false
        }
        Mood::Hangs => {
            std::thread::sleep(Duration::from_secs(120));
            false
        }
        Mood::Drips => {
            for byte in frame {
                if stream.write_all(&[byte]).is_err() {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(500));
            }
            true
        }
        Mood::TooLong => {
            let _ = stream.write_all(&[0xff; 4]);
            while stream.write_all(&[0xff; 4096]).is_ok() {}
            false
        }
        Mood::BreaksOff => {
            let _ = stream.write_all(&frame[..frame.len() / 2]);
            false
        }
        Mood::IsHttp => {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            false
        }
    }
}
