// SPDX-License-Identifier: Apache-2.0
//! What went wrong with a node: what was tried, why it failed, what to do about it.

use std::{error::Error, fmt, io};
use stele_config::Finding;
use tonic::{Code, Status};

/// One failed thing, explained.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What was tried, such as `Connecting to 10.0.0.5:50000`.
    pub(crate) tried: String,
    /// Why it failed.
    pub(crate) why: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// What is wrong with a configuration, if that is it.
    pub(crate) findings: Vec<Finding>,
    /// The node's answer, or none if it did not get as far as answering.
    pub(crate) code: Option<Code>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.tried, self.why)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  {hint}")?;
        }
        Ok(())
    }
}

impl Error for Failure {}

/// How a node was approached, which is half of why it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Approach {
    /// With a context's credentials.
    Mutual,
    /// In maintenance mode, by fingerprint.
    Pinned,
}

impl Failure {
    /// One without a place in the protocol.
    pub(crate) fn new(
        tried: impl Into<String>,
        why: impl Into<String>,
        hint: Option<&str>,
    ) -> Failure {
        Failure {
            tried: tried.into(),
            why: why.into(),
            hint: hint.map(str::to_owned),
            findings: Vec::new(),
            code: None,
        }
    }

    /// The TCP connection failed.
    pub(crate) fn tcp(tried: String, error: &io::Error) -> Failure {
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(
                "The host is there, and nothing listens on that port. Is the node up yet, and is it its API's port (50000 by default)?",
            ),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Some(
                "There is no way to that address from here. Is it the node's address, shown on its console?",
            ),
            _ if error.to_string().contains("lookup") => Some(
                "The name has no address here. Use the node's IP address, shown on its console, or NAME=ADDRESS",
            ),
            _ => None,
        };
        Failure::new(tried, sentence(error), hint)
    }

    /// It took too long.
    pub(crate) fn timeout(tried: String, seconds: f64) -> Failure {
        Failure::new(
            tried,
            format!("no answer within {seconds} s"),
            Some(
                "Is the node up and its address right, and does a firewall drop the packets? --timeout waits longer",
            ),
        )
    }

    /// TLS failed: here, when the node was verified, or there, when it verified us.
    pub(crate) fn tls(tried: String, error: &(dyn Error + 'static), approach: Approach) -> Failure {
        let why = match find::<rustls::Error>(error) {
            // Its Display shows what we put into it as debug output.
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(ours))) => {
                ours.0.to_string()
            }
            Some(error) => error.to_string(),
            None => sentence(error),
        };
        let hint = find::<rustls::Error>(error)
            .and_then(|error| presented(error, approach))
            .or_else(|| alert(&why, approach))
            .or_else(|| cut_off(error));
        Failure::new(tried, why, hint)
    }

    /// A call ended with a status: the node's answer, or what the connection died of.
    pub(crate) fn status(tried: String, status: &Status) -> Failure {
        if let Some(source) = status.source() {
            let mut failure = Failure::tls(tried, source, Approach::Mutual);
            if failure.hint.is_none() {
                failure.hint = Some(
                    "The connection was lost. Is the node rebooting, or its network changing?"
                        .to_owned(),
                );
            }
            return failure;
        }
        let hint = match status.code() {
            Code::PermissionDenied => Some(
                "Use a context whose client certificate has that role: ctl config contexts shows what there is",
            ),
            Code::Unimplemented => Some(
                "The node's version does not know this call, or does not answer it in its mode. ctl version shows both sides",
            ),
            _ => None,
        };
        let message =
            if status.message().is_empty() { "no reason given" } else { status.message() };
        Failure {
            tried,
            why: format!("{message} ({})", code_name(status.code())),
            hint: hint.map(str::to_owned),
            findings: findings(status),
            code: Some(status.code()),
        }
    }

    /// True if the connection broke, rather than the node refusing.
    pub(crate) fn is_lost(&self) -> bool {
        self.code.is_none()
    }
}

