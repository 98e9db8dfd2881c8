// SPDX-License-Identifier: Apache-2.0
//! What each method does. Every method of PID 1 has its arm in [`call`]; adding one to the table without an answer does
//! not compile.

use crate::{
    api::{Caller, Code, Gone, Refusal, Requests, Responses, while_connected},
    boots::Reason,
    events::Cause,
    figures, identity, log_files,
    logs::Logs,
    node::Node,
    report,
    store::Kind,
    upgrade,
};
use std::rc::Rc;
use stele_kernel::power::End;
use stele_machine::{boots::Start, figures::Format};
use stele_proto::{
    internal::{CertificateReport, Figures, FiguresRequest, SinkRequest},
    method::{Answerer, FIGURES, Method, REPORT_CERTIFICATE, SINK},
    v1,
};

mod config;
mod diagnose;
mod events;
mod resources;

/// What a call came to: nobody left to answer, a refusal, or success.
pub(crate) type Answer = Result<Result<(), Refusal>, Gone>;

/// Takes the messages of a request that has just one; answers the call when they make no sense.
macro_rules! only {
    ($requests:expr) => {
        match $requests.only().await? {
            Ok(request) => request,
            Err(refusal) => return Ok(Err(refusal)),
        }
    };
}
use only;

/// Answers a call. What happens in it is because of it.
pub(crate) async fn call(
    node: &Rc<Node>,
    path: &str,
    caller: &Caller,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let cause = Cause { request: caller.request.clone(), subject: caller.subject.clone() };
    cause.carry(answer(node, path, caller, requests, responses)).await
}

async fn answer(
    node: &Rc<Node>,
    path: &str,
    caller: &Caller,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    if path == REPORT_CERTIFICATE {
        let certificate: CertificateReport = only!(requests);
        identity::certificate(node, &certificate);
        return Ok(Ok(()));
    }
    if path == FIGURES {
        let FiguresRequest { open_metrics } = only!(requests);
        let format = if open_metrics { Format::OpenMetrics } else { Format::Text };
        responses.add(&Figures { text: figures::page(node, format) });
        return Ok(Ok(()));
    }
    if path == SINK {
        let SinkRequest { name } = only!(requests);
        return Ok(node.sinks.task(&name).map(|task| responses.add(&task)));
    }
    let Some(method) = Method::parse(path).filter(|method| method.answerer() == Answerer::Init)
    else {
        return Ok(Err(Refusal::new(
            Code::Unimplemented,
            format!("this image has no method {path}"),
        )));
    };
    match method {
        Method::MachineVersion => version(node, requests, responses).await,
        Method::MachineReboot => {
            end::<v1::RebootRequest>(node, End::Restart, caller, requests, responses).await
        }
        Method::MachineShutdown => {
            end::<v1::ShutdownRequest>(node, End::PowerOff, caller, requests, responses).await
        }
        Method::ConfigApply => config::apply(node, caller, requests, responses).await,
        Method::ConfigConfirm => config::confirm(node, caller, requests, responses).await,
        Method::ConfigRestore => config::restore(node, caller, requests, responses).await,
        Method::ConfigHistory => {
            let v1::HistoryRequest {} = only!(requests);
            responses.add(&v1::HistoryResponse { generations: node.configuration.history() });
            Ok(Ok(()))
        }
        Method::ConfigGet => config::get(node, caller, requests, responses).await,
        Method::UpgradePush => upgrade::push(node, requests, responses).await,
        Method::UpgradeUpgrade => upgrade::upgrade(node, requests, responses).await,
        Method::UpgradeRollback => upgrade::rollback(node, requests, responses).await,
        Method::UpgradeCancel => upgrade::cancel(node, requests, responses).await,
        Method::UpgradeStatus => upgrade::status(node, requests, responses).await,
        Method::EventStream => events::stream(node, requests, responses).await,
        Method::LogListLogs => list_logs(node, requests, responses).await,
        Method::LogStream => log(node, requests, responses).await,
        Method::ResourceListKinds => {
            let v1::ListKindsRequest {} = only!(requests);
            responses.add(&v1::ListKindsResponse {
                kinds: Kind::ALL.iter().map(|kind| kind.describe()).collect(),
            });
            Ok(Ok(()))
        }
        Method::ResourceList => resources::list(node, requests, responses).await,
        Method::ResourceWatch => resources::watch(node, requests, responses).await,
        Method::DiagnosePing
        | Method::DiagnoseTraceroute
        | Method::DiagnoseResolve
        | Method::DiagnoseProbe
        | Method::DiagnoseCapture
        | Method::DiagnoseProcesses
        | Method::DiagnoseSockets
        | Method::DiagnoseMounts
        | Method::DiagnoseMemory
        | Method::DiagnoseCgroups
        | Method::DiagnosePressure
        | Method::DiagnoseDisks => {
            diagnose::answer(node, method, caller, requests, responses).await
        }
        Method::HealthCheck
        | Method::HealthList
        | Method::HealthWatch
        | Method::Reflection
        | Method::Metrics => {
            Ok(Err(Refusal::new(Code::Unimplemented, format!("{path} is answered by apid"))))
        }
    }
}

