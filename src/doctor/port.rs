//! Whether another program has the metrics port already, such as node_exporter, which has the same default port.

use std::time::Duration;

use crate::config::ClientSettings;
use crate::http::client::{Client, Limits};
use crate::sys::port_holder::port_holder;

const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(2),
    body: 4 << 20,
};
/// The metric by which node_exporter is known.
const NODE_EXPORTER: &str = "node_exporter_build_info{";

/// A sentence about the port if another program than this one has it.
pub(super) fn doubt(port: Option<u16>) -> Option<String> {
    let port = port.filter(|port| *port != 0)?;
    let holder = port_holder(port);
    let holder = holder.filter(|holder| Some(&holder.name) != own_name().as_ref());
    let whose = match (is_node_exporters(port), holder) {
        (true, None) => "node_exporter's here".to_owned(),
        (true, Some(holder)) => format!("node_exporter's here ({holder})"),
        (false, Some(holder)) => format!("another program's here ({holder})"),
        (false, None) => return None,
    };
    let other = port.checked_add(10).unwrap_or(9110);
    Some(format!(
        "port {port} is {whose}: `port: {other}`, or --web.listen-address :{other}, is another for this exporter"
    ))
}

fn own_name() -> Option<String> {
    let path = std::env::current_exe().ok()?;
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// Whether what answers on this port is a node_exporter.
fn is_node_exporters(port: u16) -> bool {
    let Ok(client) = Client::new(ClientSettings::default(), LIMITS) else {
        return false;
    };
    let answer = client.get(&format!("http://localhost:{port}/metrics"), &[]);
    answer.is_ok_and(|answer| {
        let text = String::from_utf8_lossy(&answer.body);
        let found = text.lines().any(|line| line.starts_with(NODE_EXPORTER));
        found
    })
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
