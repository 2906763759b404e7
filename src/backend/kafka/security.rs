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
