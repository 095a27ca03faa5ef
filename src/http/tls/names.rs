//! The subject alternative names of a certificate (RFC 5280, 4.2.1.6) and its purposes (4.2.1.12). rustls gives only host
//! names and URIs, but `client_allowed_sans` may also have e-mail and IP addresses. Pure, and total: a malformed certificate
//! has no names and no purpose.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Tags of DER (X.690, 8.1.2).
const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// `[3]`, where a certificate's extensions are.
const EXTENSIONS: u8 = 0xa3;
/// `id-ce-subjectAltName`, 2.5.29.17.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];
/// `id-ce-extKeyUsage`, 2.5.29.37, and `anyExtendedKeyUsage` of it.
const EXTENDED_KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x25];
const ANY_PURPOSE: [u8; 4] = [0x55, 0x1d, 0x25, 0x00];
/// `[1]`, `[2]`, `[6]`: text in ASCII. `[7]`: 4 or 16 bytes.
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const IP: u8 = 0x87;

/// The host names, e-mail addresses, URIs and IP addresses of a certificate in DER, as text. A malformed certificate gives
/// none, or those before the malformed part.
pub fn alternative_names(certificate: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let _ = extensions(certificate, |oid, value| {
        if oid == SUBJECT_ALT_NAME {
            general_names(value, &mut names)?;
        }
        Some(())
    });
    names
}

/// Whether a certificate in DER may be used for this purpose, given as the content of an object identifier. A certificate
/// that names no purpose may be used for all.
pub fn may_be_used_for(certificate: &[u8], purpose: &[u8]) -> bool {
    let mut allowed = true;
    let read = extensions(certificate, |oid, value| {
        if oid == EXTENDED_KEY_USAGE {
            let (mut purposes, _) = element(value, SEQUENCE)?;
            allowed = false;
            while !purposes.is_empty() {
                let (named, rest) = element(purposes, OID)?;
                purposes = rest;
                allowed |= named == purpose || named == ANY_PURPOSE;
            }
        }
        Some(())
    });
    read.is_some() && allowed
}

/// Calls `each` with every extension's identifier and value. `None`: the certificate is malformed.
fn extensions(certificate: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> Option<()>) -> Option<()> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    while !fields.is_empty() {
        let (tag, content, rest) = split(fields)?;
        fields = rest;
        if tag == EXTENSIONS {
            let (mut extensions, _) = element(content, SEQUENCE)?;
            while !extensions.is_empty() {
                let (extension, rest) = element(extensions, SEQUENCE)?;
                extensions = rest;
                let (oid, rest) = element(extension, OID)?;
                // The `critical` flag before the value is optional.
                let rest = element(rest, BOOLEAN).map_or(rest, |(_, rest)| rest);
                let (value, _) = element(rest, OCTET_STRING)?;
                each(oid, value)?;
            }
        }
    }
    Some(())
}

fn general_names(value: &[u8], names: &mut Vec<String>) -> Option<()> {
    let (mut general_names, _) = element(value, SEQUENCE)?;
    while !general_names.is_empty() {
        let (tag, content, rest) = split(general_names)?;
        general_names = rest;
        let name = match tag {
            EMAIL | DNS | URI => text(content),
            IP => address(content),
            _ => None,
        };
        names.extend(name);
    }
    Some(())
}

fn text(bytes: &[u8]) -> Option<String> {
    let visible = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(bytes)
        .ok()
        .filter(|_| visible)
        .map(str::to_owned)
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(sixteen).to_string())
}

/// The content of the first element, which has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = split(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content and rest. Tags of one byte and lengths of at most four are enough for a certificate.
fn split(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (bytes, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.is_empty() || bytes.len() > 4 {
            return None;
        }
        length = bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
        rest = behind;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::super::pem;
    use super::*;
    use std::path::Path;

    fn der(name: &str) -> Vec<u8> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
        let text = pem::read(&path.join(name)).unwrap();
        pem::certificates(&text, name).unwrap()[0].to_vec()
    }

    #[test]
    fn names_of_every_kind_are_read() {
        assert_eq!(
            alternative_names(&der("server.pem")),
            ["localhost", "127.0.0.1"]
        );
        assert_eq!(
            alternative_names(&der("named.pem")),
            [
                "prometheus.example.org",
                "prometheus@example.org",
                "spiffe://example.org/prometheus",
                "192.0.2.7",
                "2001:db8::7"
            ]
        );
        assert!(alternative_names(&der("client.pem")).is_empty());
    }

    #[test]
    fn purposes_are_read() {
        use super::super::pinned::{CLIENT, SERVER};
        for (name, server, client) in [
            ("server.pem", true, true),
            ("client.pem", false, true),
            ("self.pem", true, true),
        ] {
            let der = der(name);
            assert_eq!(may_be_used_for(&der, &SERVER), server, "{name}");
            assert_eq!(may_be_used_for(&der, &CLIENT), client, "{name}");
        }
        assert!(!may_be_used_for(&[], &SERVER));
    }

    #[test]
    fn malformed_certificates_do_not_panic() {
        let whole = der("named.pem");
        for cut in 0..whole.len() {
            let _ = alternative_names(&whole[..cut]);
            let mut changed = whole.clone();
            changed[cut] ^= 0x80;
            let _ = alternative_names(&changed);
            let _ = may_be_used_for(&changed, &[]);
        }
        assert!(alternative_names(&[]).is_empty());
        assert!(alternative_names(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]).is_empty());
        assert!(alternative_names(&[0x30, 0xff]).is_empty());
    }
}
