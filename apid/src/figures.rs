// SPDX-License-Identifier: Apache-2.0
//! `GET /metrics`: the machine's figures for whoever may see them, as text and without gRPC.

use crate::{audit, body::Body, refusal::Refusal, upstream::Pool};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use prost::Message as _;
use std::time::Duration;
use stele_proto::{
    internal::{Figures, FiguresRequest},
    method,
};
use tonic::{Code, Status};

/// How long PID 1 may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The form that is asked for by name.
const OPEN_METRICS: &str = "application/openmetrics-text";

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Whether it is the figures that this request asks for.
#[must_use]
pub fn are_asked_for<T>(request: &Request<T>) -> bool {
    request.method() == Method::GET && request.uri().path() == method::Method::Metrics.path()
}

/// Asks PID 1 for them.
pub async fn answer<T>(
    pool: &Pool,
    request: &Request<T>,
    record: &mut audit::Record,
) -> Response<Body> {
    let mut accepted = request.headers().get_all(header::ACCEPT).iter();
    let open_metrics =
        accepted.any(|forms| forms.to_str().is_ok_and(|forms| forms.contains(OPEN_METRICS)));
    let message = Bytes::from(FiguresRequest { open_metrics }.encode_to_vec());
    let answer = tokio::time::timeout(PATIENCE, pool.call(method::FIGURES, "", message)).await;
    let answer = answer.unwrap_or_else(|_| Err(Refusal::Deadline.status()));
    let figures = answer.and_then(|answer| {
        Figures::decode(answer).map_err(|error| Status::new(Code::Internal, error.to_string()))
    });
    match figures {
        Ok(Figures { text }) => {
            record.result(Code::Ok);
            let form = match open_metrics {
                true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
                false => "text/plain; version=0.0.4; charset=utf-8",
            };
            plain(StatusCode::OK, HeaderValue::from_static(form), text)
        }
        Err(status) => {
            record.result(status.code());
            refuse(status.code(), status.message())
        }
    }
}

/// The answer to one who does not get them.
#[must_use]
pub fn refuse(code: Code, message: &str) -> Response<Body> {
    let status = match code {
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    plain(status, TEXT, format!("{message}\n"))
}

fn plain(status: StatusCode, form: HeaderValue, text: String) -> Response<Body> {
    let mut response = Response::new(Body::Plain(Some(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, form);
    response
}
