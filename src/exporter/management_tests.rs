use super::*;
use crate::config::Config;
use crate::http::{HTTPVersion, Header};
use crate::metrics::Desc;
use crate::sources::shelly::settings as shelly;
use crate::store::{ConfigSource, Store};

/// An exporter without a board that has three metrics.
fn exporter() -> Arc<Exporter> {
    let exporter = Arc::new(Exporter::idle());
    let group = exporter.registry.add_group(0, "test", Vec::new());
    for name in ["a_watts", "b_watts", "c_watts"] {
        group.series(&Desc::gauge(name, "x"), &[]);
    }
    exporter
}

struct Call {
    method: Method,
    path: &'static str,
    peer: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

impl Call {
    fn get(path: &'static str) -> Call {
        Call {
            method: Method::Get,
            path,
            peer: "127.0.0.1:1",
            headers: vec![("Host", "localhost:9101")],
            body: Vec::new(),
        }
    }

    fn enable(body: impl Into<Vec<u8>>) -> Call {
        Call {
            method: Method::Post,
            body: body.into(),
            ..Call::get("/metrics/enable")
        }
        .with("Content-Type", "application/json")
    }

    fn reload() -> Call {
        Call {
            method: Method::Post,
            ..Call::get("/reload")
        }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Call {
        self.headers.push((name, value));
        self
    }

    fn from(self, peer: &'static str) -> Call {
        Call { peer, ..self }
    }

    fn to(self, exporter: &Arc<Exporter>) -> Response {
        self.on(&*routes(Arc::clone(exporter)))
    }

    fn on(self, handler: &Handler) -> Response {
        let headers = self.headers.iter();
        handler(&Request {
            method: self.method,
            path: self.path.into(),
            query: None,
            version: HTTPVersion(1, 1),
            headers: headers
                .map(|(name, value)| Header::from_bytes(*name, *value).unwrap())
                .collect(),
            body: self.body,
            peer: self.peer.parse().unwrap(),
            login: Default::default(),
        })
    }
}

fn body(response: &Response) -> String {
    String::from_utf8(response.body().to_vec()).unwrap()
}

/// The error of a refusal, which is a JSON object with just that and a message.
#[track_caller]
fn error(response: &Response, status: u16) -> String {
    assert_eq!(response.status(), status, "{}", body(response));
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    let value: Value = serde_json::from_slice(response.body()).unwrap();
    let object = value.as_object().unwrap();
    assert_eq!(object.keys().collect::<Vec<_>>(), ["error", "message"]);
    assert!(!object["message"].as_str().unwrap().is_empty());
    object["error"].as_str().unwrap().to_string()
}

fn enabled(exporter: &Exporter) -> Vec<bool> {
    let known = exporter.registry.switchable();
    known.iter().map(|(_, on)| *on).collect()
}

#[test]
fn responses_are_seed_001s_byte_for_byte() {
    let exporter = exporter();
    exporter.identity.write().unwrap().device_type = "jetson_orin".into();
    let list = Call::get("/metrics/list").to(&exporter);
    assert_eq!(list.header("Content-Type"), Some("application/json"));
    let expected = "{\n  \"metrics\": {\n    \"a_watts\": true,\n    \"b_watts\": true,\n    \"c_watts\": true\n  },\n  \
                    \"device_type\": \"jetson_orin\",\n  \"source\": \"local\"\n}";
    assert_eq!((list.status(), &*body(&list)), (200, expected));
    let reload = Call::reload().to(&exporter);
    assert_eq!(
        reload.header("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
    let expected = "Config reload triggered\n";
    assert_eq!((reload.status(), &*body(&reload)), (200, expected));
}

#[test]
fn enable_response_repeats_the_request_in_its_order() {
    let exporter = exporter();
    let answer = Call::enable("{\"b_watts\": false, \"a_watts\": true}").to(&exporter);
    let saved = ",\n  \"saved\": false,\n  \"message\": \"";
    let expected = "{\n  \"status\": \"success\",\n  \"updated\": 2,\n  \"metrics\": {\n    \"b_watts\": false,\n    \
                    \"a_watts\": true\n  }";
    let text = body(&answer);
    assert_eq!(answer.status(), 200, "{text}");
    // This one has no file to save it in, and says so.
    let rest = text.strip_prefix(expected).unwrap();
    assert!(
        rest.starts_with(saved) && rest.contains("--config"),
        "{rest}"
    );
    let nothing = Call::enable("{}").to(&exporter);
    assert_eq!(nothing.status(), 200);
}

#[test]
fn bad_requests_get_seed_001s_errors() {
    let exporter = exporter();
    let too_many: Vec<_> = (0..1001).map(|n| format!("\"m{n}\": true")).collect();
    let cases = [
        ("".to_string(), "Invalid JSON: "),
        ("{\"a_watts\": tru}".into(), "Invalid JSON: "),
        ("{\"a_watts\": true".into(), "Invalid JSON: "),
        ("[".repeat(100_000), "Invalid JSON: "),
        ("{\"a\":".repeat(20_000), "Invalid JSON: "),
        ("[]".into(), "Request body must be a JSON object"),
        ("true".into(), "Request body must be a JSON object"),
        ("\"a_watts\"".into(), "Request body must be a JSON object"),
        (
            format!("{{{}}}", too_many.join(",")),
            "Too many metrics (max 1000)",
        ),
        (
            "{\"a_watts\": false, \"b_watts\": 1}".into(),
            "Invalid type for b_watts: expected bool",
        ),
        (
            "{\"a_watts\": \"false\"}".into(),
            "Invalid type for a_watts: expected bool",
        ),
        (
            "{\"a_watts\": false, \"y\": true, \"x\": true}".into(),
            "Unknown metrics: ['x', 'y']",
        ),
    ];
    for (sent, expected) in cases {
        let answer = Call::enable(sent.clone()).to(&exporter);
        let error = error(&answer, 400);
        assert!(error.starts_with(expected), "{sent:.40}: {error}");
    }
    let not_utf8 = Call::enable(b"{\"\xff\": true}".to_vec()).to(&exporter);
    assert!(error(&not_utf8, 400).starts_with("Invalid JSON: "));
    let odd = Call::enable("{\"a'\\n\\u001b[31m\": true}").to(&exporter);
    assert_eq!(error(&odd, 400), "Unknown metrics: ['a\\'\\n\\u{1b}[31m']");
    let long: String = (0..100)
        .map(|n| format!("\"x{n}{}\": true,", "y".repeat(900)))
        .collect();
    let long = Call::enable(format!("{{{}}}", long.trim_end_matches(','))).to(&exporter);
    assert!(error(&long, 400).len() < 10_000);
    // None of it left a trace.
    assert_eq!(enabled(&exporter), [true; 3]);
    assert_eq!(exporter.store.current().metrics, None);
}

#[test]
fn body_must_be_declared_as_json() {
    let exporter = exporter();
    let call = |kind: Option<&'static str>| {
        let mut call = Call::enable("{\"a_watts\": false}");
        call.headers.retain(|(name, _)| *name != "Content-Type");
        match kind {
            Some(kind) => call.with("Content-Type", kind),
            None => call,
        }
    };
    for kind in [
        None,
        Some(""),
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("text/plain; application/json"),
        Some("application/jsonp"),
    ] {
        error(&call(kind).to(&exporter), 415);
    }
    for kind in ["application/json", "Application/JSON ; charset=utf-8"] {
        assert_eq!(call(Some(kind)).to(&exporter).status(), 200, "{kind}");
    }
}

#[test]
fn only_local_clients_change_settings_unless_configured_otherwise() {
    let exporter = exporter();
    let call = || Call::enable("{\"a_watts\": false}").from("192.0.2.1:1");
    let refused = call().to(&exporter);
    error(&refused, 403);
    assert!(body(&refused).contains("allow_remote"));
    let proxied = Call::enable("{\"a_watts\": false}").with("X-Forwarded-For", "192.0.2.1");
    error(&proxied.to(&exporter), 403);
    assert_eq!(exporter.store.current().metrics, None);
    for path in ["/health", "/config", "/metrics/list"] {
        let read = Call::get(path).from("192.0.2.1:1").to(&exporter);
        assert_eq!(read.status(), 200, "{path}");
    }
    assert_eq!(
        Call::reload().from("192.0.2.1:1").to(&exporter).status(),
        200
    );

    let mut config = Config::default();
    config.management.allow_remote = true;
    let store = Store::open(ConfigSource::BuiltIn(Box::new(config)), |p| {
        p.answer(Ok(()))
    });
    let open = Arc::new(Exporter::new(Arc::new(store.unwrap())));
    open.registry
        .add_group(0, "test", Vec::new())
        .series(&Desc::gauge("a_watts", "x"), &[]);
    assert_eq!(call().to(&open).status(), 200);
}

#[test]
fn pages_of_other_origins_change_nothing() {
    let exporter = exporter();
    for call in [Call::enable("{\"a_watts\": false}"), Call::reload()] {
        error(
            &call.with("Origin", "http://evil.example").to(&exporter),
            403,
        );
    }
    let own = Call::enable("{}").with("Origin", "http://localhost:9101");
    assert_eq!(own.to(&exporter).status(), 200);
}

#[test]
fn reloads_are_limited_in_rate() {
    let exporter = exporter();
    let handler = routes(exporter);
    let answers: Vec<_> = (0..50).map(|_| Call::reload().on(&*handler)).collect();
    assert_eq!(answers[0].status(), 200);
    let refused = answers.last().unwrap();
    error(refused, 429);
    assert!(
        refused
            .header("Retry-After")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= 1
    );
}

#[test]
fn unknown_paths_and_methods_list_the_known_ones() {
    let exporter = exporter();
    error(&Call::get("/nothing").to(&exporter), 404);
    for (path, allowed) in [("/reload", "POST"), ("/metrics/enable", "POST")] {
        let answer = Call::get(path).to(&exporter);
        error(&answer, 405);
        assert_eq!(answer.header("Allow"), Some(allowed));
    }
    let call = Call {
        method: Method::Delete,
        ..Call::get("/config")
    };
    let answer = call.to(&exporter);
    error(&answer, 405);
    assert_eq!(answer.header("Allow"), Some("GET, HEAD"));
}

#[test]
fn configuration_is_shown_without_secrets() {
    let mut config = Config::default();
    let plug = shelly::Plug {
        host: "192.0.2.2".into(),
        name: None,
        switch_id: 0,
        username: "admin".into(),
        password: Some(crate::config::Secret::new("hunter2")),
        password_file: None,
    };
    config
        .meters
        .edit(|shelly: &mut shelly::Settings| shelly.plugs.push(plug));
    let store = Store::open(ConfigSource::BuiltIn(Box::new(config)), |p| {
        p.answer(Ok(()))
    });
    let exporter = Arc::new(Exporter::new(Arc::new(store.unwrap())));
    for path in ["/config", "/health", "/metrics/list"] {
        let text = body(&Call::get(path).to(&exporter));
        assert!(!text.contains("hunter2"), "{path}");
    }
    let shown = body(&Call::get("/config").to(&exporter));
    assert!(
        shown.contains("\"device_type\": \"auto\",\n  \"interval\": 1,"),
        "{shown}"
    );
}

#[test]
fn status_page_is_open_and_read_only() {
    let exporter = exporter();
    for path in ["/", "/page/board.js", "/page/style.css"] {
        let answer = Call::get(path).from("192.0.2.1:1").to(&exporter);
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.header("Content-Security-Policy").is_some(), "{path}");
        let call = Call {
            method: Method::Post,
            ..Call::get(path)
        };
        error(&call.to(&exporter), 405);
    }
    error(&Call::get("/page/").to(&exporter), 404);
    error(&Call::get("/page/fleet.js").to(&exporter), 404);
}

#[test]
fn history_has_no_white_space() {
    let exporter = exporter();
    let answer = Call::get("/history").from("192.0.2.1:1").to(&exporter);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    let text = body(&answer);
    assert!(
        text.starts_with("{\"cursor\":\"") && text.contains("\"rails\":[]"),
        "{text}"
    );
}
