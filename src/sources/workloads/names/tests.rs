//! Real Unix sockets whose servers answer rightly, wrongly or not at all, and an API server.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::docker::parse_containers;
use super::pods::parse_pods;
use super::*;
use crate::config::Kubernetes as KubernetesSettings;
use crate::sources::testing::Tree;
use crate::sources::workloads::name::{Name, Origin};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";
const UID: &str = "2f3c4d5e-0123-4567-89ab-cdef01234567";

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/names");
    std::fs::read(folder.join(name)).unwrap()
}

fn container(id: &str) -> Workload {
    Workload {
        name: Name::new(Kind::Container, &id[..12]),
        origin: Origin {
            container_id: Some(id.to_string()),
            ..Origin::default()
        },
    }
}

fn of_pod(uid: &str, id: Option<&str>) -> Workload {
    Workload {
        name: Name::new(Kind::Pod, uid),
        origin: Origin {
            container_id: id.map(str::to_string),
            pod_uid: Some(uid.to_string()),
            ..Origin::default()
        },
    }
}

/// What a table says: the labels and the runtime.
fn known(table: &Table, workload: &Workload) -> String {
    match table.find(workload) {
        None => "unknown".to_string(),
        Some(Found { workload, .. }) => {
            let labels: Vec<_> = workload.name.labels().skip(1).map(|(_, v)| v).collect();
            let runtime = workload.origin.runtime.unwrap_or("-");
            format!("{} {runtime}", labels.join(" "))
        }
    }
}

#[test]
fn containers_of_docker_and_podman_have_their_names() {
    let table = parse_containers(&*fixture("docker.json"), "docker").unwrap();
    let web = container(&format!("{ID}1"));
    assert_eq!(known(&table, &web), "shop-web-1 docker");
    assert_eq!(
        table.find(&web).unwrap().workload.origin.labels,
        [
            ("com.docker.compose.project", "shop".to_string()),
            ("com.docker.compose.service", "web".to_string())
        ]
    );
    let nginx = of_pod(UID, Some(&format!("{ID}2")));
    assert_eq!(known(&table, &nginx), "web-0 default web-0 nginx docker");
    let sandbox = of_pod(UID, Some(&format!("{ID}3")));
    assert_eq!(known(&table, &sandbox), "web-0 default web-0 docker");
    assert!(table.find(&sandbox).unwrap().is_whole);
    assert_eq!(known(&table, &of_pod(UID, None)), "web-0 default web-0 -");

    let table = parse_containers(&*fixture("podman-4.3.1.json"), "podman").unwrap();
    let id = "898da2fdf5bb0bd088e5e4629ba094d1b5ab3134d285edf58b8302fed039a4b4";
    assert_eq!(known(&table, &container(id)), "web podman");
}

#[test]
fn pods_of_the_api_have_their_names() {
    let table = parse_pods(&*fixture("pods.json")).unwrap();
    let find = |uid: &str, n: Option<u32>| {
        let id = n.map(|n| format!("{ID}{n}"));
        known(&table, &of_pod(uid, id.as_deref()))
    };
    assert_eq!(find(UID, None), "web-0 default web-0 -");
    assert_eq!(find(UID, Some(1)), "web-0 default web-0 nginx containerd");
    assert_eq!(find(UID, Some(3)), "web-0 default web-0 setup containerd");
    assert_eq!(
        find(UID, Some(4)),
        "web-0 default web-0 debugger-x containerd"
    );
    // A static pod's cgroup has the hash of its file.
    let hash = "35bc3bbb1e3c4b7f8c1ad6f0d7a0ee1b";
    assert_eq!(find(hash, None), "etcd-node-a kube-system etcd-node-a -");
    let pending = "bbbbbbbb-0123-4567-89ab-cdef01234567";
    assert_eq!(find(pending, None), "pending default pending -");
    let crio = "cccccccc-0123-4567-89ab-cdef01234567";
    assert_eq!(find(crio, Some(6)), "crio default crio app crio");
}

