// SPDX-License-Identifier: Apache-2.0
//! Supervision: one task for each service, which owns its state and does what [`stele_machine::service`] decides.

use crate::{
    cgroup::Cgroup,
    logs::{INFORMATIONAL, Lines, Log},
    node::Node,
    process::{Child, Program, SpawnError},
    report,
    store::Kind,
    unit::Unit,
};
use rustix::process::Signal;
use serde::Serialize;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    os::{fd::OwnedFd, unix::fs::chown},
    path::PathBuf,
    process::Stdio,
    rc::Rc,
    time::Duration,
};
use stele_kernel::{clock, process::Exit};
use stele_machine::service::{Effect, Event, Millis, Service, State};
use tokio::{
    io::AsyncReadExt as _,
    net::{UnixDatagram, unix::pipe},
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

/// Where services say that they are ready.
const NOTIFY: &str = "/run/stele/notify";
/// The longest message that an agent may send on descriptor 3.
const LONGEST_REPORT: usize = 64 * 1024;

/// Messages of an agent, as they come over descriptor 3.
pub(crate) type Reports = mpsc::Sender<Vec<u8>>;

/// What a service is told.
#[derive(Debug)]
enum Order {
    Start,
    Stop,
    /// SIGHUP.
    Reload,
}

/// The way to a service's task.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    orders: mpsc::UnboundedSender<Order>,
    state: watch::Receiver<State>,
}

impl Handle {
    /// Wants the service.
    pub(crate) fn start(&self) {
        self.order(Order::Start);
    }

    /// Wants it no more.
    pub(crate) fn stop(&self) {
        self.order(Order::Stop);
    }

    /// Has it read its configuration again.
    pub(crate) fn reload(&self) {
        self.order(Order::Reload);
    }

    /// Stops it and starts it again.
    pub(crate) fn restart(&self) {
        self.stop();
        self.start();
    }

    /// Whether it is in this state.
    pub(crate) fn is(&self, state: State) -> bool {
        *self.state.borrow() == state
    }

    /// Waits until it is in this state.
    pub(crate) async fn reach(&self, state: State) {
        let mut watched = self.state.clone();
        // An error means that the task is gone, and the service with it.
        let _gone = watched.wait_for(|now| *now == state).await;
    }

    fn order(&self, order: Order) {
        // The task ends only after its last handle.
        let _ended = self.orders.send(order);
    }
}

/// All services.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    services: RefCell<BTreeMap<String, Handle>>,
}

impl Supervisor {
    /// Takes a service on, stopped. With `reports`, its descriptor 3 carries messages for PID 1.
    pub(crate) fn add(
        &self,
        node: &Rc<Node>,
        name: &str,
        unit: Unit,
        reports: Option<Reports>,
    ) -> Handle {
        let (orders, inbox) = mpsc::unbounded_channel();
        let service = Service::new(unit.notify);
        let service = if unit.after_clock { service.after_clock() } else { service };
        let (sender, state) = watch::channel(service.state());
        let task = Task {
            node: Rc::clone(node),
            name: name.to_owned(),
            unit,
            reports,
            service,
            state: sender,
            process: None,
        };
        tokio::task::spawn_local(task.run(inbox));
        let handle = Handle { orders, state };
        self.services.borrow_mut().insert(name.to_owned(), handle.clone());
        handle
    }

    /// The service of this name.
    pub(crate) fn find(&self, name: &str) -> Option<Handle> {
        self.services.borrow().get(name).cloned()
    }

    /// Stops a service and forgets it; its name is free afterwards.
    pub(crate) async fn retire(&self, name: &str) {
        let Some(mut handle) = self.services.borrow_mut().remove(name) else { return };
        handle.stop();
        handle.reach(State::Stopped).await;
        let Handle { orders, state } = &mut handle;
        let (closed, _) = mpsc::unbounded_channel();
        drop(std::mem::replace(orders, closed));
        // The task ends with its last handle, and takes the service's resource along.
        while state.changed().await.is_ok() {}
    }

