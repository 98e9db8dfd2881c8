// SPDX-License-Identifier: Apache-2.0
//! One request: from HTTP to whoever answers it.
//!
//! Every request is recorded in the audit log, whatever becomes of it, and none reaches PID 1, health or reflection without a
//! [`Permit`](crate::authz::Permit).

use crate::{
    access::Access,
    audit::{self, Audit, Who},
    authz::{self, Caller},
    body::{Body, Local},
    connections::{Active, Connection},
    descriptors::Descriptors,
    figures,
    health::{self, Health},
    limits::{self, Budget},
    refusal::Refusal,
    relay::{Relay, Step},
    upstream::Pool,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use stele_proto::method::Answerer;
use tokio::{sync::watch, time::Sleep};
use tonic::Status;
use tonic_health::pb::health_server::HealthServer;
use tower::ServiceExt as _;

/// The header with the name that the request has in the audit log and in events.
const REQUEST: &str = "stele-request-id";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// What all requests share.
#[derive(Debug)]
pub struct Gate {
    audit: Audit,
    pool: Pool,
    calls: Budget,
    assembly: Budget,
    descriptors: Descriptors,
    access: watch::Receiver<Arc<Access>>,
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Who may do what.
    pub caller: Arc<Caller>,
    /// Who, for the audit log.
    pub who: Arc<Who>,
    /// On which connection.
    pub connection: Connection,
}

impl Gate {
    /// A gate before PID 1's socket.
    #[must_use]
    pub fn new(
        audit: Audit,
        pool: Pool,
        descriptors: Descriptors,
        access: watch::Receiver<Arc<Access>>,
    ) -> Self {
        let (calls, assembly) = (Budget::new(limits::CALLS), Budget::new(limits::ASSEMBLY));
        Self { audit, pool, calls, assembly, descriptors, access }
    }

    /// What the operator says of clients, as it changes.
    #[must_use]
    pub fn access(&self) -> watch::Receiver<Arc<Access>> {
        self.access.clone()
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Answers one request.
    pub async fn answer(&self, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
        self.audit.room().await;
        let method = audit::Method::parse(request.uri().path());
        let record = self.audit.begin(Arc::clone(&peer.who), method);
        let name = HeaderValue::from_str(record.request());
        let mut response = self.answer_recorded(peer, request, record).await;
        if let Ok(name) = name {
            response.headers_mut().insert(REQUEST, name);
        }
        response
    }

    async fn answer_recorded(
        &self,
        peer: &Peer,
        request: Request<Incoming>,
        mut record: audit::Record,
    ) -> Response<Body> {
        let active = peer.connection.begin();
        let path = request.uri().path();
        let figures = figures::are_asked_for(&request);
        if !figures && let Some(refused) = not_grpc(&request) {
            record.result(tonic::Code::Unimplemented);
            return refused;
        }
        let access = Arc::clone(&self.access.borrow());
        let permit = match authz::authorize(path, &peer.caller, &access, SystemTime::now()) {
            Ok(permit) => permit,
            Err(refusal) => {
                record.result(refusal.code());
                if figures {
                    return figures::refuse(refusal.code(), &refusal.to_string());
                }
                return end(&refusal.status());
            }
        };
        if figures {
            return figures::answer(&self.pool, &request, &mut record).await;
        }
        let deadline = match deadline(request.headers()) {
            Ok(deadline) => deadline,
            Err(refusal) => {
                record.result(refusal.code());
                return end(&refusal.status());
            }
        };
        match permit.method().answerer() {
            Answerer::Init => {
                let (pool, assembly) = (self.pool.clone(), self.assembly.clone());
                let mut relay = Box::new(Relay::new(
                    request.into_body(),
                    deadline,
                    pool,
                    assembly,
                    record,
                    active,
                ));
                let peek = !self.descriptors.is_streaming(permit.method());
                match relay.open(&permit, &self.calls, peek).await {
                    None => grpc(Body::Relay(relay)),
                    Some(Step::End(status)) => end(&status),
                    Some(Step::Done | Step::Messages(_)) => end(&Status::new(tonic::Code::Ok, "")),
                }
            }
            Answerer::Apid if permit.method() == stele_proto::method::Method::HealthList => {
                let list = health::list(&self.pool).await;
                record.result(tonic::Code::Ok);
                grpc(Body::one(&list))
            }
            Answerer::Apid => self.local(request, record, active).await,
        }
    }

    /// Answers health and reflection.
    async fn local(
        &self,
        request: Request<Incoming>,
        record: audit::Record,
        active: Active,
    ) -> Response<Body> {
        let response = if request.uri().path().starts_with("/grpc.health.v1.Health/") {
            HealthServer::new(Health::new(self.pool.clone())).oneshot(request).await
        } else {
            match self.descriptors.reflection() {
                Some(reflection) => reflection.oneshot(request).await,
                None => Ok(Status::unimplemented("This node describes no methods").into_http()),
            }
        };
        match response {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let body = Local::new(body, &head.headers, record, active);
                Response::from_parts(head, Body::Local(Box::new(body)))
            }
            Err(never) => match never {},
        }
    }
}

/// The plain HTTP answer to what is no gRPC at all.
fn not_grpc(request: &Request<Incoming>) -> Option<Response<Body>> {
    let kind =
        request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let status = match kind.strip_prefix(b"application/grpc") {
        _ if request.method() != Method::POST => StatusCode::METHOD_NOT_ALLOWED,
        Some([] | [b'+' | b';', ..]) => return None,
        _ => StatusCode::UNSUPPORTED_MEDIA_TYPE,
    };
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    Some(response)
}

fn grpc(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    response
}

/// The answer to a call that ends before it has begun: headers alone.
fn end(status: &Status) -> Response<Body> {
    let mut response = grpc(Body::Empty);
    if status.add_header(response.headers_mut()).is_err() {
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("2"));
    }
    response
}

/// The caller's own deadline: digits and a unit, as in the gRPC specification.
fn deadline(headers: &http::HeaderMap) -> Result<Option<Pin<Box<Sleep>>>, Refusal> {
    const MALFORMED: Refusal =
        Refusal::Malformed("The header grpc-timeout is not digits and a unit");
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let value = value.to_str().map_err(|_| MALFORMED)?;
    let timeout = timeout(value).ok_or(MALFORMED)?;
    Ok(Some(Box::pin(tokio::time::sleep(timeout))))
}

fn timeout(value: &str) -> Option<Duration> {
    let (unit_at, unit) = value.char_indices().next_back()?;
    let digits = value
        .get(..unit_at)
        .filter(|digits| digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_a_number_and_a_unit() {
        assert_eq!(timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1 S", "1ü"] {
            assert_eq!(timeout(wrong), None, "{wrong}");
        }
    }
}
