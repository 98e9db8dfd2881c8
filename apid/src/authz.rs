// SPDX-License-Identifier: Apache-2.0
//! Who may do what.
//!
//! A [`Permit`] is the proof that a caller may call a method. [`authorize`] is its only constructor, and nothing reaches PID 1
//! without one.

use crate::refusal::Refusal;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use stele_proto::method::{Method, Role};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Anyone, on a node without a configuration.
    Stranger,
    /// The holder of a client certificate that the handshake has verified.
    Client(Client),
}

/// The holder of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The common name.
    pub subject: String,
    /// The serial number, in lower-case hex.
    pub serial: String,
    /// The highest of the roles among the organizations, if there is one.
    pub role: Option<Role>,
    /// The end of the certificate's life.
    pub not_after: SystemTime,
}

impl Caller {
    /// The caller behind a certificate that the handshake has verified; `None` when it cannot be read.
    #[must_use]
    pub fn parse(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let subject = certificate.subject();
        let role =
            subject.iter_organization().filter_map(|name| Role::parse(name.as_str().ok()?)).max();
        let not_after =
            u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
        Some(Self::Client(Client {
            subject: subject
                .iter_common_name()
                .find_map(|name| name.as_str().ok())
                .unwrap_or_default()
                .to_owned(),
            serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            role,
            not_after: UNIX_EPOCH + Duration::from_secs(not_after),
        }))
    }

    /// The name in the audit log and before PID 1.
    #[must_use]
    pub fn subject(&self) -> &str {
        match self {
            Self::Stranger => "maintenance",
            Self::Client(client) => &client.subject,
        }
    }

    /// The certificate's serial number, empty without one.
    #[must_use]
    pub fn serial(&self) -> &str {
        match self {
            Self::Stranger => "",
            Self::Client(client) => &client.serial,
        }
    }

    /// The role in the audit log, empty without one.
    #[must_use]
    pub fn role(&self) -> &'static str {
        match self {
            Self::Client(Client { role: Some(role), .. }) => role.as_str(),
            Self::Stranger | Self::Client(_) => "",
        }
    }
}

/// The proof that a caller may call a method.
#[derive(Clone, Debug)]
pub struct Permit {
    method: Method,
    caller: Arc<Caller>,
    role: Role,
}

impl Permit {
    /// What may be called.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// Who calls.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.caller.subject()
    }

    /// The role in which it is called. A stranger has the one that the method needs.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }
}

/// Decides whether this caller may call the method with this path at this time.
pub fn authorize(path: &str, caller: &Arc<Caller>, now: SystemTime) -> Result<Permit, Refusal> {
    let method =
        Method::parse(path).ok_or_else(|| Refusal::UnknownMethod { path: path.to_owned() })?;
    let role = match caller.as_ref() {
        Caller::Stranger if method.in_maintenance() => method.role(),
        Caller::Stranger => return Err(Refusal::Maintenance { method }),
        // The handshake has checked it, but a connection can outlive a certificate.
        Caller::Client(client) if client.not_after < now => return Err(Refusal::Expired),
        Caller::Client(Client { role: None, .. }) => {
            return Err(Refusal::Role { method, held: "no role" });
        }
        Caller::Client(Client { role: Some(role), .. }) if *role < method.role() => {
            return Err(Refusal::Role { method, held: role.as_str() });
        }
        Caller::Client(Client { role: Some(role), .. }) => *role,
    };
    Ok(Permit { method, caller: Arc::clone(caller), role })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;

    fn client(role: Option<Role>) -> Arc<Caller> {
        Arc::new(Caller::Client(Client {
            subject: "ada".into(),
            serial: "01".into(),
            role,
            not_after: NOW + Duration::from_secs(10),
        }))
    }

    #[test]
    fn each_role_opens_its_methods_and_those_below() {
        for role in Role::ALL {
            for method in Method::ALL {
                let allowed = authorize(method.path(), &client(Some(role)), NOW).is_ok();
                assert_eq!(allowed, role >= method.role(), "{role} {method:?}");
            }
        }
    }

    #[test]
    fn no_role_opens_nothing() {
        for method in Method::ALL {
            assert!(authorize(method.path(), &client(None), NOW).is_err());
        }
    }

    #[test]
    fn a_stranger_may_only_bring_a_configuration() {
        for method in Method::ALL {
            let allowed = authorize(method.path(), &Arc::new(Caller::Stranger), NOW).is_ok();
            assert_eq!(allowed, *method == Method::ConfigApply, "{method:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_was_needed_and_held() {
        let refusal =
            authorize(Method::ConfigApply.path(), &client(Some(Role::Reader)), NOW).unwrap_err();
        let text = refusal.to_string();
        for part in ["/stele.v1.ConfigService/Apply", "os:admin", "os:reader"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_certificate_that_ends_while_connected_opens_nothing() {
        let later = NOW + Duration::from_secs(11);
        assert!(matches!(
            authorize(Method::MachineVersion.path(), &client(Some(Role::Admin)), later),
            Err(Refusal::Expired)
        ));
    }

    #[test]
    fn what_is_not_in_the_table_does_not_exist() {
        for path in
            ["/stele.v1.MachineService/version", stele_proto::method::REPORT_CERTIFICATE, "", "/"]
        {
            let refusal = authorize(path, &client(Some(Role::Admin)), NOW).unwrap_err();
            assert!(matches!(refusal, Refusal::UnknownMethod { .. }));
        }
    }
}