    /// Stops every service; each has its own deadline.
    pub(crate) async fn stop_all(&self) {
        let all: Vec<Handle> = self.services.borrow().values().cloned().collect();
        all.iter().for_each(Handle::stop);
        for handle in all {
            handle.reach(State::Stopped).await;
        }
    }
}

/// What `ctl services` shows of a service.
#[derive(Serialize)]
struct Status<'a> {
    state: State,
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    restarts: u64,
    /// Seconds after boot.
    since: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

/// A service's process.
struct Process {
    child: Child,
    notify: Option<UnixDatagram>,
    /// What it last said of itself.
    message: String,
    memory_kills: u64,
}

/// One service's task.
struct Task {
    node: Rc<Node>,
    name: String,
    unit: Unit,
    reports: Option<Reports>,
    service: Service,
    state: watch::Sender<State>,
    process: Option<Process>,
}

/// What woke the task.
enum Woken {
    Ordered(Option<Order>),
    Ended(Exit),
    Notified(String),
    Deadline,
    ClockRight,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        let mut clock = self.node.clock.right();
        self.publish();
        loop {
            let awaits_clock = self.service.awaits_clock();
            let deadline = self.service.deadline();
            let woken = {
                let process = self.process.as_mut();
                let (exit, notify) = match process {
                    Some(process) => (Some(&mut process.child.exit), process.notify.as_ref()),
                    None => (None, None),
                };
                tokio::select! {
                    order = inbox.recv() => Woken::Ordered(order),
                    exit = ended(exit) => Woken::Ended(exit),
                    message = notified(notify) => Woken::Notified(message),
                    () = passed(deadline) => Woken::Deadline,
                    () = is_right(&mut clock), if awaits_clock => Woken::ClockRight,
                }
            };
            match woken {
                Woken::Ordered(Some(Order::Start)) => self.step(Event::Start),
                Woken::Ordered(Some(Order::Stop)) => self.step(Event::Stop),
                Woken::Ordered(Some(Order::Reload)) => self.signal(Signal::HUP),
                Woken::Ordered(None) => {
                    if self.service.state() == State::Stopped {
                        break;
                    }
                    // Nobody holds it any more: it was told to stop, and does.
                    self.step(Event::Stop);
                    self.finish().await;
                    break;
                }
                Woken::Ended(exit) => self.bury(exit),
                Woken::Notified(message) => self.hear(&message),
                Woken::Deadline => self.step(Event::Deadline),
                Woken::ClockRight => self.step(Event::ClockRight),
            }
        }
        self.node.store.remove(Kind::Service, &self.name);
    }

    /// Sees a service that nobody holds any more to its end.
    async fn finish(&mut self) {
        while self.service.state() != State::Stopped {
            let deadline = self.service.deadline();
            let exit = self.process.as_mut().map(|process| &mut process.child.exit);
            tokio::select! {
                exit = ended(exit) => self.bury(exit),
                () = passed(deadline) => self.step(Event::Deadline),
            }
        }
    }

    fn step(&mut self, event: Event) {
        let before = self.service.state();
        let mut effect = self.service.step(event, now());
        while let Some(next) = effect.take() {
            match next {
                Effect::Spawn => {
                    let event = match self.spawn() {
                        Ok(process) => {
                            self.process = Some(process);
                            Event::Spawned
                        }
                        Err(error) => Event::SpawnFailed(report::chain(&error)),
                    };
                    effect = self.service.step(event, now());
                }
                Effect::Terminate => self.signal(Signal::TERM),
                Effect::Kill => {
                    if let Some(process) = &self.process {
                        process.child.cgroup.kill();
                    }
                }
            }
        }
        let after = self.service.state();
        if after != before || after == State::Starting {
            self.tell(after);
        }
        self.publish();
    }

    fn tell(&self, state: State) {
        let (name, reason) = (self.name.as_str(), self.service.reason());
        match state {
            State::Waiting => tracing::warn!(
                service.name = name,
                reason,
                restarts = self.service.restarts(),
                "service failed, starting again after a wait"
            ),
            State::Held | State::Starting | State::Running | State::Stopped | State::Stopping => {
                tracing::info!(service.name = name, state = ?state, "service changed");
            }
        }
    }

    fn spawn(&self) -> Result<Process, SpawnError> {
        let logs = &self.node.logs;
        let (output, stdout) = pipe().map_err(SpawnError::Descriptors)?;
        let stderr = stdout.try_clone().map_err(SpawnError::Descriptors)?;
        let mut readers = vec![(output, logs.log(&self.name))];
        let mut descriptors = Vec::new();
        for (number, log) in &self.unit.logs {
            let (reader, writer) = self.pipe_to_open().map_err(SpawnError::Descriptors)?;
            readers.push((reader, logs.log(log)));
            descriptors.push((writer, i32::from(*number)));
        }
        let mut reports = None;
        if let Some(sender) = &self.reports {
            let (reader, writer) = self.pipe_to_open().map_err(SpawnError::Descriptors)?;
            descriptors.push((writer, 3));
            reports = Some((reader, sender.clone()));
        }
        let mut environment = crate::environment::of(&self.node, &self.name);
        let mut notify = None;
        if self.unit.notify {
            let (path, socket) = self.notify_socket().map_err(SpawnError::Descriptors)?;
            environment.insert("NOTIFY_SOCKET".to_owned(), path.to_string_lossy().into_owned());
            notify = Some(socket);
        }
        let child = self.node.children.spawn(Program {
            name: &self.name,
            exec: &self.unit.exec,
            environment,
            sandbox: &self.unit.sandbox,
            stdin: Stdio::null(),
            stdout: Stdio::from(stdout),
            stderr: Stdio::from(stderr),
            descriptors,
        })?;
        for (reader, log) in readers {
            tokio::task::spawn_local(collect(Rc::clone(&self.node), reader, log));
        }
        if let Some((reader, sender)) = reports {
            tokio::task::spawn_local(relay(self.name.clone(), reader, sender));
        }
        let memory_kills = child.cgroup.out_of_memory_kills();
        Ok(Process { child, notify, message: String::new(), memory_kills })
    }

    /// A pipe that the service may also open by its name in `/proc/self/fd`, which asks for its owner.
    fn pipe_to_open(&self) -> io::Result<(pipe::Receiver, OwnedFd)> {
        let (reader, writer) = pipe()?;
        rustix::fs::fchown(&writer, Some(rustix::fs::Uid::from_raw(self.unit.sandbox.uid)), None)?;
        Ok((reader, writer))
    }

    /// A socket that only this service's user can reach.
    fn notify_socket(&self) -> io::Result<(PathBuf, UnixDatagram)> {
        std::fs::create_dir_all(NOTIFY)?;
        let path = PathBuf::from(NOTIFY).join(&self.name);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let socket = UnixDatagram::bind(&path)?;
        chown(&path, Some(self.unit.sandbox.uid), Some(self.unit.sandbox.uid))?;
        Ok((path, socket))
    }

    fn signal(&self, signal: Signal) {
        let Some(process) = &self.process else { return };
        if let Err(error) = process.child.handle.signal(signal) {
            tracing::error!(service.name = self.name, signal = ?signal, error = %error, "signalling a service failed");
        }
    }

    fn hear(&mut self, message: &str) {
        let mut ready = false;
        for line in message.lines() {
            match (line.split_once('='), &mut self.process) {
                (Some(("READY", "1")), _) => ready = true,
                (Some(("STATUS", text)), Some(process)) => text.clone_into(&mut process.message),
                _ => {}
            }
        }
        if ready {
            self.step(Event::Ready);
        } else {
            self.publish();
        }
    }

    fn bury(&mut self, exit: Exit) {
        let mut reason = exit.to_string();
        if let Some(process) = self.process.take() {
            // Whatever it left behind goes with it.
            process.child.cgroup.kill();
            if process.child.cgroup.out_of_memory_kills() > process.memory_kills {
                reason = format!(
                    "out of memory: it may have {} bytes; {reason}",
                    self.unit.sandbox.memory_max
                );
            }
            if exit == Exit::Code(i32::from(crate::executor::FAILED)) {
                reason = format!("its program could not be started, see its log; {reason}");
            }
        }
        self.step(Event::Exited(reason));
    }

    fn publish(&self) {
        let process = self.process.as_ref();
        self.node.store.put(
            Kind::Service,
            &self.name,
            &Status {
                state: self.service.state(),
                description: &self.unit.description,
                pid: process.map(|process| process.child.pid),
                restarts: self.service.restarts(),
                since: self.service.since() as f64 / 1000.0,
                memory: process.and_then(|process| memory(&process.child.cgroup)),
                reason: self.service.reason(),
                message: process.map_or("", |process| &process.message),
            },
        );
        self.state.send_if_modified(|state| {
            std::mem::replace(state, self.service.state()) != self.service.state()
        });
    }
}

