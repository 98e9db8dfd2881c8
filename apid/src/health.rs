// SPDX-License-Identifier: Apache-2.0
//! grpc.health.v1: a node serves when PID 1 answers.

use crate::upstream::Pool;
use bytes::Bytes;
use prost::Message as _;
use std::{collections::HashMap, pin::Pin, time::Duration};
use stele_proto::method::{Answerer, Method, Role};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

/// How long PID 1 may take to answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// How often a watched health is asked for.
const INTERVAL: Duration = Duration::from_secs(5);

/// `grpc.health.v1.HealthListResponse`, which tonic-health does not know yet.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthListResponse {
    #[prost(map = "string, message", tag = "1")]
    statuses: HashMap<String, HealthCheckResponse>,
}

/// The answer to `Health/List`, encoded: the node as a whole and each service.
pub async fn list(pool: &Pool) -> Bytes {
    let status = probe(pool).await;
    let names = Method::ALL
        .iter()
        .filter(|method| method.answerer() == Answerer::Init)
        .filter_map(|method| service(*method));
    let statuses = names.chain([""]).map(|name| (name.to_owned(), response(status))).collect();
    HealthListResponse { statuses }.encode_to_vec().into()
}

/// The service that a method belongs to.
fn service(method: Method) -> Option<&'static str> {
    method.path().strip_prefix('/')?.split_once('/').map(|(service, _)| service)
}

/// The health service.
#[derive(Debug)]
pub struct Health {
    pool: Pool,
}

impl Health {
    /// The health of the PID 1 behind this pool.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }
}

async fn probe(pool: &Pool) -> ServingStatus {
    let call = pool.call(Method::MachineVersion.path(), Role::Reader.as_str(), Bytes::new());
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(_)) => ServingStatus::Serving,
        Ok(Err(_)) | Err(_) => ServingStatus::NotServing,
    }
}

/// True for the node as a whole and for each service.
fn is_known(name: &str) -> bool {
    name.is_empty() || Method::ALL.iter().any(|method| service(*method) == Some(name))
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: i32::from(status) }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !is_known(&service) {
            return Err(Status::not_found(format!("This node has no service {service}")));
        }
        Ok(Response::new(response(probe(&self.pool).await)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request.into_inner().service);
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let pool = self.pool.clone();
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let status = if known { probe(&pool).await } else { ServingStatus::ServiceUnknown };
                if last.replace(status) != Some(status)
                    && sender.send(Ok(response(status))).await.is_err()
                {
                    return;
                }
                if tokio::time::timeout(INTERVAL, sender.closed()).await.is_ok() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_services_are_known() {
        assert!(is_known("") && is_known("stele.v1.MachineService"));
        assert!(!is_known("stele.v1.Machine") && !is_known("stele.internal.v1.Init"));
    }
}
