//! The HTTP client: one connection is kept open, every response is bounded in time and size, and no proxy is used unless one
//! is configured. Logins and trusted certificates are those of [`ClientSettings`]. Errors and logs show no secret.

mod connected;
mod error;
pub mod in_cluster;
mod login;
mod look_up;
mod redirect;
#[cfg(feature = "tls")]
mod tls;

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::uri::{Scheme, Uri};
use ureq::http::{HeaderMap, Response};
use ureq::typestate::WithBody;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Body, Proxy, RequestBuilder};

pub use error::Error;
pub(crate) use login::basic;
pub(crate) use look_up::{addresses, FixedAddresses, LookUp};

use crate::config::{check_proxy, check_url, url_without_secrets, ClientSettings, Secret};

/// Bytes of a response's status line and headers.
const MAX_HEAD: usize = 16 * 1024;
const MAX_REDIRECTS: u32 = 5;

/// Bounds of every response.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the look-up of the server's name to the last byte of the response.
    pub timeout: Duration,
    /// Bytes of the body that are read.
    pub body: u64,
}

/// Sends requests. Since one idle connection is kept, a client is best used for one server.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    settings: ClientSettings,
    limits: Limits,
    /// Whether the request that is under way has had a connection.
    connected: Arc<AtomicBool>,
}

/// A response, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// 100 to 999.
    pub status: u16,
    /// The body, up to the limit.
    pub body: Vec<u8>,
    /// Whether `body` is the whole body.
    pub whole: bool,
    headers: HeaderMap,
}

