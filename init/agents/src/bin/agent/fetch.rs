// SPDX-License-Identifier: Apache-2.0
//! `agent fetch URL` and `agent fetch --registry REFERENCE`: what is there, on standard output.
//!
//! Exit 0 when all of it is written; 3 when the server has nothing there for us; otherwise 1. One line on standard error says
//! what was tried and why it failed.

use std::io::{self, Write};
use std::process::ExitCode;

use stele_agents::fetch::place::Registries;
use stele_agents::fetch::reference::Reference;
use stele_agents::fetch::registry::Registry;
use stele_agents::fetch::{
    FetchError, Origin, Wanted, client, fetch, parse, roots, sentence, shown, signature_of,
};

/// Authorities that are believed: the image's, and the configuration's.
const ROOTS: [&str; 2] =
    ["/usr/share/ca-certificates/ca-certificates.crt", "/run/stele/trust/roots.pem"];
/// What the configuration says of registries.
const REGISTRIES: &str = "/run/stele/fetch/registries.json";
const USAGE: &str =
    "agent fetch URL [--signature] | agent fetch --registry REFERENCE (--documents | --blob SHA256)
       [--max BYTES] [--from BYTE] [--rate BYTES]";

/// What to fetch.
enum What {
    Body,
    Signature,
    Documents,
    Blob(String),
}

struct Arguments {
    /// The URL, or the name in a registry.
    place: String,
    what: What,
    wanted: Wanted,
}

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    let Some(arguments) = Arguments::parse(arguments) else {
        return crate::misused(USAGE);
    };
    let mut name = arguments.place.clone();
    match crate::block_on(bring(arguments, &mut name)) {
        Err(code) => code,
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            let name = name.replace(char::is_control, " ");
            eprintln!("fetching {name}: {}", sentence(&error));
            ExitCode::from(if error.is_absence() { 3 } else { 1 })
        }
    }
}

/// The authorities that are believed, or those in the file that `SSL_CERT_FILE` names.
pub(crate) fn trusted() -> Vec<u8> {
    match std::env::var_os("SSL_CERT_FILE") {
        Some(file) => roots(&[file]),
        None => roots(&ROOTS),
    }
}

/// Does it. `name` becomes how what was fetched may be called.
async fn bring(arguments: Arguments, name: &mut String) -> Result<(), FetchError> {
    let Arguments { place, what, wanted } = arguments;
    let roots = trusted();
    let mut output = io::stdout().lock();
    let origin = match what {
        What::Body | What::Signature => {
            let mut url = parse(&place)?;
            *name = shown(&url);
            if matches!(what, What::Signature) {
                url = signature_of(&url);
                *name = format!("the signature {}", shown(&url));
            }
            Origin::Url(url)
        }
        What::Documents => {
            let registries = Registries::read(REGISTRIES.as_ref())?;
            let mut registry = Registry::new(Reference::parse(&place)?, &registries);
            let documents = registry.documents(&client(&roots)?).await?;
            let bytes = serde_json::to_vec(&documents)
                .map_err(|error| FetchError::Registry(error.to_string()))?;
            return output
                .write_all(&bytes)
                .and_then(|()| output.flush())
                .map_err(FetchError::Output);
        }
        What::Blob(sha256) => {
            let registries = Registries::read(REGISTRIES.as_ref())?;
            let registry = Registry::new(Reference::parse(&place)?, &registries);
            Origin::Blob(Box::new(registry), format!("sha256:{sha256}"))
        }
    };
    fetch(&client(&roots)?, origin, wanted, &mut output).await.map(drop)
}

impl Arguments {
    fn parse(words: &[&str]) -> Option<Arguments> {
        let mut words = words.iter().copied();
        let mut place = words.next()?;
        let in_registry = place == "--registry";
        if in_registry {
            place = words.next()?;
        }
        let mut what = None;
        let mut wanted = Wanted::up_to(u64::MAX);
        while let Some(word) = words.next() {
            match (word, in_registry) {
                ("--signature", false) => what = Some(What::Signature),
                ("--documents", true) => what = Some(What::Documents),
                ("--blob", true) => what = Some(What::Blob(words.next()?.to_owned())),
                ("--max", _) => wanted.max = words.next()?.parse().ok()?,
                ("--from", _) => wanted.from = words.next()?.parse().ok()?,
                ("--rate", _) => wanted.rate = Some(words.next()?.parse().ok()?),
                _ => return None,
            }
        }
        if what.is_none() && !in_registry {
            what = Some(What::Body);
        }
        Some(Arguments { place: place.to_owned(), what: what?, wanted })
    }
}
