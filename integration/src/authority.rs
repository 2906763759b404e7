//! A certificate authority of the test's own, made when the test runs: no key lies in the repository, none expires.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Issues certificates. Its files live as long as it does.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    folder: TempDir,
}

/// A certificate with its key, as PEM and as files for clients that want paths.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate as PEM.
    pub certificate: String,
    /// Its private key as PEM.
    pub key: String,
    /// Where the certificate lies.
    pub certificate_file: PathBuf,
    /// Where the key lies.
    pub key_file: PathBuf,
}

impl Authority {
    /// A new authority that nobody trusts yet.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = named("Clearway test authority", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        let folder = tempfile::Builder::new()
            .prefix("clearway-test-")
            .tempdir()?;
        std::fs::write(folder.path().join("ca.pem"), &certificate)?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
            folder,
        })
    }

    /// The authority's own certificate as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Where the authority's own certificate lies: what a client has to trust.
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// For a server on this machine's loopback.
    pub fn server(&self) -> Result<Identity> {
        self.issue(
            "server",
            &["localhost", "127.0.0.1"],
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    /// For a client of that name.
    pub fn client(&self, name: &str) -> Result<Identity> {
        self.issue(name, &[name], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        name: &str,
        hosts: &[&str],
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let mut params = named(name, hosts)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let key = key.serialize_pem();
        let (certificate_file, key_file) = (
            self.keep(name, "pem", &certificate)?,
            self.keep(name, "key", &key)?,
        );
        Ok(Identity {
            certificate,
            key,
            certificate_file,
            key_file,
        })
    }

    fn keep(&self, name: &str, kind: &str, text: &str) -> Result<PathBuf> {
        let file = self
            .folder
            .path()
            .join(Path::new(name).with_extension(kind));
        std::fs::write(&file, text)?;
        Ok(file)
    }
}

fn named(name: &str, hosts: &[&str]) -> Result<CertificateParams> {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
