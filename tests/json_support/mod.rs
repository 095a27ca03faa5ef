//! A stand-in for devices that answer by HTTP with JSON.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use crate::device_support::{json, page, Server};

pub type Device = Server<Answers>;

pub struct Answers {
    /// Bodies by path, with the query. Other paths have the status 404.
    pub answers: HashMap<String, String>,
    /// The whole `Authorization` header that is required.
    pub login: Option<String>,
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
        Server::of(Answers {
            answers: answers.collect(),
            login: None,
        })
    }

    pub fn set(&self, path: &str, body: &str) {
        self.with(|state| state.answers.insert(path.to_string(), body.to_string()));
    }
}

impl crate::device_support::Device for Answers {
    fn answer(&mut self, path: &str, authorization: Option<&str>) -> String {
        if self.login.is_some() && self.login.as_deref() != authorization {
            return "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"1\"\r\nContent-Length: 2\r\n\r\n{}"
                .to_string();
        }
        match self.answers.get(path) {
            Some(body) => json(body),
            None => page("404 Not Found", "text/html", "<html>not found</html>"),
        }
    }
}
