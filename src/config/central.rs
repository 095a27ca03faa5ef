//! `config_server:`, the central server from which a board fetches its configuration, and the corresponding environment
//! variables of edge-metrics-exporter (Python).

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::http_client;
use super::section::{Problem, Section};
use super::show;
use super::tree::Node;
use super::values::{self, Outcome};
use super::{check_url, ClientSettings};

/// The longest timeout, because the startup may be delayed by it.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// The maximum number of servers with the same content.
const MAX_URLS: usize = 9;

/// The central server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigServer {
    /// The URLs, without `/config/…`, of one or several servers with the same content; empty if there is no server.
    #[serde(rename = "url", serialize_with = "with_commas")]
    pub urls: Vec<String>,
    /// The timeout of a request, and therefore the maximum delay of the startup.
    #[serde(serialize_with = "show::seconds")]
    pub timeout: Duration,
    /// Login and TLS.
    #[serde(flatten)]
    pub client: ClientSettings,
}

impl Default for ConfigServer {
    fn default() -> Self {
        ConfigServer {
            urls: Vec::new(),
            timeout: Duration::from_secs(5),
            client: ClientSettings::default(),
        }
    }
}

pub(super) fn read(
    section: &mut Section<'_, '_>,
    server: &mut ConfigServer,
) -> Result<(), Problem> {
    section.set("url", urls, &mut server.urls)?;
    section.set("timeout", values::seconds, &mut server.timeout)?;
    if server.timeout > MAX_TIMEOUT {
        let message =
            "`config_server.timeout` is over a minute, by which the start might be delayed";
        return Err(section.refuse(Some("timeout"), message.into()));
    }
    http_client::read(section, &mut server.client)
}

fn with_commas<S: Serializer>(urls: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    let url = Some(urls.join(",")).filter(|url| !url.is_empty());
    url.serialize(serializer)
}

/// URLs separated by commas.
fn urls(node: &Node) -> Outcome<Vec<String>> {
    let Node::Text(text) = node else {
        return http_client::url(node).map(|url| vec![url]);
    };
    split_urls(text)
        .map(|url| http_client::url(&Node::Text(url.to_owned())))
        .collect()
}

fn split_urls(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).take(MAX_URLS)
}

impl ConfigServer {
    /// Applies the overrides `CONFIG_SERVER_URL` and `CONFIG_TIMEOUT` (seconds). The error is a message for the user.
    pub fn with_environment(
        mut self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<ConfigServer, String> {
        let variable = |name| variable(name).filter(|value| !value.trim().is_empty());
        if let Some(text) = variable("CONFIG_SERVER_URL") {
            let checked = |url: &str| match check_url(url) {
                Ok(_) => Ok(url.to_owned()),
                Err(why) => Err(format!("CONFIG_SERVER_URL: {why}")),
            };
            self.urls = split_urls(&text).map(checked).collect::<Result<_, _>>()?;
        }
        if let Some(text) = variable("CONFIG_TIMEOUT") {
            let seconds = text.trim().parse().ok().filter(|s: &f64| *s > 0.0);
            let timeout = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
            self.timeout = timeout.filter(|t| !t.is_zero() && *t <= MAX_TIMEOUT).ok_or_else(|| {
                format!("CONFIG_TIMEOUT={text}: seconds are wanted, more than 0 and up to 60, such as 5")
            })?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_overrides_the_file() {
        let file = ConfigServer {
            urls: vec!["http://file:8080".into()],
            ..ConfigServer::default()
        };
        let with = |pairs: &[(&str, &str)]| {
            file.clone().with_environment(|name| {
                let found = pairs.iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| value.to_string())
            })
        };
        assert_eq!(with(&[]), Ok(file.clone()));
        assert_eq!(
            with(&[("CONFIG_SERVER_URL", ""), ("CONFIG_TIMEOUT", " ")]),
            Ok(file.clone())
        );
        let both = with(&[
            ("CONFIG_SERVER_URL", "https://env/x/, http://other:8080"),
            ("CONFIG_TIMEOUT", "2.5"),
        ])
        .unwrap();
        assert_eq!(both.urls, ["https://env/x/", "http://other:8080"]);
        assert_eq!(both.timeout, Duration::from_millis(2500));
        for (name, value) in [
            ("CONFIG_SERVER_URL", "localhost:8080"),
            ("CONFIG_SERVER_URL", "http://a,"),
            ("CONFIG_SERVER_URL", "http://me:secret@host"),
            ("CONFIG_TIMEOUT", "soon"),
            ("CONFIG_TIMEOUT", "0"),
            ("CONFIG_TIMEOUT", "-1"),
            ("CONFIG_TIMEOUT", "61"),
            ("CONFIG_TIMEOUT", "inf"),
            ("CONFIG_TIMEOUT", "nan"),
        ] {
            let error = with(&[(name, value)]).unwrap_err();
            assert!(
                error.starts_with(name) && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