/// Memory in whole MiB, so that the status does not change with every page.
fn memory(cgroup: &Cgroup) -> Option<u64> {
    cgroup.memory().map(|bytes| bytes.div_ceil(1 << 20) << 20)
}

fn now() -> Millis {
    u64::try_from(clock::since_boot().unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

async fn ended(exit: Option<&mut oneshot::Receiver<Exit>>) -> Exit {
    match exit {
        // The sender goes away only with an exit.
        Some(exit) => exit.await.unwrap_or(Exit::Code(-1)),
        None => std::future::pending().await,
    }
}

async fn notified(socket: Option<&UnixDatagram>) -> String {
    let Some(socket) = socket else { return std::future::pending().await };
    let mut buffer = [0; 4096];
    match socket.recv(&mut buffer).await {
        Ok(length) => {
            String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned()
        }
        Err(_broken) => std::future::pending().await,
    }
}

async fn is_right(clock: &mut watch::Receiver<bool>) {
    // The node has the sender.
    let _right = clock.wait_for(|right| *right).await;
}

async fn passed(deadline: Option<Millis>) {
    match deadline {
        Some(deadline) => {
            tokio::time::sleep_until(
                Instant::now() + Duration::from_millis(deadline.saturating_sub(now())),
            )
            .await;
        }
        None => std::future::pending().await,
    }
}

/// A pipe: PID 1 reads without blocking, the service writes as usual.
fn pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK)?;
    Ok((pipe::Receiver::from_owned_fd(reader)?, writer))
}

/// Reads what a service writes into a log, until nobody holds the other end.
async fn collect(node: Rc<Node>, mut reader: pipe::Receiver, log: Rc<Log>) {
    let mut lines = Lines::default();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        let mut whole: Vec<Vec<u8>> = Vec::new();
        lines.take(buffer.get(..length).unwrap_or_default(), |line| whole.push(line.to_vec()));
        if !whole.is_empty() {
            node.logs.append(&log, INFORMATIONAL, whole.iter().map(Vec::as_slice));
        }
    }
    lines.finish(|line| node.logs.append(&log, INFORMATIONAL, std::iter::once(line)));
}

/// Reads an agent's messages and hands them on.
async fn relay(name: String, mut reader: pipe::Receiver, sender: Reports) {
    while let Ok(length) = reader.read_u32().await {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > LONGEST_REPORT {
            tracing::error!(
                service.name = name,
                bytes = length,
                "an agent's message is too long; listening to it no more"
            );
            return;
        }
        let mut message = vec![0; length];
        if reader.read_exact(&mut message).await.is_err() || sender.send(message).await.is_err() {
            return;
        }
    }
}