impl Answer {
    /// The value of the first header of this name; `None` also where the value is not visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Client {
    /// A client with these settings. No file is read and nothing is sent yet. The error is about the proxy.
    pub fn new(settings: ClientSettings, limits: Limits) -> Result<Client, Error> {
        let proxy = proxy(&settings)?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // ureq would send `headers` to the server that a redirect names, too.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .max_response_header_size(MAX_HEAD)
            .input_buffer_size(MAX_HEAD)
            .user_agent(concat!("edge-metrics-exporter/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(limits.timeout))
            .build();
        let connector = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default());
        #[cfg(feature = "tls")]
        let connector = connector.chain(tls::TlsConnector::new(settings.tls.clone()));
        let connected = Arc::<AtomicBool>::default();
        let connector = connector.chain(connected::RecordConnected(Arc::clone(&connected)));
        Ok(Client {
            agent: ureq::Agent::with_parts(config, connector, look_up::BoundedResolver::default()),
            settings,
            limits,
            connected,
        })
    }

    /// Checks that every file that the settings name can be read and used for `url`. Nothing is sent.
    pub fn check(&self, url: &str) -> Result<(), Error> {
        let url = checked(url)?;
        login::authorization(&self.settings).map_err(Error::new)?;
        #[cfg(feature = "tls")]
        if url.scheme() == Some(&Scheme::HTTPS) {
            tls::check(&self.settings.tls).map_err(Error::new)?;
        }
        let _ = url;
        Ok(())
    }

    /// Sends a GET, and follows redirects where the settings allow them. A redirect to another scheme, host or port is
    /// followed without the login and the settings' headers, and so are all redirects after that one.
    pub fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, Error> {
        let deadline = Instant::now() + self.limits.timeout;
        let mut sent = self.headers(url, headers)?;
        let mut uri = checked(url)?;
        let mut name = url.to_owned();
        let mut redirects_left = if self.settings.follow_redirects {
            MAX_REDIRECTS
        } else {
            0
        };
        loop {
            let mut request = self.agent.get(&uri);
            for (name, value) in &sent {
                request = request.header(name, value.reveal());
            }
            let time = deadline.saturating_duration_since(Instant::now());
            let answer = request.config().timeout_global(Some(time)).build().call();
            let location = answer
                .as_ref()
                .ok()
                .filter(|answer| {
                    redirects_left > 0 && redirect::is_redirect(answer.status().as_u16())
                })
                .and_then(|answer| answer.headers().get("Location")?.to_str().ok());
            let Some(location) = location else {
                return self.answer(&name, answer);
            };
            let to = redirect::target(&uri, location).map_err(|why| {
                let (from, to) = (url_without_secrets(&name), url_without_secrets(location));
                Error::new(format!("{from}: it redirects to {to}: {why}"))
            })?;
            if !redirect::same_origin(&uri, &to) {
                sent = owned_headers(headers).collect();
            }
            name = to.to_string();
            uri = checked(&name)?;
            redirects_left -= 1;
        }
    }

    /// Sends a GET and returns the status and the response's body as a stream, which ends with an error after the timeout or the
    /// limit. Redirects are not followed.
    pub fn get_for_stream(
        &self,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<(u16, impl Read + 'static), Error> {
        let mut request = self.agent.get(checked(url)?);
        for (name, value) in self.headers(url, headers)? {
            request = request.header(name, value.reveal());
        }
        let answer = request.call().map_err(|error| {
            Error::from_ureq(url_without_secrets(url), &error, self.limits.timeout)
        })?;
        let status = answer.status().as_u16();
        let body = answer.into_body().into_reader();
        Ok((status, body.take(self.limits.body)))
    }

    /// Sends a HEAD with these headers alone: without the login and the settings' headers. Redirects are not followed.
    pub fn head(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, Error> {
        self.connected.store(false, Ordering::Relaxed);
        let mut request = self.agent.head(checked(url)?);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.call();
        let connected = || self.connected.load(Ordering::Relaxed);
        self.answer(url, answer)
            .map_err(|error| error.connected(connected()))
    }

    /// Sends a POST. Redirects are not followed.
    pub fn post(&self, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, Error> {
        let answer = self.send(self.agent.post(checked(url)?), url, headers, body)?;
        self.answer(url, answer)
    }

    /// Sends a POST whose response counts by its status: a body that breaks off is no error, but `whole` is then `false`.
    pub fn post_for_status(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, Error> {
        let answer = self.send(self.agent.post(checked(url)?), url, headers, body)?;
        let failed =
            |error| Error::from_ureq(url_without_secrets(url), &error, self.limits.timeout);
        let (answer, _) = self.read(answer.map_err(failed)?);
        Ok(answer)
    }

    /// Sends a PUT. Redirects are not followed.
    pub fn put(&self, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, Error> {
        let answer = self.send(self.agent.put(checked(url)?), url, headers, body)?;
        self.answer(url, answer)
    }

    /// Sends a POST and returns the response's body as a stream, which ends with an error after `time`. A status other than
    /// 200 is an error. Redirects are not followed.
    pub fn post_for_stream(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        time: Duration,
    ) -> Result<impl Read + 'static, Error> {
        let mut request = self.agent.post(checked(url)?);
        for (name, value) in self.headers(url, headers)? {
            request = request.header(name, value.reveal());
        }
        let config = request.config().max_redirects(0);
        let request = config
            .timeout_connect(Some(self.limits.timeout))
            .timeout_global(Some(time))
            .build();
        let answer = request.send(body);
        let answer =
            answer.map_err(|error| Error::from_ureq(url_without_secrets(url), &error, time))?;
        match answer.status().as_u16() {
            200 => Ok(answer.into_body().into_reader()),
            status => Err(Error::new(format!(
                "{}: status {status}",
                url_without_secrets(url)
            ))),
        }
    }

    fn send(
        &self,
        mut request: RequestBuilder<WithBody>,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Result<Response<Body>, ureq::Error>, Error> {
        for (name, value) in self.headers(url, headers)? {
            request = request.header(name, value.reveal());
        }
        Ok(request.send(body))
    }

    /// Aborts the request that is under way in another thread, and every later one.
    pub fn shut_down(&self) {
        self.agent.clone().shutdown();
    }

    /// All headers of a request. A given header replaces one of the same name from the settings.
    fn headers(&self, url: &str, given: &[(&str, &str)]) -> Result<Vec<(String, Secret)>, Error> {
        let login = login::authorization(&self.settings);
        let login =
            login.map_err(|why| Error::new(format!("{}: {why}", url_without_secrets(url))))?;
        let login = login.map(|value| ("Authorization".to_string(), value));
        let own = self.settings.headers.iter().cloned();
        let mut all: Vec<(String, Secret)> = own.chain(login).collect();
        for (name, value) in owned_headers(given) {
            all.retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
            all.push((name, value));
        }
        Ok(all)
    }

    fn answer(
        &self,
        url: &str,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Answer, Error> {
        let failed =
            |error| Error::from_ureq(url_without_secrets(url), &error, self.limits.timeout);
        match self.read(answer.map_err(failed)?) {
            (answer, None) => Ok(answer),
            (_, Some(error)) => Err(failed(error)),
        }
    }

    /// The response as far as it arrived, and the error that ended it early.
    fn read(&self, answer: Response<Body>) -> (Answer, Option<ureq::Error>) {
        let (head, body) = answer.into_parts();
        let max = self.limits.body;
        let mut bytes = Vec::new();
        let read = body
            .into_reader()
            .take(max.saturating_add(1))
            .read_to_end(&mut bytes);
        let whole = read.is_ok() && bytes.len() as u64 <= max;
        bytes.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        let answer = Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: bytes,
            whole,
        };
        (answer, read.err().map(ureq::Error::from))
    }
}

fn owned_headers<'h>(given: &'h [(&str, &str)]) -> impl Iterator<Item = (String, Secret)> + 'h {
    given
        .iter()
        .map(|(name, value)| (name.to_string(), Secret::new(*value)))
}

/// The proxy of the settings, else the environment's where the settings allow that.
fn proxy(settings: &ClientSettings) -> Result<Option<Proxy>, Error> {
    let proxy = match &settings.proxy_url {
        Some(url) => {
            let refused = |why| Error::new(format!("`proxy_url` is refused: {why}"));
            check_proxy(url.reveal()).map_err(refused)?;
            Proxy::new(url.reveal()).ok()
        }
        None if settings.proxy_from_environment => Proxy::try_from_env(),
        None => None,
    };
    let proxy = proxy.filter(|proxy| {
        let http = proxy
            .uri()
            .scheme_str()
            .is_some_and(|s| s.starts_with("http"));
        if !http {
            log::warn!("the proxy of the environment is not an HTTP proxy: it is not used");
        }
        http
    });
    Ok(proxy)
}

/// Parses a URL that this build can send requests to.
fn checked(url: &str) -> Result<Uri, Error> {
    let parsed =
        check_url(url).map_err(|why| Error::new(format!("{}: {why}", url_without_secrets(url))))?;
    if cfg!(not(feature = "tls")) && parsed.scheme() == Some(&Scheme::HTTPS) {
        let error = ureq::Error::TlsRequired;
        return Err(Error::from_ureq(
            url_without_secrets(url),
            &error,
            Duration::ZERO,
        ));
    }
    Ok(parsed)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
