// SPDX-License-Identifier: Apache-2.0
//! Who may do what.
//!
//! A [`Permit`] is the proof that a caller may call a method. [`authorize`] is its only constructor, and nothing reaches PID 1
//! without one.

use crate::{access::Access, refusal::Refusal};
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
    /// The highest of the roles that every machine knows among the organizations, if there is one.
    pub role: Option<Role>,
    /// All other organizations: they may be roles of the operator's own.
    pub own: Vec<String>,
    /// The end of the certificate's life.
    pub not_after: SystemTime,
}

impl Caller {
    /// The caller behind a certificate that the handshake has verified; `None` when it cannot be read.
    #[must_use]
    pub fn parse(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let subject = certificate.subject();
        let organizations = || subject.iter_organization().filter_map(|name| name.as_str().ok());
        let role = organizations().filter_map(Role::parse).max();
        let own = organizations().filter(|name| Role::parse(name).is_none());
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
            own: own.map(str::to_owned).collect(),
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

    /// What the caller has in place of a role that opens more, for the audit log and for people: the role that every machine
    /// knows, or what else the certificate names. Empty for neither.
    #[must_use]
    pub fn role(&self) -> String {
        match self {
            Self::Stranger => String::new(),
            Self::Client(Client { role: Some(role), .. }) => role.to_string(),
            Self::Client(Client { own, .. }) => own.join(" "),
        }
    }
}

/// The proof that a caller may call a method.
#[derive(Clone, Debug)]
pub struct Permit {
    method: Method,
    caller: Arc<Caller>,
    role: Role,
    by_own: bool,
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

    /// The serial number of the caller's certificate, empty without one.
    #[must_use]
    pub fn serial(&self) -> &str {
        self.caller.serial()
    }

    /// The caller's roles of the operator's own, if it is one of them that opens the method.
    #[must_use]
    pub fn own_roles(&self) -> &[String] {
        match self.caller.as_ref() {
            Caller::Client(Client { own, .. }) if self.by_own => own,
            Caller::Client(_) | Caller::Stranger => &[],
        }
    }

