//! The identity of a device: `GET /shelly`, which needs no login in any generation.

use crate::sources::json_answer;
use crate::sys::printable;

/// The API of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Gen1: `/status`, Basic authentication.
    First,
    /// Gen2 and later: RPC, Digest authentication.
    Rpc,
}

/// A device, as its response to `GET /shelly` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The device's API.
    pub generation: Generation,
    /// The MAC address, in the device's notation.
    pub mac: String,
    /// The model, for the log.
    pub model: String,
}

impl Identity {
    /// Parses the response to `GET /shelly`. Gen1 has `type` and no `gen`. Later generations have `gen`, which is at least 2.
    ///
    /// # Errors
    /// A message, if the response is not a Shelly's.
    pub fn parse(body: &[u8]) -> Result<Identity, String> {
        let root = json_answer::parse(body)?;
        let text = |key: &str| printable(root[key].as_str().unwrap_or_default(), 64);
        let mac = text("mac");
        if mac.is_empty() {
            return Err("the answer is not a Shelly's: it has no \"mac\"".to_string());
        }
        let (generation, model) = match (root["gen"].as_u64(), root["gen"].is_null()) {
            (Some(2..), _) => (Generation::Rpc, text("model")),
            (None, true) if root["type"].is_string() => (Generation::First, text("type")),
            _ => return Err("the answer is of no generation that is known".to_string()),
        };
        Ok(Identity {
            generation,
            mac,
            model,
        })
    }

    /// The path of the device's whole status.
    pub fn status_path(&self) -> &'static str {
        match self.generation {
            Generation::First => "/status",
            Generation::Rpc => "/rpc/Shelly.GetStatus",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_follows_from_the_response() {
        let gen1 = br#"{"auth": false, "fw": "20230913-113421/v1.14.0-gcb84623", "mac": "AABBCCDDEEFF", "num_meters": 1, "type": "SHPLG-S"}"#;
        let first = Identity::parse(gen1).unwrap();
        assert_eq!(first.generation, Generation::First);
        assert_eq!(first.status_path(), "/status");
        assert_eq!(first.model, "SHPLG-S");
        for gen in [2, 3, 4, 17] {
            let text = format!(
                r#"{{"app": "PlugSG3", "auth_en": true, "gen": {gen}, "mac": "AABBCCDDEEFF", "model": "S3PL-00112EU"}}"#
            );
            let later = Identity::parse(text.as_bytes()).unwrap();
            assert_eq!(later.generation, Generation::Rpc);
            assert_eq!(later.model, "S3PL-00112EU");
        }
    }

    #[test]
    fn response_of_another_device_is_refused() {
        for (text, why) in [
            ("<!DOCTYPE html>", "no JSON"),
            ("", "breaks off"),
            (r#"{"mac": "AABB"#, "breaks off"),
            ("[]", "no \"mac\""),
            ("{}", "no \"mac\""),
            (r#"{"mac": "AABBCCDDEEFF"}"#, "no generation"),
            (
                r#"{"mac": "AABBCCDDEEFF", "type": "X", "gen": 1}"#,
                "no generation",
            ),
            (
                r#"{"mac": "AABBCCDDEEFF", "type": "X", "gen": "2"}"#,
                "no generation",
            ),
        ] {
            let error = Identity::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
