use std::net::UdpSocket;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::browse::browse_for;
use super::*;

/// The query of RFC 1035's form for the addresses of `plug.local`, as it must be on the wire: id, no flags, two questions; each has
/// the name, its type (A is 1, AAAA is 28), the class 1 with the highest bit (RFC 6762, 5.4).
const QUERY: &str = "0000 0002 0000 0000 0000 \
     04706c7567 056c6f63616c 00 0001 8001 \
     04706c7567 056c6f63616c 00 001c 8001";

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: String = hexadecimal.split_whitespace().collect();
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[test]
fn query_is_as_on_the_wire() {
    let plug = name("plug.local");
    let query = message::query(0x1234, &[(&plug, Kind::A), (&plug, Kind::Aaaa)]);
    assert_eq!(query[..2], [0x12, 0x34]);
    assert_eq!(query[2..], bytes(QUERY));
}

/// What a Shelly Plus 1PM answers to a query for `_shelly._tcp.local` (its documentation: the services, `gen`; the other keys as its
/// firmware has them): a pointer to the instance, and, as additional records, where it is, its text and its address. Names are
/// compressed as RFC 1035, 4.1.4 has it.
fn shelly() -> Vec<u8> {
    let instance = "shellyplus1pm-a8032ab1fe98";
    let label = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    // Header and question: `_shelly` is at 12, `local` at 25.
    let mut message = bytes("0000 8400 0001 0001 0000 0003");
    message.extend(bytes(
        "07 5f7368656c6c79 04 5f746370 05 6c6f63616c 00 000c 8001",
    ));
    // The pointer to the instance.
    message.extend(bytes("c00c 000c 0001 00000078 001d"));
    let to_instance = [0xc0, message.len() as u8];
    message.extend([label(instance), bytes("c00c")].concat());
    // Where it is: port 80 of the host.
    message.extend(to_instance);
    message.extend(bytes("0021 8001 00000078 0023 0000 0000 0050"));
    let to_host = [0xc0, message.len() as u8];
    message.extend([label("ShellyPlus1PM-A8032AB1FE98"), bytes("c019")].concat());
    // Its text.
    message.extend(to_instance);
    message.extend(bytes("0010 8001 00000078 001c"));
    message.extend([label("gen=2"), label("app=Plus1PM"), label("ver=1.4.4")].concat());
    // Its address.
    message.extend(to_host);
    message.extend(bytes("0001 8001 00000078 0004 c0a80164"));
    message
}

#[test]
fn answer_of_a_device_is_read() {
    let response = Response::parse(&shelly()).unwrap();
    assert_eq!(response.records.len(), 4);
    let [pointer, service, text, address] = &response.records[..] else {
        panic!("{response:?}");
    };
    let instance = Name::new(&["shellyplus1pm-a8032ab1fe98", "_shelly", "_tcp", "local"]).unwrap();
    assert_eq!(pointer.name, name("_shelly._tcp.local"));
    assert_eq!(pointer.data, Data::Pointer(instance.clone()));
    assert_eq!(pointer.ttl, Duration::from_secs(120));
    let host = name("shellyplus1pm-a8032ab1fe98.local");
    let data = Data::Service {
        port: 80,
        host: host.clone(),
    };
    assert_eq!((&service.name, &service.data), (&instance, &data));
    let pairs = [("gen", "2"), ("app", "Plus1PM"), ("ver", "1.4.4")];
    let pairs = pairs.map(|(key, value)| (key.to_string(), value.to_string()));
    assert_eq!(text.data, Data::Text(pairs.to_vec()));
    assert_eq!(address.name, host);
    assert_eq!(address.data, Data::Address([192, 168, 1, 100].into()));
}

#[test]
fn instance_is_what_is_before_its_service() {
    let kind = name("_http._tcp.local");
    let before = |labels: &[&str]| Name::new(labels).unwrap().before(&kind);
    let wanted = Some("NAS v1.2".to_string());
    assert_eq!(before(&["NAS v1.2", "_HTTP", "_tcp", "local"]), wanted);
    assert_eq!(before(&["NAS v1", "2", "_http", "_tcp", "local"]), wanted);
    for other in [
        &["_http", "_tcp", "local"][..],
        &["local"],
        &["a", "_ipp", "_tcp", "local"],
    ] {
        assert_eq!(before(other), None, "{other:?}");
    }
}

#[test]
fn names_end_and_lead_back_only() {
    let header = "0000 8400 0000 0001 0000 0000";
    let record = |name: &str| bytes(&format!("{header} {name} 0001 0001 00000078 0004 01020304"));
    let good = Response::parse(&record("01 61 00")).unwrap();
    assert_eq!(good.records.len(), 1);
    let label = "3f".to_string() + &"61".repeat(63);
    let long = format!("{}00", label.repeat(3));
    let too_long = format!("{}00", label.repeat(4));
    assert_eq!(Response::parse(&record(&long)).unwrap().records.len(), 1);
    for (what, name) in [
        ("a pointer to itself", "c00c"),
        ("a pointer ahead", "c00e"),
        ("a circle by a label", "01 61 c00c"),
        ("a pointer beyond the end", "ffff"),
        ("a label of a reserved kind", "80"),
        ("more than 255 bytes", &too_long),
        ("a name without an end", "3f 61"),
        ("no text", "01 ff 00"),
    ] {
        let response = Response::parse(&record(name)).unwrap();
        assert_eq!(response.records, [], "{what}");
    }
}