#[test]
fn lists_that_are_none_are_refused() {
    let deep = vec![b'['; 100_000];
    for text in [
        &b""[..],
        b"<html>",
        b"{}",
        b"[7]",
        b"[{\"Names\":[]}]",
        b"[] []",
        b"[{\"Id\":\"x\",\"Labels\":[]}]",
        &deep,
    ] {
        assert!(parse_containers(text, "docker").is_err(), "{text:.60?}");
    }
    for text in [
        &b""[..],
        b"[]",
        b"{}",
        b"{\"items\":{}}",
        b"{\"items\":[{}]}",
        b"{\"items\":[7]}",
        &deep,
    ] {
        assert!(parse_pods(text).is_err(), "{text:.60?}");
    }
    for text in [
        "null",
        "[]",
        "[{\"Id\":\"x\"}]",
        "[{\"Id\":\"x\",\"Names\":null,\"Labels\":null}]",
    ] {
        let table = parse_containers(text.as_bytes(), "docker").unwrap();
        assert_eq!(table.len(), 0, "{text}");
    }
}

#[test]
fn hostile_names_are_cut_and_printable() {
    let long = "x".repeat(4096);
    let names = serde_json::json!([
        {"Id": format!("{ID}1"), "Names": [format!("/a\"b\n{long}")], "Labels": {"com.docker.compose.service": long}},
        {"Id": format!("{ID}2"), "Names": ["/"]},
        {"Id": format!("{ID}3"), "Names": []},
    ]);
    let table = parse_containers(names.to_string().as_bytes(), "docker").unwrap();
    let found = table.find(&container(&format!("{ID}1"))).unwrap().workload;
    assert_eq!(found.name.name.chars().count(), 64);
    assert!(found.name.name.starts_with("a\"b_xx"));
    assert_eq!(found.origin.labels[0].1.chars().count(), 128);
    assert_eq!(table.len(), 1);
}

/// Longer than any answer takes, and the time for one that never comes.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);

/// Writes an answer.
type Answer = Box<dyn Fn(&mut dyn Write) + Send>;

/// A server on a Unix socket that answers every connection with these bytes, once it has read a request.
struct Engine {
    tree: Tree,
    requests: Arc<AtomicUsize>,
}

impl Engine {
    fn new(answer: impl Fn(&mut dyn Write) + Send + 'static) -> Engine {
        let tree = Tree::new(&[]);
        let listener = UnixListener::bind(tree.path("engine.sock")).unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let Ok(read) = stream.read(&mut request) else {
                    continue;
                };
                assert!(request[..read].starts_with(b"GET /containers/json HTTP/1.1\r\n"));
                counted.fetch_add(1, Ordering::SeqCst);
                answer(&mut stream);
            }
        });
        Engine { tree, requests }
    }

    fn socket(&self) -> PathBuf {
        self.tree.path("engine.sock")
    }
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [head.as_bytes(), b"\r\n\r\n", body].concat()
}

fn write(bytes: Vec<u8>) -> impl Fn(&mut dyn Write) + Send {
    move |stream| drop(stream.write_all(&bytes))
}

fn listed(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}", body.len());
    answer(&head, body)
}

