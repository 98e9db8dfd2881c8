// SPDX-License-Identifier: Apache-2.0
//! `ctl ps`, `netstat`, `mounts`, `memory`, `cgroups`, `pressure` and `disks`: what kernels say of machines.

mod listing;

use crate::{
    app::{Answer, App, FormatArg, Outcome, Reach},
    client::Session,
    failure::Failure,
    output::{self, Format, Table},
};
use anyhow::Result;
use listing::Listing;
use serde_json::Value;
use stele_proto::v1::{
    CgroupsRequest, DisksRequest, MemoryRequest, MountsRequest, PressureRequest, ProcessesRequest,
    ProcessesResponse, SocketsRequest, SocketsResponse,
};

/// Arguments of what has none of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    format: FormatArg,
}

/// Arguments of `ctl ps`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProcessArgs {
    /// With the arguments of each, which may hold secrets: for os:admin
    #[arg(short, long)]
    arguments: bool,
    /// With the kernel's own threads
    #[arg(short, long)]
    kernel: bool,
    /// In which order
    #[arg(short, long, value_enum, default_value_t, value_name = "ORDER")]
    sort: Order,
    #[command(flatten)]
    format: FormatArg,
}

/// In which order processes are shown.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Order {
    /// By number.
    #[default]
    Pid,
    /// Who has used most processor time first.
    Cpu,
    /// Who has most memory first.
    Memory,
}

/// Arguments of `ctl netstat`.
#[derive(Debug, clap::Args)]
pub(crate) struct SocketArgs {
    /// Only those that wait for connections, and those of UDP
    #[arg(short, long)]
    listening: bool,
    /// With those in files
    #[arg(short, long)]
    unix: bool,
    #[command(flatten)]
    format: FormatArg,
}

/// Shows the processes.
pub(crate) async fn processes(app: &App, args: ProcessArgs) -> Result<Outcome> {
    let ProcessArgs { arguments, kernel, sort, format } = args;
    show(app, format.output, move |session| async move {
        let mut response: ProcessesResponse = session
            .answer(
                "Listing the processes",
                session.diagnose().processes(ProcessesRequest { arguments }),
            )
            .await?;
        response.processes.retain(|process| kernel || !process.kernel_thread);
        let key = |process: &stele_proto::v1::Process| match sort {
            Order::Pid => 0,
            Order::Cpu => process.cpu_us,
            Order::Memory => process.memory_bytes,
        };
        response.processes.sort_by_key(|process| std::cmp::Reverse(key(process)));
        Ok(response)
    })
    .await
}

/// Shows the sockets.
pub(crate) async fn sockets(app: &App, args: SocketArgs) -> Result<Outcome> {
    let SocketArgs { listening, unix, format } = args;
    show(app, format.output, move |session| async move {
        let mut response: SocketsResponse = session
            .answer("Listing the sockets", session.diagnose().sockets(SocketsRequest {}))
            .await?;
        response.sockets.retain(|socket| unix || socket.protocol != "unix");
        response.sockets.retain(|socket| {
            let waits = socket.state == "listen" || socket.protocol.starts_with("udp");
            !listening || (waits && socket.remote.is_empty())
        });
        Ok(response)
    })
    .await
}

/// Shows what is mounted.
pub(crate) async fn mounts(app: &App, args: Args) -> Result<Outcome> {
    show(app, args.format.output, |session| async move {
        Ok(session
            .answer("Listing the mounts", session.diagnose().mounts(MountsRequest {}))
            .await?)
    })
    .await
}

/// Shows the memory.
pub(crate) async fn memory(app: &App, args: Args) -> Result<Outcome> {
    show(app, args.format.output, |session| async move {
        Ok(session
            .answer("Asking for the memory", session.diagnose().memory(MemoryRequest {}))
            .await?)
    })
    .await
}

/// Shows the control groups.
pub(crate) async fn cgroups(app: &App, args: Args) -> Result<Outcome> {
    show(app, args.format.output, |session| async move {
        Ok(session
            .answer("Listing the control groups", session.diagnose().cgroups(CgroupsRequest {}))
            .await?)
    })
    .await
}

/// Shows what threads wait for.
pub(crate) async fn pressure(app: &App, args: Args) -> Result<Outcome> {
    show(app, args.format.output, |session| async move {
        Ok(session
            .answer("Asking for the pressure", session.diagnose().pressure(PressureRequest {}))
            .await?)
    })
    .await
}

/// Shows the disks.
pub(crate) async fn disks(app: &App, args: Args) -> Result<Outcome> {
    show(app, args.format.output, |session| async move {
        Ok(session.answer("Listing the disks", session.diagnose().disks(DisksRequest {})).await?)
    })
    .await
}

/// All of that for programs, by name. Without the arguments of processes, which may hold secrets.
pub(crate) async fn all(session: &Session) -> [(&'static str, Result<Value, Failure>); 7] {
    fn value<T: Listing>(answer: Result<T, Failure>) -> Result<Value, Failure> {
        answer.map(|list| list.value())
    }
    let node = || session.diagnose();
    let processes = ProcessesRequest { arguments: false };
    [
        (
            "processes",
            value(session.answer("Listing the processes", node().processes(processes)).await),
        ),
        (
            "sockets",
            value(session.answer("Listing the sockets", node().sockets(SocketsRequest {})).await),
        ),
        (
            "mounts",
            value(session.answer("Listing the mounts", node().mounts(MountsRequest {})).await),
        ),
        (
            "memory",
            value(session.answer("Asking for the memory", node().memory(MemoryRequest {})).await),
        ),
        (
            "cgroups",
            value(
                session
                    .answer("Listing the control groups", node().cgroups(CgroupsRequest {}))
                    .await,
            ),
        ),
        (
            "pressure",
            value(
                session
                    .answer("Asking for the pressure", node().pressure(PressureRequest {}))
                    .await,
            ),
        ),
        ("disks", value(session.answer("Listing the disks", node().disks(DisksRequest {})).await)),
    ]
}

/// Asks all nodes for a list, and shows it.
async fn show<T, F, Fut>(app: &App, format: Format, ask: F) -> Result<Outcome>
where
    T: Listing + 'static,
    F: Fn(Session) -> Fut + Clone + 'static,
    Fut: Future<Output = Result<T>>,
{
    let targets = app.targets(Reach::Look)?;
    let answers = targets.each(ask).await;
    for Answer { node, result } in &answers {
        if let Some(left_off) = result.as_ref().ok().map(Listing::left_off).filter(|n| *n > 0) {
            let name = node.name();
            let warning = app.paint_error.yellow("warning");
            eprintln!("{warning}: {name}: {left_off} more are not shown: there are too many");
        }
    }
    if format != Format::Table {
        let answers = answers.into_iter().map(|Answer { node, result }| Answer {
            node,
            result: result.map(|list| list.value()),
        });
        return app.print_values(format, answers.collect());
    }
    let many = targets.are_many();
    let (good, outcome) = app.sort(answers);
    let mut table = Table::new(many.then_some("NODE").into_iter().chain(T::HEADER.iter().copied()));
    for (node, list) in good {
        for row in list.rows() {
            table.row(many.then(|| node.name()).into_iter().chain(row));
        }
    }
    output::print(&table.render(app.paint))?;
    Ok(outcome)
}
