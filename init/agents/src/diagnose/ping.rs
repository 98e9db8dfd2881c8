// SPDX-License-Identifier: Apache-2.0
//! Echo requests to a host, one after the other.

use super::{
    Answers, DiagnoseError, address,
    echo::{Echo, Kind, Received},
    micros,
};
use crate::probe::{Names, explain};
use std::{io, net::IpAddr, time::Duration};
use stele_proto::v1::{PingReply, PingRequest};
use tokio::time::{Instant, sleep_until, timeout};

pub(super) async fn run(
    request: PingRequest,
    names: &Names,
    answers: &mut Answers<'_>,
) -> Result<(), DiagnoseError> {
    let host = address(&request.host, request.family(), names).await?;
    let echo = Echo::open(host).map_err(|source| DiagnoseError::Kernel {
        doing: "opening a socket for echo requests".to_owned(),
        source,
    })?;
    let interval = Duration::from_millis(request.interval_ms.into());
    for sequence in 1..=request.count {
        let begun = Instant::now();
        answers.send(&one(&echo, host, sequence, &request).await)?;
        if sequence < request.count {
            sleep_until(begun + interval).await;
        }
    }
    Ok(())
}

/// Sends one and waits for what comes of it.
async fn one(echo: &Echo, host: IpAddr, sequence: u32, request: &PingRequest) -> PingReply {
    let nothing = PingReply { sequence, host: host.to_string(), ..PingReply::default() };
    let failed = |error: io::Error| PingReply { reason: explain(&error), ..nothing.clone() };
    // There are fewer of them than there are numbers.
    let number = u16::try_from(sequence).unwrap_or(u16::MAX);
    let sent = Instant::now();
    if let Err(error) = echo.send(number, usize::try_from(request.size).unwrap_or(0)) {
        return failed(error);
    }
    let patience = Duration::from_millis(request.timeout_ms.into());
    match timeout(patience, answer_to(echo, number)).await {
        Ok(Ok(Received { answer, from, at })) => PingReply {
            address: from.to_string(),
            time_us: micros(at.saturating_duration_since(sent)),
            ttl: answer.ttl.into(),
            reason: match answer.kind {
                Kind::Echo => String::new(),
                Kind::TooFar => "it went around for too long".to_owned(),
                Kind::Unreachable(reason) => reason.to_owned(),
            },
            ..nothing
        },
        Ok(Err(error)) => failed(error),
        Err(_late) => nothing,
    }
}

async fn answer_to(echo: &Echo, sequence: u16) -> io::Result<Received> {
    loop {
        let received = echo.next().await?;
        // One that is later than its time is no answer to this one.
        if received.answer.sequence == sequence {
            return Ok(received);
        }
    }
}