#[test]
fn engine_is_asked_through_its_socket() {
    let body = fixture("docker.json");
    let mut chunked = Vec::new();
    for part in body.chunks(100) {
        chunked.extend(format!("{:x}\r\n", part.len()).bytes());
        chunked.extend(part);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    for bytes in [
        listed(&body),
        answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", &chunked),
        // Until the server closes the connection.
        answer("HTTP/1.0 200 OK", &body),
    ] {
        let engine = Engine::new(write(bytes));
        let table = containers(&engine.socket(), LONG).unwrap().unwrap();
        assert_eq!(
            known(&table, &container(&format!("{ID}1"))),
            "shop-web-1 docker"
        );
    }
}

#[test]
fn what_is_no_engine_is_an_error_that_says_so() {
    let endless = |stream: &mut dyn Write| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[");
        let item = format!("{{\"Id\":\"{ID}1\",\"Names\":[\"/a\"]}},").repeat(1000);
        while stream.write_all(item.as_bytes()).is_ok() {}
    };
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let silent = move |_: &mut dyn Write| {
        let _ = lock::lock(&held).recv();
    };
    let cases: Vec<(Answer, &str)> = vec![
        (Box::new(silent), "no whole answer within 0.1 s"),
        (Box::new(endless), "the answer is longer than 4 MiB"),
        (
            Box::new(write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())),
            "no answer of an HTTP server",
        ),
        (Box::new(write(Vec::new())), ""),
        (
            Box::new(write(answer(
                "HTTP/1.1 500 X\r\nContent-Length: 4",
                b"oops",
            ))),
            "/containers/json: status 500",
        ),
        (
            Box::new(write(answer(
                "HTTP/1.1 302 X\r\nLocation: /b\r\nContent-Length: 0",
                b"",
            ))),
            "status 302",
        ),
        (
            Box::new(write(listed(b"{\"message\":\"no\"}"))),
            "the answer is no list of containers",
        ),
        (
            Box::new(write(answer(
                "HTTP/1.1 200 OK\r\nContent-Length: 999",
                b"[]",
            ))),
            "",
        ),
        (
            Box::new(write(answer(
                &format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000)),
                b"[]",
            ))),
            "the answer's head is too long",
        ),
    ];
    for (answer, expected) in cases {
        let engine = Engine::new(answer);
        let timeout = if expected.contains("0.1 s") {
            SHORT
        } else {
            LONG
        };
        let error = containers(&engine.socket(), timeout).unwrap_err();
        let begin = format!("{}: ", engine.socket().display());
        assert!(
            error.starts_with(&begin) && error.contains(expected),
            "{error}, not {expected}"
        );
    }
    drop(hold);
}

#[test]
fn many_containers_are_read_and_the_rest_counted() {
    let engine = Engine::new(|stream: &mut dyn Write| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[");
        for i in 0..20_000 {
            let comma = if i == 0 { "" } else { "," };
            let _ = write!(
                stream,
                "{comma}{{\"Id\":\"{i:064x}\",\"Names\":[\"/c{i}\"]}}"
            );
        }
        let _ = stream.write_all(b"]");
    });
    let table = containers(&engine.socket(), LONG).unwrap().unwrap();
    assert_eq!((table.len(), table.left_out), (4096, 20_000 - 4096));
    assert_eq!(
        known(&table, &container(&format!("{:064x}", 7))),
        "c7 docker"
    );
}

#[test]
fn socket_that_is_not_there_is_no_error_and_one_that_nobody_serves_is() {
    let tree = Tree::new(&[("file", "")]);
    assert!(containers(&tree.path("nowhere"), LONG).unwrap().is_none());
    let error = containers(&tree.path("file"), LONG).unwrap_err();
    assert!(error.ends_with("/file is no socket"), "{error}");
    drop(UnixListener::bind(tree.path("left.sock")).unwrap());
    let error = containers(&tree.path("left.sock"), LONG).unwrap_err();
    assert!(error.contains("refused"), "{error}");
    // A server that does not accept: the queue of connections is full.
    let full = UnixListener::bind(tree.path("full.sock")).unwrap();
    nix::sys::socket::listen(&full, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _waiting = std::os::unix::net::UnixStream::connect(tree.path("full.sock")).unwrap();
    let error = containers(&tree.path("full.sock"), SHORT).unwrap_err();
    assert!(error.contains("no whole answer within 0.1 s"), "{error}");
}

/// An API server that answers every request with this status and body, and keeps the last request.
fn api(status: u16, body: Vec<u8>) -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let last = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&last);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            *lock::lock(&kept) = String::from_utf8_lossy(&request[..read]).into_owned();
            let head = format!(
                "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    (format!("http://{address}"), last)
}

