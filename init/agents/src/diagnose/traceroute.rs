// SPDX-License-Identifier: Apache-2.0
//! The way to a host: echo requests that may go one hop further each time.

use super::{
    Answers, DiagnoseError, address,
    echo::{Echo, Kind, Received},
    micros,
};
use crate::probe::{Names, explain};
use std::time::Duration;
use stele_proto::v1::{TracerouteHop, TracerouteRequest, TracerouteTry};
use tokio::time::{Instant, timeout_at};

/// Bytes that each request carries.
const SIZE: usize = 32;

pub(super) async fn run(
    request: TracerouteRequest,
    names: &Names,
    answers: &mut Answers<'_>,
) -> Result<(), DiagnoseError> {
    let failed = |doing: &str, source| DiagnoseError::Kernel { doing: doing.to_owned(), source };
    let host = address(&request.host, request.family(), names).await?;
    let echo =
        Echo::open(host).map_err(|source| failed("opening a socket for echo requests", source))?;
    let patience = Duration::from_millis(request.timeout_ms.into());
    for hop in 1..=u8::try_from(request.max_hops).unwrap_or(u8::MAX) {
        echo.go(hop).map_err(|source| failed("limiting how far requests go", source))?;
        let answer = one(&echo, hop, request.tries, patience).await;
        answers.send(&answer)?;
        if answer.last {
            break;
        }
    }
    Ok(())
}

/// Sends all requests of a hop at once, and waits for what comes of them.
async fn one(echo: &Echo, hop: u8, tries: u32, patience: Duration) -> TracerouteHop {
    let mut answer = TracerouteHop { hop: hop.into(), tries: Vec::new(), last: false };
    let mut sent = Vec::new();
    let mut open = 0_u32;
    // No number is used twice: a late answer belongs to its own hop.
    let numbers = (u16::from(hop) << 8)..;
    for (number, _) in numbers.zip(0..tries) {
        sent.push((number, Instant::now()));
        let mut tried = TracerouteTry::default();
        match echo.send(number, SIZE) {
            Ok(()) => open = open.saturating_add(1),
            Err(error) => tried.reason = explain(&error),
        }
        answer.tries.push(tried);
    }
    let end = Instant::now() + patience;
    while open > 0 {
        let Ok(Ok(Received { answer: came, from, at })) = timeout_at(end, echo.next()).await else {
            break;
        };
        let place = sent.iter().zip(&mut answer.tries);
        let mut place = place.filter(|((number, _), _)| *number == came.sequence);
        let Some(((_, sent), tried)) = place.next() else { continue };
        if !tried.address.is_empty() {
            continue;
        }
        open = open.saturating_sub(1);
        tried.address = from.to_string();
        tried.time_us = micros(at.saturating_duration_since(*sent));
        match came.kind {
            Kind::TooFar => {}
            Kind::Echo => answer.last = true,
            Kind::Unreachable(reason) => {
                answer.last = true;
                tried.reason = reason.to_owned();
            }
        }
    }
    answer
}
