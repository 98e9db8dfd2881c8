// SPDX-License-Identifier: Apache-2.0
//! What VMware's hypervisor holds for the machine: the keys below `guestinfo.`, as cloud-init has them.
//!
//! * `userdata`: the user-data.
//! * `metadata`: YAML or JSON; `instance-id`, `local-hostname`, and `network`, a description of the network or its text.
//! * `ovfEnv`: the OVF environment; for what the two above do not say.
//!
//! Beside `userdata`, `metadata` and the metadata's `network`, a key with `.encoding` behind it says in what they are wrapped:
//! `base64`, or `gzip+base64`. What the hypervisor was told to forget reads `---`, which is an empty document of YAML.
//!
//! <https://docs.cloud-init.io/en/latest/reference/datasources/vmware.html>

pub mod rpc;

#[cfg(test)]
mod model;

use crate::{about, metadata::Said, network, ovf};
use base64ct::{Base64, Encoding as _};
use flate2::read::GzDecoder;
use rpc::{Rpc, RpcError};
use serde_json::Value;
use std::io::Read as _;
use stele_config::MAX_BYTES;
use stele_kernel::backdoor::Step;

/// The largest value: what is at most read, in base64.
pub const LONGEST: u32 = 3 << 19;
/// What is left of what was to be forgotten.
const FORGOTTEN: &str = "---";
/// How a hypervisor says that it has no such key.
const ABSENT: &str = "No value found";