#[test]
fn what_is_no_response_is_not_read() {
    let good = shelly();
    assert!(Response::parse(&good).is_some());
    for (what, flags) in [("a query", 0), ("a failure", 0x8403), ("an update", 0xAC00)] {
        let mut message = good.clone();
        message[2..4].copy_from_slice(&u16::to_be_bytes(flags));
        assert_eq!(Response::parse(&message), None, "{what}");
    }
    // Cut anywhere, it has a part of the records or is none.
    for length in 0..good.len() {
        let records = Response::parse(&good[..length]).map(|response| response.records);
        assert!(records.is_none_or(|records| records.len() < 4), "{length}");
    }
}

#[test]
fn only_names_of_this_network_are_asked_for() {
    for host in [
        "plug.local",
        "Plug.LOCAL",
        "plug.local.",
        "shelly-1_a.local",
    ] {
        assert!(is_local(host), "{host}");
    }
    let long = format!("{}.local", "a".repeat(64));
    for host in [
        "local",
        ".local",
        "plug",
        "a.b.local",
        "plug.lan",
        "plug.local.lan",
        "",
        &long,
    ] {
        assert!(!is_local(host), "{host}");
    }
}

/// A responder on this machine, which gives these messages for each query, with the query's id, and the queries that it got.
struct Responder {
    address: SocketAddr,
    queries: mpsc::Receiver<(Vec<u8>, SocketAddr)>,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    fn start(answer: impl Fn(usize, &[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Responder {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let timeout = Duration::from_millis(20);
        socket.set_read_timeout(Some(timeout)).unwrap();
        let address = socket.local_addr().unwrap();
        let (sender, queries) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            for n in 0.. {
                let (length, peer) = loop {
                    if stopped.try_recv() != Err(mpsc::TryRecvError::Empty) {
                        return;
                    }
                    if let Ok(received) = socket.recv_from(&mut buffer) {
                        break received;
                    }
                };
                let query = &buffer[..length];
                for mut message in answer(n, query) {
                    if message.len() >= 2 {
                        message[..2].copy_from_slice(&query[..2]);
                    }
                    socket.send_to(&message, peer).unwrap();
                }
                let _ = sender.send((query.to_vec(), peer));
            }
        });
        Responder {
            address,
            queries,
            stop,
            thread: Some(thread),
        }
    }

    fn network(&self) -> Network {
        Network::responder(self.address)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// An answer with these records: name, type, seconds, data.
fn answer(records: &[(&str, u16, u32, &[u8])]) -> Vec<u8> {
    let mut message = bytes("0000 8400 0000");
    message.extend((records.len() as u16).to_be_bytes());
    message.extend(bytes("0000 0000"));
    for (name, kind, seconds, data) in records {
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message.extend(seconds.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(*data);
    }
    message
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn host_is_found_when_a_datagram_and_its_answer_were_lost() {
    let v6 = "fd00::7".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let responder = Responder::start(move |n, _| match n {
        0 => Vec::new(),
        _ => vec![
            // Another host's, and one that is gone.
            answer(&[
                ("other.local", 1, 120, &[10, 0, 0, 1]),
                ("plug.local", 1, 0, &[10, 0, 0, 2]),
            ]),
            answer(&[
                ("Plug.local", 28, 10, &v6),
                ("Plug.local", 1, 60, &[10, 0, 0, 7]),
            ]),
        ],
    });
    let (found, ttl) = resolve("plug.local", &responder.network(), LONG).unwrap();
    let wanted = ["10.0.0.7:0", "[fd00::7]:0"].map(|text| text.parse().unwrap());
    assert_eq!(found, wanted, "IPv4 first");
    assert_eq!(ttl, Duration::from_secs(10));
    let queries: Vec<_> = responder
        .queries
        .try_iter()
        .map(|(query, _)| query)
        .collect();
    assert!(
        queries.len() >= 2 && queries[0][2..] == bytes(QUERY),
        "{queries:?}"
    );
}

#[test]
fn addresses_that_nobody_can_have_do_not_count() {
    let link_local = "fe80::7".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let responder = Responder::start(move |_, _| {
        let all = [
            ("plug.local", 1, 60, &[0, 0, 0, 0][..]),
            ("plug.local", 1, 60, &[224, 0, 0, 251]),
            // Whose interface would that be?
            ("plug.local", 28, 60, &link_local),
        ];
        vec![answer(&all), vec![0; 12], b"x".to_vec(), Vec::new()]
    });
    let limit = Duration::from_millis(700);
    let why = resolve("plug.local", &responder.network(), limit).unwrap_err();
    assert_eq!(
        why,
        "nobody has answered to mDNS for plug.local within 0.7 s on lo"
    );
}

#[test]
fn answers_from_elsewhere_do_not_count() {
    // From another port than the one that was asked, as anybody could send them.
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let responder = Responder::start(move |_, _| Vec::new());
    let network = responder.network();
    let ask = std::thread::spawn(move || {
        resolve("plug.local", &network, Duration::from_millis(700)).map(|(found, _)| found)
    });
    let (query, peer) = responder.queries.recv().unwrap();
    let mut forged = answer(&[("plug.local", 1, 60, &[10, 6, 6, 6])]);
    forged[..2].copy_from_slice(&query[..2]);
    other.send_to(&forged, peer).unwrap();
    assert!(ask.join().unwrap().is_err());
}

#[test]
fn services_are_found_with_what_was_not_said_at_first() {
    let responder = Responder::start(|_, query| {
        let asks = |words: &[u8]| query.windows(words.len()).any(|part| part == words);
        // The first device says all at once, the second what it is asked for.
        if asks(b"\x07_shelly") {
            let pointer = b"\x04plug\x05_http\x04_tcp\x05local\0";
            let foreign = b"\x04plug\x05_ipps\x04_tcp\x05local\0";
            let of_http = ("_http._tcp.local", 12, 120, &pointer[..]);
            return vec![
                shelly(),
                answer(&[of_http, ("_ipps._tcp.local", 12, 120, foreign)]),
            ];
        }
        let mut messages = Vec::new();
        if asks(b"\x04plug\x05_http\x04_tcp\x05local\0\0\x21") {
            let place = b"\0\0\0\0\0\x50\x04plug\x05local\0";
            messages.push(answer(&[("plug._http._tcp.local", 33, 120, place)]));
        }
        if asks(b"\x04plug\x05_http\x04_tcp\x05local\0\0\x10") {
            let text = b"\x12devicetype=tasmota";
            messages.push(answer(&[
                ("plug._http._tcp.local", 16, 120, text),
                ("plug.local", 1, 120, &[10, 0, 0, 7]),
            ]));
        }
        messages
    });
    let kinds = ["_shelly._tcp", "_http._tcp"];
    let limits = [Duration::from_secs(2); 2];
    let (services, has_more) = browse_for(&kinds, &responder.network(), limits).unwrap();
    let [shelly, plug] = &services[..] else {
        panic!("{services:?}");
    };
    assert!(!has_more);
    assert_eq!(shelly.kind, "_shelly._tcp");
    assert_eq!(shelly.instance, "shellyplus1pm-a8032ab1fe98");
    assert_eq!(shelly.addresses, ["192.168.1.100:0".parse().unwrap()]);
    assert_eq!(
        (shelly.text("gen"), shelly.text("APP")),
        (Some("2"), Some("Plus1PM"))
    );
    let wanted = Service {
        kind: "_http._tcp".to_string(),
        instance: "plug".to_string(),
        host: Some(("plug.local".to_string(), 80)),
        addresses: vec!["10.0.0.7:0".parse().unwrap()],
        text: vec![("devicetype".to_string(), "tasmota".to_string())],
    };
    assert_eq!(*plug, wanted);
}

#[test]
fn flood_of_instances_is_bounded_and_said() {
    let responder = Responder::start(|_, _| {
        let pointer = |n: usize| {
            let instance = format!("plug-{n}");
            let label = [&[instance.len() as u8], instance.as_bytes()].concat();
            [&label[..], b"\x05_http\x04_tcp\x05local\0"].concat()
        };
        let message = |first: usize| {
            let pointers: Vec<_> = (first..first + 100).map(pointer).collect();
            let records = pointers.iter();
            let records: Vec<_> = records
                .map(|data| ("_http._tcp.local", 12, 120, data.as_slice()))
                .collect();
            answer(&records)
        };
        [0, 100, 200].map(message).to_vec()
    });
    let limits = [Duration::from_secs(2), Duration::from_millis(100)];
    let (services, has_more) = browse_for(&["_http._tcp"], &responder.network(), limits).unwrap();
    assert_eq!((services.len(), has_more), (browse::MAX_SERVICES, true));
}

#[test]
fn kept_addresses_are_used_until_they_are_too_old() {
    let address: SocketAddr = "10.0.0.7:0".parse().unwrap();
    keep(
        "kept.local".to_string(),
        vec![address],
        Duration::from_secs(60),
    );
    let found = look_up("KEPT.local", 8080).unwrap();
    assert_eq!(found, ["10.0.0.7:8080".parse().unwrap()]);
    keep("kept-not.local".to_string(), vec![address], Duration::ZERO);
    assert!(!lock::lock(&KEPT).contains_key("kept-not.local"));
}