/// The findings in the details of a status.
fn findings(status: &Status) -> Vec<Finding> {
    use prost::Message as _;
    let Ok(details) = tonic_types::Status::decode(status.details()) else { return Vec::new() };
    details
        .details
        .iter()
        .filter(|any| any.type_url.ends_with("/stele.v1.Findings"))
        .filter_map(|any| stele_proto::v1::Findings::decode(any.value.as_slice()).ok())
        .flat_map(|findings| findings.findings)
        .map(crate::findings::from_wire)
        .collect()
}

/// What a certificate error of ours means: the node presented something that does not verify.
fn presented(error: &rustls::Error, approach: Approach) -> Option<&'static str> {
    use rustls::CertificateError as Cert;
    let rustls::Error::InvalidCertificate(error) = error else { return None };
    Some(match error {
        Cert::UnknownIssuer | Cert::BadSignature => {
            "The node's certificate is not from this context's CA. Is it the right context (--context), and is the node configured? \
             In maintenance mode it has a certificate of its own: ctl apply-config --insecure --fingerprint SHA256:…"
        }
        Cert::NotValidForName | Cert::NotValidForNameContext { .. } => {
            "The certificate is of this context's CA, and for another name than the one expected. Through a port forward, or at an \
             address that the node does not know of, say what to expect: -n NAME=ADDRESS, NAME being its hostname, or, if it \
             was renamed, an address of its own"
        }
        Cert::Expired
        | Cert::ExpiredContext { .. }
        | Cert::NotValidYet
        | Cert::NotValidYetContext { .. } => {
            "The clock here or the node's is wrong, or its certificate has run out: a node renews it by itself while it runs"
        }
        Cert::InvalidPurpose | Cert::InvalidPurposeContext { .. } => {
            "Whatever answers there holds a certificate that is not for servers: it is no node"
        }
        Cert::Other(_) => {
            "A node makes certificates for any name, and its identity is what ctl gen config gave it. If it was renamed, expect its \
             address instead: -n ADDRESS, or -n ADDRESS=FORWARDED-ADDRESS. If not, another node, perhaps a stolen one, takes its place"
        }
        Cert::ApplicationVerificationFailure if approach == Approach::Pinned => return None,
        _ => return None,
    })
}

/// What an alert of the node's means: it does not take our certificate.
fn alert(why: &str, approach: Approach) -> Option<&'static str> {
    let (_, alert) = why.split_once("received fatal alert: ")?;
    Some(match alert.split(|c: char| !c.is_ascii_alphanumeric()).next()? {
        "CertificateRequired" | "HandshakeFailure" if approach == Approach::Pinned => {
            "The node asks for a client certificate: it is configured already. Leave --insecure and --fingerprint away and use its context"
        }
        "UnknownCA" | "BadCertificate" | "DecryptError" => {
            "The node does not know the CA of this context's client certificate. Is it the right context (--context)?"
        }
        "CertificateExpired" => {
            "The node holds this context's client certificate for expired, or not valid yet. Is the node's clock right? ctl gen client makes a new one"
        }
        "UnsupportedCertificate" => {
            "This context's certificate is not for clients: ctl gen client makes one that is"
        }
        "CertificateRequired" => "The node asks for a client certificate and this context has none",
        "ProtocolVersion" | "NoApplicationProtocol" => {
            "Whatever answers there does not speak gRPC over TLS 1.3: is it the port of the API?"
        }
        _ => return None,
    })
}

/// What it means when a connection is closed without a word.
fn cut_off(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let kind = find::<io::Error>(error)?.kind();
    matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset).then_some(
        "Something is there and closes connections without a word: a port forward whose node is not up yet, a node that is \
         starting or stopping, or one that has as many connections as it takes",
    )
}

/// The first error of this type in a chain, also inside of an [`io::Error`], which hides what it wraps from `source`.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// A chain in one sentence, saying nothing twice.
pub(crate) fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = error.source();
    }
    text
}

/// A status code as the protocol spells it.
pub(crate) fn code_name(code: Code) -> String {
    let camel = format!("{code:?}");
    let mut name = String::new();
    for (i, c) in camel.chars().enumerate() {
        if i > 0 && c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests;
