//! Whether node_exporter, which has the same default port, has the metrics port already.

use std::time::Duration;

use crate::config::ClientSettings;
use crate::http::client::{Client, Limits};

const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(2),
    body: 4 << 20,
};
/// The metric by which node_exporter is known.
const NODE_EXPORTER: &str = "node_exporter_build_info{";

/// A sentence about the port if node_exporter has it.
pub(super) fn doubt(port: Option<u16>) -> Option<String> {
    let port = port.filter(|port| *port != 0)?;
    let client = Client::new(ClientSettings::default(), LIMITS).ok()?;
    let url = format!("http://localhost:{port}/metrics");
    let answer = client.get(&url, &[]).ok()?;
    let text = String::from_utf8_lossy(&answer.body);
    if !text.lines().any(|line| line.starts_with(NODE_EXPORTER)) {
        return None;
    }
    let other = port.checked_add(10).unwrap_or(9110);
    Some(format!(
        "port {port} is node_exporter's here: `port: {other}`, or --web.listen-address :{other}, is another for this exporter"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// What is said of a port whose server answers this.
    fn of(body: &'static str) -> (u16, Option<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let _ = connection.read(&mut [0; 4096]).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            connection.write_all(head.as_bytes()).unwrap();
            connection.write_all(body.as_bytes()).unwrap();
        });
        let said = doubt(Some(port));
        server.join().unwrap();
        (port, said)
    }

    #[test]
    fn node_exporter_is_known_by_its_metric() {
        let (port, said) = of("# TYPE x gauge\nx 1\nnode_exporter_build_info{version=\"1\"} 1\n");
        let said = said.unwrap();
        assert!(
            said.starts_with(&format!("port {port} is node_exporter's here")),
            "{said}"
        );
        let (_, said) =
            of("exporter_build_info{version=\"1\"} 1\nnote_node_exporter_build_info{} 1\n");
        assert_eq!(said, None);
        assert_eq!((doubt(None), doubt(Some(0))), (None, None));
    }
}
