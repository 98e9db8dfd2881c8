// SPDX-License-Identifier: Apache-2.0
//! Who collects figures and logs, on this host: the real ones, from Debian.

use crate::world::{Kept, World, scratch};
use anyhow::{Context as _, Result, ensure};
use hack::{
    api::Credentials,
    machine::{Forward, Machine, free_port},
    node::Node,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);
/// The port of the figures in a guest.
pub(crate) const FIGURES: u16 = 9100;

/// A program that ends when this value is dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command, port: u16) -> Result<Self> {
        let what = format!("{command:?}");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Self(child.spawn().with_context(|| format!("Starting {what}"))?);
        let deadline = Instant::now() + SOON;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < deadline, "{what} does not listen");
            sleep(Duration::from_millis(50));
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A command that ends with this process.
fn bound(words: &[std::ffi::OsString]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).args(words);
    command
}

/// rsyslog, which writes down what it understands of each message.
pub(crate) struct Syslog {
    words: Vec<std::ffi::OsString>,
    running: Option<Running>,
    /// What guests connect to.
    pub(crate) tcp: u16,
    pub(crate) udp: u16,
    pub(crate) tls: u16,
    /// Who vouches for it, in PEM.
    pub(crate) ca: String,
    seen: PathBuf,
    _folder: TempDir,
}

impl Syslog {
    pub(crate) fn new(world: &World) -> Result<Self> {
        let folder = scratch()?;
        let (tcp, tls) = (free_port()?, free_port()?);
        let udp = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let at = |name: &str| folder.path().join(name);
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["10.0.2.2".to_owned()])?;
        fs::write(at("certificate.pem"), cert.pem())?;
        fs::write(at("key.pem"), signing_key.serialize_pem())?;
        let (certificate, key, seen) = (at("certificate.pem"), at("key.pem"), at("seen.log"));
        let (work, certificate) = (folder.path().display(), certificate.display());
        let text = format!(
            r#"global(workDirectory="{work}" maxMessageSize="64k" DefaultNetstreamDriverCAFile="{certificate}")
module(load="imtcp")
module(load="imudp")
template(name="seen" type="string" string="%inputname% %protocol-version% %syslogfacility%.%syslogseverity% %hostname% %app-name% %msg%\n")
ruleset(name="keep") {{ action(type="omfile" file="{}" template="seen") }}
input(type="imtcp" name="tcp" address="127.0.0.1" port="{tcp}" ruleset="keep")
input(type="imudp" name="udp" address="127.0.0.1" port="{udp}" ruleset="keep")
input(type="imtcp" name="tls" address="127.0.0.1" port="{tls}" ruleset="keep" streamdriver.name="ossl"
  streamdriver.mode="1" streamdriver.authmode="anon" streamdriver.cafile="{certificate}"
  streamdriver.certfile="{certificate}" streamdriver.keyfile="{}")
"#,
            seen.display(),
            key.display()
        );
        fs::write(at("rsyslog.conf"), text)?;
        let mut words = world.tools.rsyslogd();
        words.extend(["-n".into(), "-f".into(), at("rsyslog.conf").into()]);
        words.extend(["-i".into(), at("pid").into()]);
        let ca = cert.pem();
        Ok(Self { words, running: None, tcp, udp, tls, ca, seen, _folder: folder })
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        self.running = Some(Running::start(&mut bound(&self.words), self.tcp)?);
        Ok(())
    }

    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// What came in by this way, a line for each message.
    pub(crate) fn seen(&self, input: &str) -> Vec<String> {
        let text = fs::read(&self.seen).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines()
            .filter(|line| line.split(' ').next() == Some(input))
            .map(str::to_owned)
            .collect()
    }
}

/// Prometheus, which asks a node for its figures every second: openly, and as a client of the API.
pub(crate) struct Prometheus {
    _running: Running,
    port: u16,
    _folder: TempDir,
}

