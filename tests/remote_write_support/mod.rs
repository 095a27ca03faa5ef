//! A receiver on loopback that answers as it is told, and reads what it is sent by itself: HTTP, snappy and protobuf,
//! with nothing of ours but the specification.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod decode;
pub mod process;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use edge_metrics_exporter::config;
use edge_metrics_exporter::metrics::{Desc, Group, Policy, Readings, Registry, WallClock};
use edge_metrics_exporter::remote_write::{Feed, Labels, MemoryFeed, Sender};
use edge_metrics_exporter::sys::clock::BootTime;

use crate::support::{wait_until, PATIENCE};

/// Name, labels and value of a series.
pub type Given<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

pub use decode::Message;

/// A request as it came.
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

/// What is answered: a status, headers in full lines, a body. An empty status line closes the connection instead.
#[derive(Clone)]
pub struct Answer(pub String);

pub fn status(code: u16) -> Answer {
    answer(code, "", "")
}

/// With these header lines, each ended by `\r\n`.
pub fn answer(code: u16, headers: &str, body: &str) -> Answer {
    let length = body.len();
    Answer(format!(
        "HTTP/1.1 {code} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    ))
}

/// As a receiver of 2.0 answers one that it took whole.
pub fn written(samples: usize) -> Answer {
    let header = format!("X-Prometheus-Remote-Write-Samples-Written: {samples}\r\n");
    answer(204, &header, "")
}

type Script = dyn FnMut(usize, &Request) -> Answer + Send;

pub struct Receiver {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    /// Header lines of the answers to requests without samples.
    heads: Arc<Mutex<String>>,
}

impl Receiver {
    /// Answers the requests with samples by `script`, which is given each one's number from 0; others with 405.
    pub fn new(script: impl FnMut(usize, &Request) -> Answer + Send + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let heads = Arc::<Mutex<String>>::default();
        let (all, of_heads) = (Arc::clone(&requests), Arc::clone(&heads));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, all) = (Arc::clone(&script), Arc::clone(&all));
                let heads = Arc::clone(&of_heads);
                std::thread::spawn(move || serve(stream, &script, &all, &heads));
            }
        });
        Receiver {
            address,
            requests,
            heads,
        }
    }

    /// What time it is there, for those who ask.
    pub fn set_date(&self, date: &str) {
        *self.heads.lock().unwrap() = format!("Date: {date}\r\n");
    }

    /// Takes everything, of either generation.
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

    /// Waits until there have been so many.
    pub fn wait_for(&self, count: usize) -> Vec<Request> {
        wait_until(&format!("{count} requests"), || {
            let requests = self.requests();
            (requests.len() >= count).then_some(requests)
        })
    }

    /// All samples of a family in what was sent, in the order of arrival: stamps and values.
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
    heads: &Mutex<String>,
) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let answer = if request.method == "POST" {
            // The script's lock makes a number of each request.
            let mut script = script.lock().unwrap();
            let number = {
                let mut all = all.lock().unwrap();
                all.push(request.clone());
                all.len() - 1
            };
            script(number, &request).0
        } else {
            let head = heads.lock().unwrap();
            format!("HTTP/1.1 405 No\r\n{head}Content-Length: 0\r\n\r\n")
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

fn entry(url: &str, settings: &str) -> config::RemoteWrite {
    let text = format!("remote_write:\n  - url: {url}\n{settings}");
    let (mut config, _) = config::parse(&text).unwrap();
    config.remote_write.remove(0)
}

pub const SECOND: &str = "    protobuf_message: io.prometheus.write.v2.Request\n";

/// What is sent of one reading.
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

/// A board with one source that publishes what it is told, and a sender to a receiver.
pub struct Board {
    pub registry: Arc<Registry>,
    pub group: Arc<Group>,
    pub sender: Option<Sender>,
    generation: u64,
    at: BootTime,
}

impl Board {
    /// With this configuration below the entry's URL; each line indented by four spaces. It sends at once.
    pub fn new(receiver: &Receiver, settings: &str) -> Board {
        Board::with_clock(&receiver.url(), settings, WallClock::default())
    }

    pub fn with_clock(url: &str, settings: &str, clock: WallClock) -> Board {
        let mut board = Board::silent();
        board.send_to(url, settings, clock);
        board
    }

    /// Without a sender.
    pub fn silent() -> Board {
        let registry = Arc::new(Registry::new(Policy::All));
        let labels = vec![("hostname".to_string(), "edge-01".to_string())];
        let group = registry.add_group(0, "test", labels);
        group.history().limit(Duration::from_secs(3600), 4 << 20);
        group.set_interval(Duration::from_secs(1));
        Board {
            generation: group.new_generation(),
            registry,
            group,
            sender: None,
            at: BootTime(0),
        }
    }

    pub fn send_to(&mut self, url: &str, settings: &str, clock: WallClock) {
        let queue =
            "    queue_config: {batch_send_deadline: 20ms, min_backoff: 5ms, max_backoff: 40ms}\n";
        let queue = if settings.contains("queue_config") {
            ""
        } else {
            queue
        };
        let entry = entry(url, &format!("{queue}{settings}"));
        let own = [("job", entry.job.as_str()), ("instance", "edge-01:9100")];
        let own = own.map(|(name, value)| (name.to_string(), value.to_string()));
        let labels = Labels::new(entry.external_labels.iter().cloned().chain(own));
        let feed = MemoryFeed::new(Arc::clone(&self.registry), labels, BootTime(0));
        self.sender = Some(Sender::start(entry, Box::new(feed), Arc::new(clock)).unwrap());
    }

    /// The same with another feed.
    pub fn send(&mut self, feed: Box<dyn Feed>, url: &str, settings: &str) {
        let sender = Sender::start(entry(url, settings), feed, Arc::default());
        self.sender = Some(sender.unwrap());
    }

    /// Publishes one reading: values of gauges, and increases of counters, which have names that end in `_total`.
    pub fn publish(&mut self, values: &[(&str, f64)]) {
        self.publish_labelled(
            &values
                .iter()
                .map(|(n, v)| (*n, &[][..], *v))
                .collect::<Vec<_>>(),
        );
    }

    pub fn publish_labelled(&mut self, values: &[Given<'_>]) {
        // No two readings in one millisecond.
        while BootTime::now().0 < self.at.0 + 1_100_000 {
            std::thread::sleep(Duration::from_micros(200));
        }
        self.publish_at(BootTime::now(), values);
    }

    /// The same of a reading at this moment.
    pub fn publish_at(&mut self, at: BootTime, values: &[Given<'_>]) {
        let mut out = Readings::new(5.0);
        self.at = at;
        out.begin(at);
        for (name, labels, value) in values {
            if name.ends_with("_total") {
                let help = format!("Help of {name}, \"quoted\" and\nbroken.");
                let desc = Desc::counter(name.to_string(), help);
                out.add(self.group.series(&desc, labels), *value);
            } else {
                let desc = Desc::gauge(name.to_string(), format!("Help of {name}."));
                out.set(self.group.series(&desc, labels), *value);
            }
        }
        assert!(self.group.publish(self.generation, &out));
    }

    pub fn sender(&self) -> &Sender {
        self.sender.as_ref().unwrap()
    }

    pub fn numbers(&self) -> edge_metrics_exporter::remote_write::Numbers {
        self.sender().stats().numbers()
    }

    pub fn dropped(&self, reason: &str) -> u64 {
        self.numbers().dropped.get(reason).copied().unwrap_or(0)
    }

    /// Has the sender send what is left, and end.
    pub fn finish(&mut self) {
        let sender = self.sender.take().unwrap();
        let deadline = Instant::now() + PATIENCE;
        sender.finish(deadline);
        sender.join(deadline);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.hand_over();
        }
    }
}