/// Why nothing was heard.
#[derive(Debug, thiserror::Error)]
pub enum GuestinfoError {
    /// A key that can't be had.
    #[error("asking for guestinfo.{key}")]
    Get {
        /// The key.
        key: String,
        /// Why.
        #[source]
        source: RpcError,
    },
    /// A key that can't be written.
    #[error("clearing guestinfo.{key}")]
    Set {
        /// The key.
        key: &'static str,
        /// Why.
        #[source]
        source: RpcError,
    },
    /// A value that is not wrapped as it is said to be.
    #[error("guestinfo.{key} should be in {encoding:?}, and {why}")]
    Encoding {
        /// The key.
        key: &'static str,
        /// In what it should be wrapped.
        encoding: String,
        /// What is wrong.
        why: String,
    },
    /// Nobody takes what was heard.
    #[error("passing it on")]
    Output(#[source] std::io::Error),
}

/// Asks for everything.
///
/// # Errors
/// When the hypervisor does not answer in order, or the user-data is not wrapped as it says. What it says of the machine and of
/// the network in a way that nobody understands is told on standard error, and costs nothing else.
pub fn read<S: FnMut(Step) -> Step>(rpc: &mut Rpc<S>) -> Result<Said, GuestinfoError> {
    let environment = get(rpc, "ovfEnv")?;
    let user_data = decoded(rpc, "userdata")?;
    let user_data = user_data.or_else(|| environment.clone().filter(|it| has_user_data(it)));
    let mut said = Said { user_data, ..Said::default() };
    if let Some(environment) = &environment {
        said.attributes = told(about::Form::Ovf.attributes(environment));
        said.network = told(network::Form::Ovf.documents(environment)).told();
    }
    let metadata = match decoded(rpc, "metadata") {
        // It may say who this is.
        Err(error @ GuestinfoError::Get { .. }) => return Err(error),
        decoded => told(decoded),
    };
    if let Some(metadata) = metadata {
        said.attributes.extend(told(about::Form::NoCloud.attributes(&metadata)));
        if let Some(description) = told(described(&metadata)) {
            said.network = told(network::Form::NoCloud.documents(&description)).told();
        }
    }
    Ok(said)
}

/// Has the hypervisor forget the user-data, wherever that is.
///
/// # Errors
/// When it does not.
pub fn forget<S: FnMut(Step) -> Step>(rpc: &mut Rpc<S>) -> Result<(), GuestinfoError> {
    if get(rpc, "userdata")?.is_some() {
        set(rpc, "userdata", FORGOTTEN)?;
        // What is set next need not be wrapped as this was. There is no way to set nothing.
        set(rpc, "userdata.encoding", " ")?;
    }
    match get(rpc, "ovfEnv")? {
        Some(environment) if has_user_data(&environment) => set(rpc, "ovfEnv", FORGOTTEN),
        _ => Ok(()),
    }
}

fn has_user_data(environment: &[u8]) -> bool {
    let text = String::from_utf8_lossy(environment);
    ovf::read(&text).is_ok_and(|environment| environment.user_data.is_some())
}

/// What is understood; or nothing, and the reason on standard error.
fn told<T: Default, E: std::error::Error>(understood: Result<T, E>) -> T {
    understood.unwrap_or_else(|error| {
        eprintln!("{error}");
        T::default()
    })
}

/// The description of the network in the metadata, which may be text in a wrapping of its own.
fn described(metadata: &[u8]) -> Result<Option<Vec<u8>>, GuestinfoError> {
    let metadata: Value = serde_yaml::from_slice(metadata).unwrap_or_default();
    Ok(match metadata.get("network") {
        Some(Value::String(text)) => {
            let encoding = metadata.get("network.encoding").and_then(Value::as_str);
            Some(unwrap("metadata", text.clone().into_bytes(), encoding.unwrap_or_default())?)
        }
        Some(network @ Value::Object(_)) => Some(network.to_string().into_bytes()),
        _ => None,
    })
}

/// What a key has, without its wrapping.
fn decoded<S: FnMut(Step) -> Step>(
    rpc: &mut Rpc<S>,
    key: &'static str,
) -> Result<Option<Vec<u8>>, GuestinfoError> {
    let Some(value) = get(rpc, key)? else { return Ok(None) };
    let encoding = get(rpc, &format!("{key}.encoding"))?.unwrap_or_default();
    unwrap(key, value, String::from_utf8_lossy(&encoding).trim()).map(Some)
}

/// What a key has, if it has anything.
fn get<S: FnMut(Step) -> Step>(
    rpc: &mut Rpc<S>,
    key: &str,
) -> Result<Option<Vec<u8>>, GuestinfoError> {
    match rpc.ask(&format!("info-get guestinfo.{key}")) {
        Ok(value) => {
            let nothing = matches!(value.trim_ascii(), b"" | b"---");
            Ok((!nothing).then_some(value))
        }
        Err(RpcError::Refused(words)) if words == ABSENT => Ok(None),
        Err(source) => Err(GuestinfoError::Get { key: key.to_owned(), source }),
    }
}

fn set<S: FnMut(Step) -> Step>(
    rpc: &mut Rpc<S>,
    key: &'static str,
    value: &str,
) -> Result<(), GuestinfoError> {
    let done = rpc.ask(&format!("info-set guestinfo.{key} {value}"));
    done.map(drop).map_err(|source| GuestinfoError::Set { key, source })
}

fn unwrap(key: &'static str, value: Vec<u8>, encoding: &str) -> Result<Vec<u8>, GuestinfoError> {
    let wrong = |why: String| GuestinfoError::Encoding { key, encoding: encoding.to_owned(), why };
    let decode = || {
        let text: Vec<u8> =
            value.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let decoded = std::str::from_utf8(&text).ok().map(Base64::decode_vec);
        decoded.and_then(Result::ok).ok_or_else(|| wrong("is not".to_owned()))
    };
    match encoding {
        "" => Ok(value),
        "base64" | "b64" => decode(),
        "gzip+base64" | "gz+b64" => {
            let (packed, mut plain) = (decode()?, Vec::new());
            // One byte more than is read tells too much from just enough.
            let unpacked =
                GzDecoder::new(&*packed).take(MAX_BYTES as u64 + 1).read_to_end(&mut plain);
            unpacked.map_err(|error| wrong(format!("can't be unpacked: {error}")))?;
            if plain.len() > MAX_BYTES {
                return Err(wrong(format!("has more than {MAX_BYTES} bytes")));
            }
            Ok(plain)
        }
        _ => Err(wrong("that is no encoding that is known".to_owned())),
    }
}

#[cfg(test)]
mod tests;
