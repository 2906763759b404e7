//! Users with a credentials file: an operator of the test's own signs for an account, and the account for its users.

use anyhow::{Result, anyhow};
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// Signs tokens that a server set up with [`Nats::operator`](crate::Nats::operator) trusts. Its files live as long
/// as it does.
pub struct Operator {
    operator: KeyPair,
    account: KeyPair,
    system: KeyPair,
    folder: TempDir,
}

impl Operator {
    /// An operator with one account, which may use JetStream.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("clearway-test-")
            .tempdir()?;
        let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
        Ok(Self {
            operator,
            account,
            system: KeyPair::new_account(),
            folder,
        })
    }

    /// The credentials file of a new user of the account.
    pub fn user(&self, name: &str) -> Result<PathBuf> {
        let key = KeyPair::new_user();
        let rights = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
        let token = token(&self.account, name, &key, rights)?;
        let seed = key.seed().map_err(failed)?;
        let file = self.folder.path().join(name).with_extension("creds");
        // The dashes are part of the format, the odd ones too.
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// The lines of the server's configuration that make it trust this operator.
    pub(crate) fn config(&self) -> Result<String> {
        let operator = token(
            &self.operator,
            "operator",
            &self.operator,
            json!({ "type": "operator", "version": 2 }),
        )?;
        let (account, system) = (self.account.public_key(), self.system.public_key());
        let signed = token(&self.operator, "account", &self.account, rights(-1))?;
        // The server insists on a system account, and on its having no JetStream.
        let signed_system = token(&self.operator, "system", &self.system, rights(0))?;
        Ok(format!(
            "operator: {operator}\nsystem_account: {system}\nresolver: MEMORY\n\
             resolver_preload: {{\n  {account}: {signed}\n  {system}: {signed_system}\n}}"
        ))
    }
}

/// What an account may do: everything, and JetStream within `jetstream` (-1: no limit, 0: none).
fn rights(jetstream: i64) -> Value {
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": jetstream, "disk_storage": jetstream, "streams": jetstream, "consumer": jetstream,
    });
    json!({ "type": "account", "version": 2, "limits": limits })
}

/// A token in which `issuer` vouches for `subject`.
fn token(issuer: &KeyPair, name: &str, subject: &KeyPair, rights: Value) -> Result<String> {
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let claims = json!({
        "iat": SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        "iss": issuer.public_key(),
        "sub": subject.public_key(),
        "jti": subject.public_key(),
        "name": name,
        "nats": rights,
    });
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = issuer.sign(signed.as_bytes()).map_err(failed)?;
    Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
}

fn failed(error: nkeys::error::Error) -> anyhow::Error {
    anyhow!("signing with a key of the test's own: {error}")
}
