// SPDX-License-Identifier: Apache-2.0
//! That failures say what to do.

use super::*;
use prost::Message as _;
use std::sync::Arc;
use tonic_types::pb;

fn wrapped(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[test]
fn an_alert_inside_an_io_error_is_found() {
    let error = wrapped(rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA));
    let failure = Failure::tls("Connecting to a".to_owned(), &error, Approach::Mutual);
    assert_eq!(failure.why, "received fatal alert: UnknownCA");
    assert!(failure.hint.unwrap().contains("does not know the CA"));
}

#[test]
fn a_configured_node_met_with_insecure_says_so() {
    let error =
        wrapped(rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired));
    let failure = Failure::tls("Connecting to a".to_owned(), &error, Approach::Pinned);
    assert!(failure.hint.unwrap().contains("configured already"));
}

#[test]
fn a_node_in_maintenance_met_without_insecure_says_so() {
    let error = wrapped(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer));
    let failure = Failure::tls("Connecting to a".to_owned(), &error, Approach::Mutual);
    assert!(failure.hint.unwrap().contains("--insecure --fingerprint"));
}

#[test]
fn the_nodes_answer_is_told_with_its_code() {
    let failure = Failure::status(
        "Rebooting".to_owned(),
        &Status::permission_denied("Reboot needs os:operator, alice has os:reader"),
    );
    assert_eq!(failure.why, "Reboot needs os:operator, alice has os:reader (PERMISSION_DENIED)");
    assert!(!failure.is_lost());
}

#[test]
fn a_lost_connection_is_no_answer() {
    let mut status = Status::unknown("transport error");
    status.set_source(Arc::new(io::Error::other("connection reset")));
    let failure = Failure::status("Listing".to_owned(), &status);
    assert_eq!(failure.why, "connection reset");
    assert!(failure.is_lost() && failure.hint.unwrap().contains("rebooting"));
}

#[test]
fn findings_come_out_of_the_details() {
    let finding = stele_proto::v1::Finding {
        document: 2,
        kind: "Link".to_owned(),
        line: 9,
        message: "no".to_owned(),
        ..Default::default()
    };
    let value = stele_proto::v1::Findings { findings: vec![finding] }.encode_to_vec();
    let details = pb::Status {
        code: 3,
        message: "no".to_owned(),
        details: vec![prost_types::Any {
            type_url: "type.googleapis.com/stele.v1.Findings".to_owned(),
            value,
        }],
    };
    let status = Status::with_details(Code::InvalidArgument, "no", details.encode_to_vec().into());
    let failure = Failure::status("Applying".to_owned(), &status);
    assert_eq!(failure.findings.len(), 1);
    assert_eq!((failure.findings[0].line, failure.findings[0].kind.as_str()), (9, "Link"));
}

#[test]
fn a_chain_says_nothing_twice() {
    let inner = io::Error::other("deep");
    #[derive(Debug)]
    struct Outer(io::Error);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "outer: {}", self.0)
        }
    }
    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
    assert_eq!(sentence(&Outer(inner)), "outer: deep");
}

#[test]
fn codes_are_spelled_as_in_the_protocol() {
    assert_eq!(code_name(Code::InvalidArgument), "INVALID_ARGUMENT");
    assert_eq!(code_name(Code::Ok), "OK");
}