async fn version(node: &Node, requests: &mut Requests, responses: &mut Responses) -> Answer {
    let v1::VersionRequest {} = only!(requests);
    let uname = rustix::system::uname();
    responses.add(&v1::VersionResponse {
        version: node.release.version.clone(),
        kernel: uname.release().to_string_lossy().into_owned(),
        architecture: "x86-64".to_owned(),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        boot_id: node.boot_id.clone(),
        mode: node.mode().into(),
        boot: node.state.get().map_or(0, |state| state.boot),
        reason: match node.boots.started() {
            Start::Safe { reason } => reason,
            _ => String::new(),
        },
    });
    Ok(Ok(()))
}

/// Both ends of the machine; their answers are both empty messages.
async fn end<Request: prost::Message + Default>(
    node: &Rc<Node>,
    how: End,
    caller: &Caller,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let _request: Request = only!(requests);
    let subject = caller.subject.clone();
    let told = match how {
        End::Restart => "restarts because it was asked to",
        End::PowerOff => "powers off because it was asked to",
    };
    node.store.events.happened("Machine", "", told, false);
    match how {
        End::Restart => {
            tracing::info!(target: report::CONSOLE, client = subject, "reboot asked for")
        }
        End::PowerOff => {
            tracing::info!(target: report::CONSOLE, client = subject, "shutdown asked for")
        }
    }
    responses.add_encoded(&[]);
    node.end_soon(how, Reason::asked(format!("{subject} asked for it")));
    Ok(Ok(()))
}

async fn list_logs(node: &Node, requests: &mut Requests, responses: &mut Responses) -> Answer {
    let v1::ListLogsRequest {} = only!(requests);
    let mut logs: Vec<v1::Log> = node
        .logs
        .all()
        .into_iter()
        .map(|(name, log)| v1::Log {
            name,
            boot: 0,
            size: u64::try_from(log.size()).unwrap_or(u64::MAX),
        })
        .collect();
    let boot = node.logs.files().boot();
    if boot > 0 {
        match tokio::task::spawn_blocking(move || log_files::earlier(boot)).await {
            Ok(earlier) => logs.extend(earlier.into_iter().map(|(boot, name, size)| v1::Log {
                name,
                boot,
                size,
            })),
            Err(error) => return Ok(Err(Refusal::internal(&error))),
        }
    }
    responses.add(&v1::ListLogsResponse { logs });
    Ok(Ok(()))
}

async fn log(node: &Node, requests: &mut Requests, responses: &mut Responses) -> Answer {
    let request: v1::LogRequest = only!(requests);
    if request.boot != 0 {
        return while_connected(requests, earlier_log(node, &request, responses)).await;
    }
    let Some(log) = node.logs.find(&request.name) else {
        return Ok(Err(no_such_log(&node.logs, &request.name)));
    };
    let streaming = async {
        let mut grown = log.follow();
        let mut position = log.start(request.tail.into(), since_us(&request));
        loop {
            grown.borrow_and_update();
            let entries = log.read(&mut position);
            if !entries.is_empty() {
                responses.add_encoded(&entries);
                responses.flush().await?;
            } else if !request.follow || grown.changed().await.is_err() {
                return Ok(Ok(()));
            }
        }
    };
    while_connected(requests, streaming).await
}

