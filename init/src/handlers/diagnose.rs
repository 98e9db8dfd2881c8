// SPDX-License-Identifier: Apache-2.0
//! Diagnostics: each call is a question to an agent of its own.

use super::{Answer, only};
use crate::{
    api::{Caller, Code, Refusal, Requests, Responses},
    diagnose::{Question, ask},
    node::Node,
};
use std::rc::Rc;
use stele_proto::{
    method::{Method, Role},
    v1,
};

pub(super) async fn answer(
    node: &Rc<Node>,
    method: Method,
    caller: &Caller,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    match method {
        Method::DiagnosePing => relay::<v1::PingRequest>(node, caller, requests, responses).await,
        Method::DiagnoseTraceroute => {
            relay::<v1::TracerouteRequest>(node, caller, requests, responses).await
        }
        Method::DiagnoseResolve => {
            relay::<v1::ResolveRequest>(node, caller, requests, responses).await
        }
        Method::DiagnoseProbe => relay::<v1::ProbeRequest>(node, caller, requests, responses).await,
        Method::DiagnoseCapture => {
            relay::<v1::CaptureRequest>(node, caller, requests, responses).await
        }
        Method::DiagnoseProcesses => processes(node, caller, requests, responses).await,
        Method::DiagnoseSockets => {
            relay::<v1::SocketsRequest>(node, caller, requests, responses).await
        }
        Method::DiagnoseMounts => {
            relay::<v1::MountsRequest>(node, caller, requests, responses).await
        }
        Method::DiagnoseMemory => {
            relay::<v1::MemoryRequest>(node, caller, requests, responses).await
        }
        Method::DiagnoseCgroups => {
            relay::<v1::CgroupsRequest>(node, caller, requests, responses).await
        }
        Method::DiagnosePressure => {
            relay::<v1::PressureRequest>(node, caller, requests, responses).await
        }
        Method::DiagnoseDisks => relay::<v1::DisksRequest>(node, caller, requests, responses).await,
        other => {
            let message = format!("{} is no diagnostic", other.path());
            Ok(Err(Refusal::new(Code::Unimplemented, message)))
        }
    }
}

async fn relay<Q: Question>(
    node: &Rc<Node>,
    caller: &Caller,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let question: Q = only!(requests);
    ask(node, caller, question, requests, responses).await
}

/// Command lines may hold secrets.
async fn processes(
    node: &Rc<Node>,
    caller: &Caller,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let question: v1::ProcessesRequest = only!(requests);
    if question.arguments && caller.role != Some(Role::Admin) {
        let message =
            format!("the arguments of processes may hold secrets: only {} is told", Role::Admin);
        return Ok(Err(Refusal::new(Code::PermissionDenied, message)));
    }
    ask(node, caller, question, requests, responses).await
}
