//! `remote_write:` and `config_server:` as JSON, as `show` has the rest: what can be written to a file as it is, but for the secrets.

use serde_json::{json, Map, Value};

use super::central::ConfigServer;
use super::remote_write::{Queue, RemoteWrite};
use super::secret::Secret;
use super::show::{seconds, HIDDEN};
use super::{shown, Authorization, BasicAuth, ClientSettings, ClientTls, Protocol, SecretSource};

/// What stands in the place of a URL that may hold a password.
const HIDDEN_URL: &str = "http://secret.invalid";

/// One entry.
pub(super) fn to_json(entry: &RemoteWrite) -> Value {
    let RemoteWrite {
        name,
        url,
        timeout,
        protocol,
        client,
        external_labels,
        job,
        instance,
        queue,
        disk,
    } = hide(entry);
    let mut value = json!({
        "name": name,
        "url": url,
        "remote_timeout": seconds(timeout),
        "protobuf_message": match protocol {
            Protocol::V1 => "prometheus.WriteRequest",
            Protocol::V2 => "io.prometheus.write.v2.Request",
        },
        "job": job,
        "instance": instance,
        "external_labels": external_labels.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "queue_config": queue_json(&queue),
    });
    if let Value::Object(entries) = &mut value {
        entries.extend(client_json(&client));
        if let Some(disk) = disk {
            entries.insert("queue_directory".into(), json!(disk.directory));
            entries.insert("queue_bytes".into(), json!(disk.bytes));
            entries.insert("sync_interval".into(), seconds(disk.sync_interval));
        }
    }
    value
}

/// The same entry without its secrets.
pub(super) fn hide(entry: &RemoteWrite) -> RemoteWrite {
    let mut entry = entry.clone();
    let bare = shown(&entry.url);
    if bare.len() < entry.url.len() {
        entry.url = format!("{bare}?{HIDDEN}").replace(['<', '>'], "");
    }
    hide_client(&mut entry.client);
    entry
}

/// Takes the secrets out.
pub(super) fn hide_client(client: &mut ClientSettings) {
    for (_, value) in &mut client.headers {
        *value = Secret::new(HIDDEN);
    }
    let basic = client.basic_auth.as_mut().map(|login| &mut login.password);
    let token = client.authorization.as_mut();
    let token = token.map(|login| &mut login.credentials);
    for given in basic.into_iter().chain(token) {
        if let SecretSource::Here(secret) = given {
            *secret = Secret::new(HIDDEN);
        }
    }
    if let Some(url) = &mut client.proxy_url {
        *url = Secret::new(HIDDEN_URL);
    }
}

/// `config_server:`.
pub(super) fn central_json(server: &ConfigServer) -> Value {
    let ConfigServer {
        urls,
        timeout,
        client,
    } = server;
    let mut client = client.clone();
    hide_client(&mut client);
    let url = Some(urls.join(",")).filter(|url| !url.is_empty());
    let mut value = json!({"url": url, "timeout": seconds(*timeout)});
    if let Value::Object(entries) = &mut value {
        entries.extend(client_json(&client));
    }
    value
}

fn client_json(client: &ClientSettings) -> Map<String, Value> {
    let ClientSettings {
        basic_auth,
        authorization,
        headers,
        tls,
        proxy_url,
        proxy_from_environment,
        follow_redirects,
    } = client;
    let ClientTls {
        ca_file,
        cert_file,
        key_file,
        server_name,
        insecure_skip_verify,
    } = tls;
    let here = |given: &SecretSource| match given {
        SecretSource::Here(secret) => Some(secret.reveal().to_string()),
        SecretSource::File(_) | SecretSource::None => None,
    };
    let file = |given: &SecretSource| match given {
        SecretSource::File(path) => Some(path.clone()),
        SecretSource::Here(_) | SecretSource::None => None,
    };
    let basic = |login: &BasicAuth| {
        json!({
            "username": login.username,
            "password": here(&login.password),
            "password_file": file(&login.password),
        })
    };
    let token = |login: &Authorization| {
        json!({
            "type": login.kind,
            "credentials": here(&login.credentials),
            "credentials_file": file(&login.credentials),
        })
    };
    let header = |(name, value): &(String, Secret)| (name.clone(), json!(value.reveal()));
    let value = json!({
        "headers": headers.iter().map(header).collect::<Map<_, _>>(),
        "basic_auth": basic_auth.as_ref().map(basic),
        "authorization": authorization.as_ref().map(token),
        "tls_config": {
            "ca_file": ca_file,
            "cert_file": cert_file,
            "key_file": key_file,
            "server_name": server_name,
            "insecure_skip_verify": insecure_skip_verify,
        },
        "proxy_url": proxy_url.as_ref().map(Secret::reveal),
        "proxy_from_environment": proxy_from_environment,
        "follow_redirects": follow_redirects,
    });
    match value {
        Value::Object(entries) => entries,
        _ => Map::new(),
    }
}

fn queue_json(queue: &Queue) -> Value {
    let Queue {
        max_samples_per_send,
        readings_per_send,
        batch_send_deadline,
        min_backoff,
        max_backoff,
        retry_on_http_429,
        sample_age_limit,
    } = queue;
    json!({
        "max_samples_per_send": max_samples_per_send,
        "readings_per_send": readings_per_send,
        "batch_send_deadline": seconds(*batch_send_deadline),
        "min_backoff": seconds(*min_backoff),
        "max_backoff": seconds(*max_backoff),
        "retry_on_http_429": retry_on_http_429,
        "sample_age_limit": seconds(*sample_age_limit),
    })
}

#[cfg(test)]
mod tests {
    use crate::config::{parse, to_json};

    #[test]
    fn no_secret_is_shown() {
        let text = "remote_write:\n  - url: http://h/w?token=hunter2\n    headers: {X-Key: hunter2}\n    \
                    proxy_url: http://me:hunter2@proxy:1\n    basic_auth: {username: u, password: hunter2}\n  \
                    - url: http://i/w\n    authorization: {credentials: hunter2}\n";
        let shown = to_json(&parse(text).unwrap().0).to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(shown.matches("<secret>").count(), 3, "{shown}");
        assert!(shown.contains("http://h/w?secret"), "{shown}");
    }
}