/// A log of an earlier boot, from disk.
async fn earlier_log(node: &Node, request: &v1::LogRequest, responses: &mut Responses) -> Answer {
    let running = node.logs.files().boot();
    let refused = |message: String| Ok(Err(Refusal::new(Code::NotFound, message)));
    if running == 0 {
        return refused(
            "this machine keeps no logs of earlier boots: it has no DATA volume".to_owned(),
        );
    }
    let boot = match u64::try_from(request.boot) {
        Ok(number) => Some(number),
        Err(_negative) => running.checked_sub(u64::from(request.boot.unsigned_abs())),
    };
    let Some(boot) = boot.filter(|boot| (1..=running).contains(boot)) else {
        return refused(format!(
            "there is no boot {}; this one is {running}, boots before it are -1, -2, … or their numbers",
            request.boot
        ));
    };
    let name = request.name.clone();
    let (tail, since) = (request.tail, since_us(request));
    let (sender, mut stretches) = tokio::sync::mpsc::channel(4);
    let reading =
        tokio::task::spawn_blocking(move || read_files(boot, &name, tail, since, &sender));
    while let Some(stretch) = stretches.recv().await {
        responses.add_encoded(&stretch);
        responses.flush().await?;
    }
    match reading.await {
        Ok(Ok(true)) => Ok(Ok(())),
        Ok(Ok(false)) => refused(format!(
            "boot {} has no log {:?}; 'ctl logs' lists what there is",
            request.boot, request.name
        )),
        Ok(Err(error)) => Ok(Err(Refusal::internal(&error))),
        Err(error) => Ok(Err(Refusal::internal(&error))),
    }
}

/// Reads a log's files and sends their stretches; false when there is none.
fn read_files(
    boot: u64,
    name: &str,
    tail: u32,
    since: u64,
    sender: &tokio::sync::mpsc::Sender<Vec<u8>>,
) -> std::io::Result<bool> {
    use prost::Message as _;
    let files = log_files::files_of(boot, name);
    let mut last: std::collections::VecDeque<v1::LogEntry> = std::collections::VecDeque::new();
    for file in &files {
        let mut reader = log_files::FileReader::open(file)?;
        loop {
            let stretch = reader.next()?;
            if stretch.is_empty() {
                break;
            }
            if tail == 0 && since == 0 {
                if sender.blocking_send(stretch).is_err() {
                    return Ok(true);
                }
                continue;
            }
            let chunk = v1::LogChunk::decode(stretch.as_slice()).map_err(std::io::Error::other)?;
            last.extend(chunk.entries.into_iter().filter(|entry| entry.time_us >= since));
            if tail > 0 {
                let surplus =
                    last.len().saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX));
                last.drain(..surplus);
            }
        }
    }
    if !last.is_empty() {
        // Who asked may have gone.
        let _gone = sender.blocking_send(v1::LogChunk { entries: last.into() }.encode_to_vec());
    }
    Ok(!files.is_empty())
}

fn since_us(request: &v1::LogRequest) -> u64 {
    micros(request.since.as_ref())
}

/// A time in microseconds since the epoch; 0 for none.
fn micros(time: Option<&prost_types::Timestamp>) -> u64 {
    let Some(since) = time else { return 0 };
    let seconds = u64::try_from(since.seconds).unwrap_or(0);
    let nanos = u64::try_from(since.nanos).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000)
}

fn no_such_log(logs: &Logs, name: &str) -> Refusal {
    let names: Vec<String> = logs.all().into_iter().map(|(name, _)| name).collect();
    Refusal::new(
        Code::NotFound,
        format!("there is no log {name:?}; there are: {}", names.join(", ")),
    )
}