fn asked(url: &str, account: &Tree) -> Kubernetes {
    let settings = KubernetesSettings {
        url: Some(url.to_string()),
        service_account: account.path("account"),
        ..KubernetesSettings::default()
    };
    let kubernetes = Kubernetes::new(&settings, "node-a", |_| None).unwrap();
    kubernetes.unwrap()
}

#[test]
fn api_is_asked_for_the_pods_of_the_node_with_the_token_of_the_moment() {
    let account = Tree::new(&[("account/token", "first\n")]);
    let (url, last) = api(200, fixture("pods.json"));
    let kubernetes = asked(&url, &account);
    let table = kubernetes.read().unwrap();
    assert_eq!(known(&table, &of_pod(UID, None)), "web-0 default web-0 -");
    let request = lock::lock(&last).clone();
    let line =
        "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dnode-a&resourceVersion=0 HTTP/1.1\r\n";
    assert!(request.starts_with(line), "{request}");
    let sent = |token: &str| {
        let header = format!("authorization: bearer {token}\r\n");
        lock::lock(&last).to_lowercase().contains(&header)
    };
    assert!(sent("first"), "{request}");
    account.write("account/token", "second\n");
    kubernetes.read().unwrap();
    assert!(sent("second"));
    let kubelet = asked(&format!("{url}/pods"), &account);
    kubelet.read().unwrap();
    assert!(lock::lock(&last).starts_with("GET /pods HTTP/1.1\r\n"));
}