impl Prometheus {
    pub(crate) fn start(
        world: &World,
        plain: u16,
        (api, name): (&str, &str),
        client: &Credentials,
    ) -> Result<Self> {
        let folder = scratch()?;
        let port = free_port()?;
        let at = |name: &str| folder.path().join(name);
        for (file, text) in
            [("ca", &client.ca), ("certificate", &client.certificate), ("key", &client.key)]
        {
            fs::write(at(file), text)?;
        }
        let (ca, certificate, key) = (at("ca"), at("certificate"), at("key"));
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, scrape_protocols: [OpenMetricsText1.0.0]}}\n\
             scrape_configs:\n\
             - job_name: plain\n  static_configs: [{{targets: [\"127.0.0.1:{plain}\"]}}]\n\
             - job_name: api\n  scheme: https\n  static_configs: [{{targets: [\"{api}\"]}}]\n  \
             tls_config: {{ca_file: {}, cert_file: {}, key_file: {}, server_name: {name}}}\n",
            ca.display(),
            certificate.display(),
            key.display()
        );
        fs::write(at("prometheus.yml"), text)?;
        let mut command = bound(&[world.tools.prometheus().into()]);
        command
            .arg(format!("--config.file={}", at("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", at("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(folder.path());
        let running = Running::start(&mut command, port)?;
        // It listens before it answers: until then it turns everybody away.
        let deadline = Instant::now() + SOON;
        while !get(port, "/-/ready", "*/*")?.0.contains(" 200 ") {
            ensure!(Instant::now() < deadline, "Prometheus does not become ready");
            sleep(Duration::from_millis(50));
        }
        Ok(Self { _running: running, port, _folder: folder })
    }

    /// The results of a query.
    pub(crate) fn query(&self, query: &str) -> Result<Vec<Value>> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (_, body) = get(self.port, &format!("/api/v1/query?query={escaped}"), "*/*")?;
        let answer: Value = serde_json::from_str(&body).context("Reading Prometheus' answer")?;
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }
}

/// Asks a web server on this host by HTTP/1.0: the head and the body of its answer.
pub(crate) fn get(port: u16, path: &str, accept: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(SOON))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: here\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("There is no answer")?;
    Ok((head.to_owned(), body.to_owned()))
}

/// How often PID 1 was late by this many seconds, by the figures behind a port of this host.
pub(crate) fn late(port: u16, seconds: &str) -> Result<u64> {
    let start = format!("stele_loop_late_total{{seconds=\"{seconds}\"}} ");
    let deadline = Instant::now() + SOON;
    // The agent that gives them may be one of those that are just being killed.
    let (_, page) = loop {
        match get(port, "/metrics", "text/plain") {
            Ok(answer) => break answer,
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(100)),
            Err(error) => return Err(error),
        }
    };
    let count = page.lines().find_map(|line| line.strip_prefix(start.as_str()));
    Ok(count.with_context(|| format!("There is no {start}in:\n{page}"))?.trim().parse()?)
}

/// Starts a machine without a disk, and forwards a port of this host to its figures.
pub(crate) fn with_figures(world: &World, name: &str, mut machine: Machine) -> Result<(Kept, u16)> {
    let port = free_port()?;
    let network = machine.networks.first_mut().context("The machine has no network")?;
    network.push(Forward { host: port, guest: FIGURES });
    let node = Kept(Node::start_configured(&world.operator, name, machine, scratch()?)?);
    node.wait_until_it_answers()?;
    Ok((node, port))
}

/// What promtool says of figures.
pub(crate) fn judge(world: &World, figures: &str) -> Result<()> {
    let mut promtool = Command::new(world.tools.promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("Starting promtool")?;
    let mut input = promtool.stdin.take().context("promtool has an input")?;
    input.write_all(figures.as_bytes())?;
    drop(input);
    let output = promtool.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success() && said.trim().is_empty(), "promtool: {said}");
    Ok(())
}
