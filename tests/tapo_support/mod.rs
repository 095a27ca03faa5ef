//! A stand-in for TP-Link Tapo plugs and strips, written from the protocol (KLAP), which misbehaves on demand. It shares no code with the
//! client: tests/fixtures/klap has what python-kasa computes.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use aes::Aes128;
use md5::Md5;
use serde_json::{json, Value};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The behaviour of the plug after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Closes the connection after each answer.
    ClosesAfterEach,
    /// Accepts requests and never answers.
    Hangs,
    /// Sends a body without an end.
    Endless,
    /// Answers with this status.
    Status(u16),
    /// Answers with this body, not encrypted.
    Plain(&'static [u8]),
    /// Answers with this text, encrypted.
    Says(&'static str),
    /// Encrypts with other keys.
    OtherKeys,
    /// The last byte of the answer is missing.
    BreaksOff,
}

struct Session {
    aes: Aes128,
    vector: Vec<u8>,
    signature: Vec<u8>,
    number: i32,
    cookie: String,
    is_confirmed: bool,
    proof: Vec<u8>,
}

pub struct State {
    pub mood: Mood,
    /// The account that the plug belongs to.
    pub login: (&'static str, &'static str),
    /// 1: as Kasa plugs; 2: as Tapo plugs.
    pub version: u32,
    /// What is answered to a method, or to a module's command of Kasa's; of a socket, to `<id> <method>`. Others are refused.
    pub answers: HashMap<String, Value>,
    /// The status of an answer to each handshake.
    pub handshake_status: u16,
    /// The cookie's time, in seconds.
    pub timeout: u32,
    pub handshakes: usize,
    pub requests: Vec<String>,
    pub connections: usize,
    /// What the client did wrong.
    pub violations: Vec<String>,
    session: Option<Session>,
}

#[derive(Clone)]
pub struct Plug {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    Sha256::digest(parts.concat()).to_vec()
}

fn cbc(session: &Session, body: &[u8], encrypts: bool) -> Vec<u8> {
    let mut last = [&session.vector[..], &session.number.to_be_bytes()].concat();
    let mut out = Vec::new();
    for block in body.chunks(16) {
        let xor = |a: &[u8], b: &[u8]| -> Vec<u8> { a.iter().zip(b).map(|(a, b)| a ^ b).collect() };
        if encrypts {
            let mut block = *aes::Block::from_slice(&xor(block, &last));
            session.aes.encrypt_block(&mut block);
            last = block.to_vec();
            out.extend_from_slice(&block);
        } else {
            let mut plain = *aes::Block::from_slice(block);
            session.aes.decrypt_block(&mut plain);
            out.extend(xor(&plain, &last));
            last = block.to_vec();
        }
    }
    out
}

fn encrypt(session: &Session, text: &[u8]) -> Vec<u8> {
    let padding = 16 - text.len() % 16;
    let padded = [text, &vec![padding as u8; padding]].concat();
    let body = cbc(session, &padded, true);
    let number = session.number.to_be_bytes();
    let signature = sha256(&[&session.signature, &number, &body]);
    [signature, body].concat()
}

impl Plug {
    /// A plug of an account, with these answers to Tapo's methods.
    pub fn start(login: (&'static str, &'static str), answers: &[(&str, Value)]) -> Plug {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let answers = answers
            .iter()
            .map(|(key, value)| (key.to_string(), value.clone()));
        let plug = Plug {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State {
                mood: Mood::Well,
                login,
                version: 2,
                answers: answers.collect(),
                handshake_status: 200,
                timeout: 86_400,
                handshakes: 0,
                requests: Vec::new(),
                connections: 0,
                violations: Vec::new(),
                session: None,
            })),
        };
        let shared = plug.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let plug = shared.clone();
                plug.with(|state| state.connections += 1);
                std::thread::spawn(move || plug.serve(stream));
            }
        });
        plug
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    pub fn set(&self, key: &str, value: Value) {
        self.with(|state| state.answers.insert(key.to_string(), value));
    }

    /// Forgets the session, as after a restart, or when another program begins one.
    pub fn end_session(&self) {
        self.with(|state| state.session = None);
    }

    fn serve(&self, mut stream: TcpStream) {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some((path, cookie, body)) = request(&mut reader) {
            let (mood, answer) = self.with(|state| {
                let mood = match path.starts_with("/app/request") {
                    true => state.mood,
                    false => Mood::Well,
                };
                (mood, state.answer(&path, &cookie, &body))
            });
            let goes_on = match mood {
                Mood::Hangs => {
                    let _ = stream.read(&mut [0]);
                    false
                }
                Mood::Endless => {
                    let mut more = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").is_ok();
                    while more {
                        more = stream.write_all(&[7; 4096]).is_ok();
                    }
                    false
                }
                Mood::ClosesAfterEach => {
                    let _ = stream.write_all(&answer);
                    false
                }
                _ => stream.write_all(&answer).is_ok(),
            };
            if !goes_on {
                return;
            }
        }
    }
}

fn page(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Path, cookie and body.
fn request(reader: &mut impl BufRead) -> Option<(String, String, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    assert!(line.starts_with("POST "), "{line:?}");
    let path = line.split(' ').nth(1)?.to_string();
    let (mut cookie, mut length) = (String::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|n| *n > 0)?;
        match header.trim_end().split_once(": ") {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("cookie") => cookie = value.into(),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, cookie, body))
}