/// The API with the cluster's own authority.
#[cfg(feature = "tls")]
#[test]
fn api_is_trusted_by_the_service_accounts_ca_alone() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_file_iter(tls.join("server.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(tls.join("server.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            if stream.read(&mut [0; 4096]).is_ok() {
                let _ = stream.write_all(&answer("HTTP/1.0 200 OK", &fixture("pods.json")));
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    let url = format!("https://{address}");
    let account = Tree::new(&[("account/token", "t\n")]);
    let ca = |name: &str| {
        account.write("account/ca.crt", std::fs::read(tls.join(name)).unwrap());
        asked(&url, &account).read()
    };
    let table = ca("ca.pem").unwrap();
    assert_eq!(known(&table, &of_pod(UID, None)), "web-0 default web-0 -");
    let error = ca("other.pem").unwrap_err();
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn api_that_refuses_says_which_right_is_missing() {
    let account = Tree::new(&[("account/token", "t\n")]);
    let body = br#"{"kind":"Status","message":"pods is forbidden: User \"x\" cannot list resource \"pods\"","code":403}"#;
    let (url, _) = api(403, body.to_vec());
    let error = asked(&url, &account).read().unwrap_err();
    for part in [
        &url,
        "status 403: pods is forbidden",
        "the verb list on pods",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let error = asked(&format!("{url}/pods"), &account).read().unwrap_err();
    assert!(error.contains("nodes/proxy"), "{error}");
    let (url, _) = api(200, b"<html>".to_vec());
    let error = asked(&url, &account).read().unwrap_err();
    assert!(error.contains("no list of pods"), "{error}");
}

#[test]
fn api_is_not_asked_without_a_service_account() {
    let account = Tree::new(&[]);
    let mut settings = KubernetesSettings {
        service_account: account.path("account"),
        ..KubernetesSettings::default()
    };
    let in_cluster = |name: &str| (name == "KUBERNETES_SERVICE_HOST").then(|| "::1".to_string());
    let new = |settings: &KubernetesSettings| Kubernetes::new(settings, "n", in_cluster);
    assert!(new(&settings).unwrap().is_none());
    account.write("account/token", "t\n");
    assert!(new(&settings).unwrap().is_some());
    settings.enabled = Switch::Off;
    assert!(new(&settings).unwrap().is_none());
    settings.enabled = Switch::On;
    let error = Kubernetes::new(&settings, "n", |_| None).unwrap_err();
    assert!(error.contains("workloads.names.kubernetes.url"), "{error}");
}

/// Names on this board, which is none of this machine, from these sockets.
fn names(tree: &Tree, sockets: &[PathBuf]) -> (Names, Arc<Health>) {
    let health = Arc::new(Health::default());
    let settings = Settings {
        sockets: Some(sockets.to_vec()),
        ..Settings::default()
    };
    let board = Board::detect(tree.roots());
    let names = Names::new(&health, &board, &settings, &[Kind::Container]);
    (names.unwrap(), health)
}

/// Waits until what was asked is answered.
pub(in crate::sources::workloads) fn settle(names: &Names) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let is_answered = || {
        let state = lock::lock(&names.shared.state);
        state.answered >= state.asked
    };
    while !is_answered() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn answer_is_due_until_it_is_taken_over() {
    let engine = Engine::new(write(listed(&fixture("docker.json"))));
    let (mut names, _) = names(&engine.tree, &[engine.socket()]);
    names.ask();
    settle(&names);
    assert!(names.is_due(), "answered, and not taken over");
    assert!(names.update());
    assert!(!names.is_due());
}

#[test]
fn nobody_is_asked_before_something_is_unknown() {
    let engine = Engine::new(write(listed(&fixture("docker.json"))));
    let (mut names, _) = names(&engine.tree, &[engine.socket()]);
    assert!(!names.is_due() && !names.update());
    assert_eq!(engine.requests.load(Ordering::SeqCst), 0);
    let web = container(&format!("{ID}1"));
    assert_eq!(names.find(&web), None);
    names.ask();
    settle(&names);
    assert!(names.update());
    assert_eq!(names.find(&web).unwrap().workload.name.name, "shop-web-1");
    assert_eq!(engine.requests.load(Ordering::SeqCst), 1);
}

#[test]
fn known_names_stay_while_the_engine_is_away_and_it_says_why() {
    let engine = Engine::new(write(listed(&fixture("docker.json"))));
    let (mut names, health) = names(&engine.tree, &[engine.socket()]);
    names.ask();
    settle(&names);
    assert!(names.update());
    std::fs::remove_file(engine.socket()).unwrap();
    drop(UnixListener::bind(engine.socket()).unwrap());
    names.ask();
    settle(&names);
    names.update();
    assert!(names.find(&container(&format!("{ID}1"))).is_some());
    let errors = health.value_errors();
    assert!(
        errors.len() == 1 && errors[0].contains("refused"),
        "{errors:?}"
    );
    assert_eq!(health.errors(), 1);
    let counts: Vec<_> = health
        .counters()
        .iter()
        .map(|counter| (counter.name, counter.kind, counter.count()))
        .collect();
    let expected = [
        ("exporter_workload_name_requests_total", "docker", 2),
        ("exporter_workload_name_failures_total", "docker", 1),
    ];
    assert_eq!(counts, expected);
}

#[test]
fn off_is_off_and_a_recording_has_no_names() {
    let tree = Tree::new(&[]);
    let board = Board::detect(tree.roots());
    let health = Arc::new(Health::default());
    let new = |settings: &Settings, kinds: &[Kind]| Names::new(&health, &board, settings, kinds);
    let mut settings = Settings::default();
    assert!(new(&settings, &[Kind::Pod]).is_none(), "there is no source");
    tree.write("var/log/pods/a", "");
    assert!(new(&settings, &[Kind::Pod]).is_some());
    assert!(new(&settings, &[Kind::Service]).is_none());
    tree.remove("var");
    tree.write("var/lib/nerdctl/1935db59/names/default/web", "");
    assert!(new(&settings, &[Kind::Container]).is_some());
    settings.enabled = false;
    assert!(new(&settings, &[Kind::Pod]).is_none());
    assert_eq!(describe(&board, &settings), "names are off");
}
