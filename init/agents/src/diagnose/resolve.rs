// SPDX-License-Identifier: Apache-2.0
//! A question to a name server.

use super::{DiagnoseError, micros, plain};
use crate::diagnose;
use crate::probe::{
    Names,
    dns::{NameError, exchange},
};
use hickory_proto::{
    op::Message,
    rr::{Name, Record, RecordType},
};
use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use stele_proto::v1::{DnsRecord, Family, ResolveRequest, ResolveResponse};
use tokio::time::{Instant, timeout};

/// What may be asked for; a transfer of a zone may not.
const TYPES: [RecordType; 15] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::CAA,
    RecordType::CNAME,
    RecordType::DNSKEY,
    RecordType::DS,
    RecordType::HTTPS,
    RecordType::MX,
    RecordType::NS,
    RecordType::PTR,
    RecordType::SOA,
    RecordType::SRV,
    RecordType::SVCB,
    RecordType::TXT,
    RecordType::ANY,
];
/// Records of an answer that are passed on.
const MOST: usize = 200;

pub(super) async fn run(
    request: ResolveRequest,
    names: &Names,
) -> Result<ResolveResponse, DiagnoseError> {
    let (name, kind) = question(&request)?;
    let failed = |source: Box<dyn Error + Send + Sync>| DiagnoseError::Host {
        host: plain(&request.name),
        source,
    };
    let servers = match server(&request.server)? {
        Some(server) => vec![server],
        None => names.servers().map_err(|error| failed(error.into()))?,
    };
    let patience = Duration::from_millis(request.timeout_ms.into());
    let mut last = NameError::NoServers;
    for server in servers {
        let begun = Instant::now();
        match timeout(patience, exchange(server, &name, kind)).await {
            Ok(Ok(answer)) => return Ok(response(&answer, server, begun.elapsed())),
            Ok(Err(error)) => last = error,
            Err(_late) => last = NameError::Silent(server),
        }
    }
    Err(failed(last.into()))
}

/// The addresses of a host, as every program of the machine would find them: PID 1 asks for those of tunnels.
pub(super) async fn addresses(
    request: ResolveRequest,
    names: &Names,
) -> Result<ResolveResponse, DiagnoseError> {
    let all = diagnose::addresses(&request.name, Family::Unspecified, names).await?;
    let record = |address: IpAddr| DnsRecord {
        name: request.name.clone(),
        r#type: if address.is_ipv4() { RecordType::A } else { RecordType::AAAA }.to_string(),
        ttl: 0,
        data: address.to_string(),
    };
    let answers = all.into_iter().take(MOST).map(record).collect();
    Ok(ResolveResponse { answers, ..ResolveResponse::default() })
}

/// The name and the type that are asked for.
fn question(request: &ResolveRequest) -> Result<(Name, RecordType), DiagnoseError> {
    let impossible = |text: String| DiagnoseError::Impossible(text);
    let kind = match request.r#type.to_ascii_uppercase().as_str() {
        "" => None,
        text => Some(
            TYPES
                .into_iter()
                .find(|kind| kind.to_string() == text)
                .ok_or_else(|| impossible(format!("{text} is no type that can be asked for")))?,
        ),
    };
    if let Ok(address) = request.name.parse::<IpAddr>() {
        return Ok((Name::from(address), kind.unwrap_or(RecordType::PTR)));
    }
    let mut name = Name::from_ascii(&request.name)
        .map_err(|error| impossible(format!("{} is not a name: {error}", request.name)))?;
    name.set_fqdn(true);
    Ok((name, kind.unwrap_or(RecordType::A)))
}

/// An address, with the port 53 if there is none.
fn server(text: &str) -> Result<Option<SocketAddr>, DiagnoseError> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    let address = address.or_else(|_| text.parse());
    let wrong = |_| DiagnoseError::Impossible(format!("{text} is not the address of a server"));
    address.map(Some).map_err(wrong)
}

fn response(answer: &Message, server: SocketAddr, took: Duration) -> ResolveResponse {
    let records = |records: &[Record]| records.iter().take(MOST).map(record).collect();
    ResolveResponse {
        code: format!("{:?}", answer.metadata.response_code),
        server: server.to_string(),
        authoritative: answer.metadata.authoritative,
        answers: records(&answer.answers),
        authorities: records(&answer.authorities),
        time_us: micros(took),
    }
}

fn record(record: &Record) -> DnsRecord {
    DnsRecord {
        name: plain(&record.name.to_string()),
        r#type: record.record_type().to_string(),
        ttl: record.ttl,
        data: plain(&record.data.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, kind: &str) -> Result<String, DiagnoseError> {
        let request =
            ResolveRequest { name: name.into(), r#type: kind.into(), ..ResolveRequest::default() };
        question(&request).map(|(name, kind)| format!("{name} {kind}"))
    }

    #[test]
    fn questions() {
        for (name, kind, question) in [
            ("example.com", "", "example.com. A"),
            ("example.com", "mx", "example.com. MX"),
            ("10.0.0.1", "", "1.0.0.10.in-addr.arpa. PTR"),
        ] {
            assert_eq!(asked(name, kind).unwrap(), question);
        }
        for (name, kind) in [("a..b", ""), ("example.com", "AXFR"), ("example.com", "X")] {
            assert!(asked(name, kind).unwrap_err().is_of_the_request(), "{name} {kind}");
        }
    }

    #[test]
    fn servers() {
        let found = |text| server(text).unwrap().map(|server| server.to_string());
        assert_eq!(found(""), None);
        assert_eq!(found("10.0.2.3").unwrap(), "10.0.2.3:53");
        assert_eq!(found("[::1]:54").unwrap(), "[::1]:54");
        assert!(server("dns.example").is_err());
    }
}
