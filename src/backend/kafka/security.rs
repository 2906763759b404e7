//! Security: how the way to the brokers is secured, and who we are to them.

use rdkafka::ClientConfig;
use std::path::PathBuf;

/// TLS and a login.
#[derive(Clone, Default)]
pub(super) struct Security {
    pub(super) tls: bool,
    pub(super) tls_ca: Option<PathBuf>,
    pub(super) tls_client: Option<(PathBuf, PathBuf)>,
    pub(super) sasl: Option<Sasl>,
}

#[derive(Clone)]
pub(super) struct Sasl {
    pub(super) mechanism: String,
    pub(super) user: String,
    pub(super) password: String,
}

impl Security {
    pub(super) fn apply(&self, config: &mut ClientConfig) {
        let protocol = match (self.tls, &self.sasl) {
            (false, None) => return,
            (true, None) => "SSL",
            (false, Some(_)) => "SASL_PLAINTEXT",
            (true, Some(_)) => "SASL_SSL",
        };
        config.set("security.protocol", protocol);
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        if let Some(ca) = &self.tls_ca {
            config.set("ssl.ca.location", path(ca));
        }
        if let Some((certificate, key)) = &self.tls_client {
            config
                .set("ssl.certificate.location", path(certificate))
                .set("ssl.key.location", path(key));
        }
        if let Some(sasl) = &self.sasl {
            config
                .set("sasl.mechanism", &sasl.mechanism)
                .set("sasl.username", &sasl.user)
                .set("sasl.password", &sasl.password);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::kafka::Options;
    use crate::backend::kafka::native;
    use rdkafka::ClientConfig;

    fn fine() -> Options {
        Options::from_url("kafka://h:9093").expect("fine")
    }

    /// What every client of a connection is made with.
    fn all(options: &Options) -> [ClientConfig; 3] {
        [
            native::producer(options, 8),
            native::admin(options),
            native::consumer(options, "audit", "orders", 3),
        ]
    }

    #[test]
    fn every_client_of_a_connection_is_secured_alike() {
        let login = |options: Options| options.sasl("SCRAM-SHA-512", "orders", "s3cret");
        for (options, protocol) in [
            (fine(), None),
            (fine().tls(), Some("SSL")),
            (fine().tls_ca("/ca.pem"), Some("SSL")),
            (fine().tls_client("/c.pem", "/k.pem"), Some("SSL")),
            (login(fine()), Some("SASL_PLAINTEXT")),
            (login(fine().tls_ca("/ca.pem")), Some("SASL_SSL")),
        ] {
            for config in all(&options) {
                assert_eq!(config.get("security.protocol"), protocol);
            }
        }
        let options = login(fine().tls_ca("/ca.pem").tls_client("/c.pem", "/k.pem"));
        for config in all(&options) {
            for (name, value) in [
                ("ssl.ca.location", "/ca.pem"),
                ("ssl.certificate.location", "/c.pem"),
                ("ssl.key.location", "/k.pem"),
                ("sasl.mechanism", "SCRAM-SHA-512"),
                ("sasl.username", "orders"),
                ("sasl.password", "s3cret"),
            ] {
                assert_eq!(config.get(name), Some(value), "{name}");
            }
        }
    }

    #[test]
    fn the_same_can_be_said_in_the_url() {
        let url = "kafka://h:9093/?security.protocol=SASL_SSL&ssl.ca.location=/ca.pem&\
                   sasl.mechanism=PLAIN&sasl.username=orders&sasl.password=s%263cret";
        let options = Options::from_url(url).expect("fine");
        for config in all(&options) {
            assert_eq!(config.get("security.protocol"), Some("SASL_SSL"));
            assert_eq!(config.get("sasl.password"), Some("s&3cret"));
        }
    }

    /// A client that was built without TLS is not made to go on without it.
    #[cfg(not(any(feature = "kafka-ssl", feature = "kafka-ssl-vendored")))]
    #[test]
    fn what_was_not_built_in_is_refused() {
        use crate::backend::kafka::produce::Pipe;
        use crate::backend::kafka::witness::Witness;
        for (options, named) in [
            // Which of its settings is named is the client's to say: it takes them in no order.
            (fine().tls(), "OpenSSL not available"),
            (fine().tls_ca("/ca.pem"), "OpenSSL not available"),
            (fine().sasl("SCRAM-SHA-256", "orders", "s3cret"), "SCRAM"),
        ] {
            let made = Pipe::start(&options, Witness::new(), 1);
            let error = made.err().expect("it is not built in").to_string();
            assert!(error.contains(named), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
