//! Calls to others by HTTP: etcd's members and the boards. Bounded in time and size; no redirects, no proxy.

use std::time::Duration;

const MAX_HEADERS: usize = 16 * 1024;

/// Somebody who is called.
pub(super) struct Caller {
    agent: ureq::Agent,
    base: String,
}

impl Caller {
    /// For `http://host:port`. One or two connections are kept.
    pub(super) fn new(base: &str) -> Result<Caller, String> {
        base.parse::<ureq::http::Uri>()
            .map_err(|e| format!("{base}: {e}"))?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_response_header_size(MAX_HEADERS)
            .user_agent(concat!("edge-metrics-exporter/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Caller {
            agent: config.into(),
            base: base.to_string(),
        })
    }

    /// As it was given.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Posts JSON. The status and the body of at most `limit` bytes; or, for people, why there is none.
    pub(super) fn post(
        &self,
        path: &str,
        body: &[u8],
        limit: u64,
        patience: Duration,
    ) -> Result<(u16, Vec<u8>), String> {
        let url = format!("{}{path}", self.base);
        let failed = |error: ureq::Error| match error {
            ureq::Error::Timeout(_) => format!("{url}: no whole answer within {patience:?}"),
            ureq::Error::Io(error) => format!("{url}: {}", crate::sources::reason(&error)),
            other => format!("{url}: {other}"),
        };
        let request = self
            .agent
            .post(&url)
            .header("Content-Type", "application/json")
            .config()
            .timeout_global(Some(patience))
            .build();
        let mut answer = request.send(body).map_err(failed)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(limit).read_to_vec();
        Ok((status, body.map_err(failed)?))
    }
}