    /// The role in which it is called. A stranger, and who has a role of the operator's own, has the one that the method needs.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }
}

/// Decides whether this caller may call the method with this path at this time.
pub fn authorize(
    path: &str,
    caller: &Arc<Caller>,
    access: &Access,
    now: SystemTime,
) -> Result<Permit, Refusal> {
    let method =
        Method::parse(path).ok_or_else(|| Refusal::UnknownMethod { path: path.to_owned() })?;
    let role = match caller.as_ref() {
        Caller::Stranger if method.in_maintenance() => method.role(),
        Caller::Stranger => return Err(Refusal::Maintenance { method }),
        // The handshake has checked it, but a connection can outlive a certificate.
        Caller::Client(client) if client.not_after < now => return Err(Refusal::Expired),
        Caller::Client(client) => role(client, method, access)?,
    };
    let by_own = matches!(caller.as_ref(), Caller::Client(client) if client.role.is_none_or(|held| held < role));
    Ok(Permit { method, caller: Arc::clone(caller), role, by_own })
}

/// Whether something that was open to this caller no longer is.
#[must_use]
pub fn loses(caller: &Caller, before: &Access, after: &Access) -> bool {
    let Caller::Client(client) = caller else { return false };
    let opens = |method, access| role(client, method, access).is_ok();
    Method::ALL.iter().any(|method| opens(*method, before) && !opens(*method, after))
}

/// The role in which a client calls a method.
fn role(client: &Client, method: Method, access: &Access) -> Result<Role, Refusal> {
    if access.is_revoked(&client.serial) {
        return Err(Refusal::Revoked);
    }
    match client.role {
        Some(role) if role >= method.role() => Ok(role),
        // PID 1 knows no other roles. That of the method shows no more of it than its lowest caller sees.
        Some(_) | None if access.opens(&client.own, method) => Ok(method.role()),
        Some(role) => Err(Refusal::Role { method, held: role.to_string() }),
        None if client.own.is_empty() => Err(Refusal::Role { method, held: "no role".to_owned() }),
        None => Err(Refusal::Role { method, held: client.own.join(" ") }),
    }
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
            own: Vec::new(),
            not_after: NOW + Duration::from_secs(10),
        }))
    }

    #[test]
    fn each_role_opens_its_methods_and_those_below() {
        for role in Role::ALL {
            for method in Method::ALL {
                let allowed =
                    authorize(method.path(), &client(Some(role)), &Access::default(), NOW).is_ok();
                assert_eq!(allowed, role >= method.role(), "{role} {method:?}");
            }
        }
    }

    #[test]
    fn no_role_opens_nothing() {
        for method in Method::ALL {
            assert!(authorize(method.path(), &client(None), &Access::default(), NOW).is_err());
        }
    }

    #[test]
    fn a_stranger_may_only_bring_a_configuration() {
        for method in Method::ALL {
            let allowed =
                authorize(method.path(), &Arc::new(Caller::Stranger), &Access::default(), NOW)
                    .is_ok();
            assert_eq!(allowed, *method == Method::ConfigApply, "{method:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_was_needed_and_held() {
        let refusal = authorize(
            Method::ConfigApply.path(),
            &client(Some(Role::Reader)),
            &Access::default(),
            NOW,
        )
        .unwrap_err();
        let text = refusal.to_string();
        for part in ["/stele.v1.ConfigService/Apply", "os:admin", "os:reader"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_certificate_that_ends_while_connected_opens_nothing() {
        let later = NOW + Duration::from_secs(11);
        assert!(matches!(
            authorize(
                Method::MachineVersion.path(),
                &client(Some(Role::Admin)),
                &Access::default(),
                later
            ),
            Err(Refusal::Expired)
        ));
    }

    #[test]
    fn what_is_not_in_the_table_does_not_exist() {
        for path in
            ["/stele.v1.MachineService/version", stele_proto::method::REPORT_CERTIFICATE, "", "/"]
        {
            let refusal =
                authorize(path, &client(Some(Role::Admin)), &Access::default(), NOW).unwrap_err();
            assert!(matches!(refusal, Refusal::UnknownMethod { .. }));
        }
    }

    fn access(json: &str) -> Access {
        serde_json::from_str(json).unwrap()
    }

    fn auditor(role: Option<Role>) -> Arc<Caller> {
        let Caller::Client(client) = client(role).as_ref().clone() else { panic!("a client") };
        Arc::new(Caller::Client(Client { own: vec!["others".into(), "auditor".into()], ..client }))
    }

    #[test]
    fn a_role_of_the_operators_own_opens_what_it_names_and_nothing_else() {
        let apply = Method::ConfigApply;
        let access = access(&format!(r#"{{"roles":{{"auditor":["{}"]}}}}"#, apply.path()));
        for method in Method::ALL {
            let permit = authorize(method.path(), &auditor(None), &access, NOW);
            assert_eq!(permit.is_ok(), *method == apply, "{method:?}");
            assert!(authorize(method.path(), &client(None), &access, NOW).is_err(), "{method:?}");
            // Beside a role that every machine knows it adds what it names.
            let both = authorize(method.path(), &auditor(Some(Role::Reader)), &access, NOW);
            let allowed = *method == apply || method.role() == Role::Reader;
            assert_eq!(both.is_ok(), allowed, "{method:?}");
        }
        let permit = authorize(apply.path(), &auditor(None), &access, NOW).unwrap();
        assert_eq!(permit.role(), Role::Admin);
        assert_eq!(permit.own_roles(), ["others", "auditor"]);
        let known = authorize(apply.path(), &auditor(Some(Role::Admin)), &access, NOW).unwrap();
        assert!(known.own_roles().is_empty());
        let refusal =
            authorize(Method::ConfigGet.path(), &auditor(None), &access, NOW).unwrap_err();
        assert!(refusal.to_string().contains("has others auditor"), "{refusal}");
    }

    #[test]
    fn what_a_role_of_the_operators_own_reads_is_redacted() {
        let get = Method::ConfigGet;
        let access = access(&format!(r#"{{"roles":{{"auditor":["{}"]}}}}"#, get.path()));
        let permit = authorize(get.path(), &auditor(None), &access, NOW).unwrap();
        assert_eq!(permit.role(), Role::Reader);
    }

    #[test]
    fn a_revoked_certificate_opens_nothing() {
        // As 00:01 in DER.
        let access = access(r#"{"revoked":["1"]}"#);
        for method in Method::ALL {
            let refusal = authorize(method.path(), &client(Some(Role::Admin)), &access, NOW);
            assert!(matches!(refusal, Err(Refusal::Revoked)), "{method:?}");
        }
    }

    #[test]
    fn who_loses_something_is_known() {
        let [none, log, all, revoked] = [
            "{}",
            r#"{"roles":{"auditor":["/stele.v1.LogService/Stream"]}}"#,
            r#"{"roles":{"auditor":["/stele.v1.LogService/Stream","/stele.v1.ConfigService/Apply"]}}"#,
            r#"{"revoked":["1"]}"#,
        ]
        .map(access);
        let (auditor, admin) = (auditor(None), client(Some(Role::Admin)));
        assert!(loses(&auditor, &all, &log) && loses(&auditor, &log, &none));
        assert!(!loses(&auditor, &none, &log) && !loses(&auditor, &log, &all));
        assert!(!loses(&admin, &all, &none) && loses(&admin, &none, &revoked));
        assert!(!loses(&Caller::Stranger, &none, &revoked));
    }
}
