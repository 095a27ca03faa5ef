//! A receiver on loopback with scripted responses. Its HTTP, snappy and protobuf parsers are written from the specifications
//! and share no code with the sender.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod board;
pub mod decode;
pub mod process;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::support::wait_until;

/// Name, labels and value of a series.
pub type Given<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

pub use board::Board;
pub use decode::Message;

/// A received request.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let (_, value) = found.next()?;
        assert!(found.next().is_none(), "{name} twice");
        Some(value)
    }

    pub fn message(&self) -> Message {
        let second = self.header("Content-Type").unwrap().contains("write.v2");
        decode::message(&self.body, second)
    }

    pub fn is_second(&self) -> bool {
        self.header("X-Prometheus-Remote-Write-Version")
            .unwrap()
            .starts_with("2.")
    }
}

/// A response as text: status line, headers, body. An empty one closes the connection instead.
#[derive(Clone)]
pub struct Answer(pub String);

pub fn status(code: u16) -> Answer {
    answer(code, "", "")
}

/// A response with these header lines, each ended by `\r\n`.
pub fn answer(code: u16, headers: &str, body: &str) -> Answer {
    let length = body.len();
    Answer(format!(
        "HTTP/1.1 {code} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    ))
}

/// The response of a receiver of 2.0 that stored everything.
pub fn written(samples: usize) -> Answer {
    let header = format!("X-Prometheus-Remote-Write-Samples-Written: {samples}\r\n");
    answer(204, &header, "")
}

type Heads = dyn Fn() -> Option<String> + Send;
type Script = dyn FnMut(usize, &Request) -> Answer + Send;

pub struct Receiver {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    others: Arc<Mutex<Vec<Request>>>,
    /// Makes the header lines of the answers to requests without samples; `None`: those are cut off.
    heads: Arc<Mutex<Box<Heads>>>,
}

impl Receiver {
    /// Answers requests with samples by `script`, which gets their number from 0, and others with 405.
    pub fn new(script: impl FnMut(usize, &Request) -> Answer + Send + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let heads: Arc<Mutex<Box<Heads>>> = Arc::new(Mutex::new(Box::new(|| Some(String::new()))));
        let (all, of_heads) = (Arc::clone(&requests), Arc::clone(&heads));
        let others = Arc::<Mutex<Vec<Request>>>::default();
        let of_others = Arc::clone(&others);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, all) = (Arc::clone(&script), Arc::clone(&all));
                let heads = Arc::clone(&of_heads);
                let others = Arc::clone(&of_others);
                std::thread::spawn(move || serve(stream, &script, &all, (&heads, &others)));
            }
        });
        Receiver {
            address,
            requests,
            others,
            heads,
        }
    }

    /// The time in responses to time requests.
    pub fn set_date(&self, date: impl Fn() -> String + Send + 'static) {
        *self.heads.lock().unwrap() = Box::new(move || Some(format!("Date: {}\r\n", date())));
    }

    /// Closes connections of requests without samples, as a gateway without other paths does.
    pub fn set_curt(&self) {
        *self.heads.lock().unwrap() = Box::new(|| None);
    }

    /// Accepts everything, of either version.
    pub fn willing() -> Receiver {
        Receiver::new(|_, _| written(1_000_000))
    }

    pub fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// The requests with samples so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The requests without samples so far.
    pub fn others(&self) -> Vec<Request> {
        self.others.lock().unwrap().clone()
    }

    /// Waits for this many requests with samples.
    pub fn wait_for(&self, count: usize) -> Vec<Request> {
        wait_until(&format!("{count} requests"), || {
            let requests = self.requests();
            (requests.len() >= count).then_some(requests)
        })
    }

    /// All received samples of a family in the order of arrival: timestamps and values.
    pub fn samples(&self, name: &str) -> Vec<(i64, f64)> {
        let mut samples = Vec::new();
        for request in self.requests() {
            let message = request.message();
            for series in message.series.iter().filter(|s| s.name() == name) {
                samples.extend(series.samples.iter().map(|s| (s.stamp, s.value())));
            }
        }
        samples
    }
}

fn serve(
    stream: TcpStream,
    script: &Mutex<Box<Script>>,
    all: &Mutex<Vec<Request>>,
    (heads, others): (&Mutex<Box<Heads>>, &Mutex<Vec<Request>>),
) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let answer = if request.method == "POST" {
            // The lock makes the numbers unique.
            let mut script = script.lock().unwrap();
            let number = {
                let mut all = all.lock().unwrap();
                all.push(request.clone());
                all.len() - 1
            };
            script(number, &request).0
        } else {
            others.lock().unwrap().push(request);
            let head = heads.lock().unwrap()();
            head.map_or_else(String::new, |head| {
                format!("HTTP/1.1 405 No\r\n{head}Content-Length: 0\r\n\r\n")
            })
        };
        if answer.is_empty() || reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    let mut next = |line: &mut String| {
        line.clear();
        let read = reader.read_line(line).ok()?;
        (read > 0).then(|| line.trim_end().to_string())
    };
    let first = next(&mut line)?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers = Vec::new();
    loop {
        let text = next(&mut line)?;
        let Some((name, value)) = text.split_once(':') else {
            break;
        };
        headers.push((name.to_string(), value.trim().to_string()));
    }
    let length = headers
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case("Content-Length"));
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        headers,
        body,
        at: Instant::now(),
    })
}

pub const SECOND: &str = "    protobuf_message: io.prometheus.write.v2.Request\n";

/// The message that is sent for one reading.
pub fn sent(settings: &str, values: &[(&str, f64)]) -> Request {
    let labelled: Vec<_> = values.iter().map(|(n, v)| (*n, &[][..], *v)).collect();
    sent_labelled(settings, &labelled)
}

pub fn sent_labelled(settings: &str, values: &[Given<'_>]) -> Request {
    let receiver = Receiver::willing();
    let mut board = Board::new(&receiver, settings);
    board.publish_labelled(values);
    receiver.wait_for(1).remove(0)
}
