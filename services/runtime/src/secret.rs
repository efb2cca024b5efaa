//! Values that must not appear in a log, an error or a rendered configuration.

use std::fmt;

/// What stands in place of a secret.
pub const REDACTED: &str = "(secret)";

/// A value whose `Debug` says nothing. It has no `Display`; reading it is a visible act.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Secret(value)
    }

    /// The value, for the one place that needs it.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Whether a setting, or an option of the Kafka client, is one that holds a secret.
pub fn is_secret_key(path: &str) -> bool {
    // A name of a file or of a mechanism is no secret, even where "password" is part of it.
    if path.ends_with("_file") || path.ends_with(".location") {
        return false;
    }
    ["password", "secret", "buyer_key", ".pem", "oauthbearer.config", "jaas", "token"]
        .iter()
        .any(|word| path.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "(secret) Some((secret))");
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn secret_keys_are_known_by_name() {
        for key in [
            "schema_registry.password",
            "intake.buyer_key",
            "kafka.options.sasl.password",
            "kafka.options.ssl.key.pem",
            "kafka.options.ssl.keystore.password",
            "kafka.options.sasl.oauthbearer.client.secret",
        ] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in [
            "kafka.bootstrap",
            "intake.buyer_key_file",
            "kafka.password_file",
            "kafka.options.ssl.ca.location",
            "kafka.options.security.protocol",
        ] {
            assert!(!is_secret_key(key), "{key}");
        }
    }
}