impl State {
    fn auth(&self) -> Vec<u8> {
        let (username, password) = self.login;
        match self.version {
            1 => Md5::digest([Md5::digest(username), Md5::digest(password)].concat()).to_vec(),
            _ => sha256(&[&Sha1::digest(username), &Sha1::digest(password)]),
        }
    }

    fn answer(&mut self, path: &str, cookie: &str, body: &[u8]) -> Vec<u8> {
        match path {
            "/app/handshake1" => self.handshake(body),
            "/app/handshake2" => match &mut self.session {
                Some(session) if session.cookie == cookie && session.proof == body => {
                    session.is_confirmed = true;
                    page(200, "", b"")
                }
                _ => {
                    self.violations.push(format!("handshake2 with {cookie:?}"));
                    page(403, "", b"")
                }
            },
            _ => self.request(path, cookie, body),
        }
    }

    fn handshake(&mut self, local: &[u8]) -> Vec<u8> {
        self.handshakes += 1;
        if self.handshake_status != 200 {
            return page(self.handshake_status, "", b"{\"error_code\":1003}");
        }
        assert_eq!(local.len(), 16);
        let remote = &sha256(&[b"remote", local])[..16];
        let auth = &self.auth()[..];
        let (own, proof) = match self.version {
            1 => (sha256(&[local, auth]), sha256(&[remote, auth])),
            _ => (
                sha256(&[local, remote, auth]),
                sha256(&[remote, local, auth]),
            ),
        };
        let derive = |what: &[u8]| sha256(&[what, local, remote, auth]);
        let vector = derive(b"iv");
        let cookie = format!("TP_SESSIONID=C0FFEE{}", self.handshakes);
        self.session = Some(Session {
            aes: Aes128::new_from_slice(&derive(b"lsk")[..16]).unwrap(),
            number: i32::from_be_bytes(vector[28..].try_into().unwrap()),
            vector: vector[..12].to_vec(),
            signature: derive(b"ldk")[..28].to_vec(),
            cookie: cookie.clone(),
            is_confirmed: false,
            proof,
        });
        let headers = format!("Set-Cookie: {cookie};TIMEOUT={}\r\n", self.timeout);
        page(200, &headers, &[remote, &own].concat())
    }

    fn request(&mut self, path: &str, cookie: &str, body: &[u8]) -> Vec<u8> {
        let number: i32 = path
            .strip_prefix("/app/request?seq=")
            .unwrap()
            .parse()
            .unwrap();
        let Some(session) = self
            .session
            .as_mut()
            .filter(|s| s.is_confirmed && s.cookie == cookie)
        else {
            return page(403, "", b"");
        };
        let (signature, encrypted) = body.split_at(32);
        let next = session.number.wrapping_add(1);
        let wanted = sha256(&[&session.signature, &number.to_be_bytes(), encrypted]);
        if number != next || signature != wanted {
            self.violations
                .push(format!("request {number} after {}", session.number));
            return page(403, "", b"");
        }
        session.number = number;
        let mut text = cbc(session, encrypted, false);
        text.truncate(text.len() - usize::from(*text.last().unwrap()));
        let text = String::from_utf8(text).unwrap();
        self.requests.push(text.clone());
        let answer = self.say(&serde_json::from_str(&text).unwrap());
        let session = self.session.as_mut().unwrap();
        match self.mood {
            Mood::Status(status) => page(status, "", b""),
            Mood::Plain(body) => page(200, "", body),
            Mood::Says(text) => page(200, "", &encrypt(session, text.as_bytes())),
            Mood::OtherKeys => {
                let mut body = encrypt(session, answer.to_string().as_bytes());
                body.iter_mut().for_each(|byte| *byte ^= 0x55);
                page(200, "", &body)
            }
            Mood::BreaksOff => {
                let body = encrypt(session, answer.to_string().as_bytes());
                page(200, "", &body[..body.len() - 1])
            }
            _ => page(200, "", &encrypt(session, answer.to_string().as_bytes())),
        }
    }

    fn say(&self, request: &Value) -> Value {
        let of = |key: &str| match self.answers.get(key) {
            Some(result) => json!({"error_code": 0, "result": result}),
            None => json!({"error_code": -1002}),
        };
        match request["method"].as_str() {
            Some("control_child") => {
                let data = &request["params"]["requestData"]["method"];
                let id = &request["params"]["device_id"];
                let answer = of(&format!(
                    "{} {}",
                    id.as_str().unwrap(),
                    data.as_str().unwrap()
                ));
                json!({"error_code": 0, "result": {"responseData": answer}})
            }
            Some(method) if self.answers.contains_key("system") => {
                json!({ method: {"err_code": -1, "err_msg": "module not support"} })
            }
            Some(method) => of(method),
            None => {
                let module = request
                    .as_object()
                    .unwrap()
                    .keys()
                    .next_back()
                    .unwrap()
                    .clone();
                let unknown = json!({"err_code": -1, "err_msg": "module not support"});
                json!({ &module: self.answers.get(&module).unwrap_or(&unknown) })
            }
        }
    }
}
