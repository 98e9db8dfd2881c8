// SPDX-License-Identifier: Apache-2.0
//! Where a registry's things are to be had, and with which password: what the configuration says of registries, as PID 1
//! writes it down for this agent (docs/architecture.md).

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;

use reqwest::{RequestBuilder, Url, header::HeaderValue};
use serde::Deserialize;

use crate::fetch::FetchError;
use crate::fetch::reference::Reference;

/// What the configuration says of registries.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registries {
    /// Registry → addresses to ask before it.
    mirrors: HashMap<String, Vec<String>>,
    /// Registry or mirror → who asks.
    passwords: HashMap<String, Password>,
}

/// Who asks. Debug output does not show the password.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Password {
    pub(crate) username: String,
    password: String,
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and a password", self.username)
    }
}

impl Password {
    /// Tells it to a server.
    pub(crate) fn tell(&self, request: RequestBuilder) -> RequestBuilder {
        request.basic_auth(&self.username, Some(&self.password))
    }
}

/// One server that may have a repository.
#[derive(Debug)]
pub(crate) struct Place {
    /// `https://HOST:PORT/v2/NAME/`.
    pub(crate) base: Url,
    pub(crate) password: Option<Password>,
    /// How it was last content to be asked.
    pub(crate) permit: Option<Permit>,
}

/// What a server wants to see with each request.
#[derive(Clone, Debug)]
pub(crate) enum Permit {
    /// The password.
    Password(Password),
    /// A token.
    Token(HeaderValue),
}

impl Registries {
    /// Reads them; without the file there are none.
    ///
    /// # Errors
    /// When the file is there and can't be read.
    pub fn read(file: &Path) -> Result<Registries, FetchError> {
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Registries::default());
            }
            Err(error) => return Err(FetchError::Registries(error)),
        };
        serde_json::from_slice(&bytes).map_err(|error| FetchError::Registries(error.into()))
    }

    /// Where to ask for a repository: its mirrors, then its registry.
    pub(crate) fn places(&self, reference: &Reference) -> Vec<Place> {
        let mirrors = names(&reference.base).into_iter().find_map(|name| self.mirrors.get(&name));
        let mirrors = mirrors.into_iter().flatten().filter_map(|mirror| {
            let mut base = Url::parse(mirror).ok()?;
            let path = format!("{}/v2/{}/", base.path().trim_end_matches('/'), reference.name);
            base.set_path(&path);
            Some(base)
        });
        let bases = mirrors.chain([reference.base.clone()]);
        let password = |base: &Url| names(base).iter().find_map(|name| self.passwords.get(name));
        bases.map(|base| Place { password: password(&base).cloned(), base, permit: None }).collect()
    }
}

/// How the configuration may name a server: with its port, and without where it is the usual one.
fn names(url: &Url) -> Vec<String> {
    let host = url.host_str().unwrap_or_default();
    let with_port = url.port_or_known_default().map(|port| format!("{host}:{port}"));
    let without = url.port().is_none().then(|| host.to_owned());
    with_port.into_iter().chain(without).collect()
}
