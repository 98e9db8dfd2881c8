// SPDX-License-Identifier: Apache-2.0
//! `ctl gen`: secrets, machine configurations, client certificates.

use crate::{
    app::{App, Misuse, Outcome},
    context::{self, Context, Contexts, Credentials},
    findings,
    node::Node,
    output,
    pki::{self, Pair, Secrets},
    span,
};
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::{
    env,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use stele_config::{Cidr, Hostname, InterfaceName, Name, yaml};
use stele_proto::method::Role;
use time::OffsetDateTime;

/// Commands that make files.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make the operator's secrets: the CA of a fleet
    #[command(after_help = "Example:
  ctl gen secrets -o secrets.yaml

The file holds the key to every node that gets a configuration made with it, and no node ever needs it: keep it apart.")]
    Secrets {
        /// The file to write
        #[arg(short, long, default_value = "secrets.yaml", value_name = "FILE")]
        output: PathBuf,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Make a node's configuration, and the client configuration for it
    #[command(after_help = "Examples:
  ctl gen config --hostname web1 --endpoint 10.0.0.5 -o web1
  ctl gen config --hostname web1 --endpoint 127.0.0.1:5001 --context lab -o web1
  ctl gen config --hostname web1 --link eth0 --address 10.0.0.5/24 \\
      --gateway 10.0.0.1 --dns 10.0.0.1 -o web1

Writes machine.yaml for the node, machine.schema.json for editors, and client.yaml, which ctl config merge takes in. Its \
context is called as --context says, or else as the node.")]
    Config(ConfigArgs),
    /// Make another client certificate, in a client configuration of its own
    #[command(after_help = "Examples:
  ctl gen client --name alice --role os:reader --lifetime 8h -o alice.yaml
  ctl gen client --name me -o me.yaml && ctl config merge me.yaml

Its context is called as --context says, or else as the current one. The nodes are those of that context, or else of the \
current one, if it is of the same CA, and those that -n names.")]
    Client(ClientArgs),
}

/// Arguments of `ctl gen config`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// The file of ctl gen secrets
    #[arg(long, default_value = "secrets.yaml", value_name = "FILE")]
    secrets: PathBuf,
    /// The node's name
    #[arg(long, value_name = "NAME")]
    hostname: Hostname,
    /// Where the node's API is reached: HOST, HOST:PORT [default: the first --address, or else the hostname]
    #[arg(long = "endpoint", value_name = "ADDR")]
    endpoints: Vec<String>,
    #[command(flatten)]
    client: ClientOptions,
    /// The interfaces to bring up, by DHCP unless there is an --address [default: every Ethernet interface, by DHCP]
    #[arg(long = "link", value_name = "NAME")]
    links: Vec<InterfaceName>,
    /// A fixed address of the one --link
    #[arg(long = "address", value_name = "CIDR", requires = "links")]
    addresses: Vec<Cidr>,
    /// The gateway of the one --link
    #[arg(long, value_name = "IP", requires = "addresses")]
    gateway: Option<IpAddr>,
    /// A name server
    #[arg(long, value_name = "IP")]
    dns: Vec<IpAddr>,
    /// The folder to write to
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// What a client certificate says.
#[derive(Debug, clap::Args)]
pub(crate) struct ClientOptions {
    /// What the client may do: a role that every node knows, or one of ClientAccess in its configuration
    #[arg(long, default_value = "os:admin", value_parser = parse_role, value_name = "os:admin|os:operator|os:reader|NAME")]
    role: String,
    /// How long the client certificate holds
    #[arg(long, default_value = "365d", value_parser = span::parse_duration, value_name = "DURATION")]
    lifetime: Duration,
    /// What the audit log calls the client [default: who runs ctl]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Arguments of `ctl gen client`.
#[derive(Debug, clap::Args)]
pub(crate) struct ClientArgs {
    /// The file of ctl gen secrets
    #[arg(long, default_value = "secrets.yaml", value_name = "FILE")]
    secrets: PathBuf,
    #[command(flatten)]
    client: ClientOptions,
    /// The file to write
    #[arg(short, long, default_value = "client.yaml", value_name = "FILE")]
    output: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

fn parse_role(text: &str) -> Result<String, String> {
    if Role::parse(text).is_some() || text.parse::<Name>().is_ok() {
        return Ok(text.to_owned());
    }
    let roles = Role::ALL.map(Role::as_str).join(", ");
    Err(format!("the roles that every node knows are {roles}; others have names without a colon"))
}

/// Does it.
pub(crate) fn run(app: &App, command: Command) -> Result<Outcome> {
    let now = OffsetDateTime::now_utc();
    match command {
        Command::Secrets { output, force } => {
            refuse_to_replace(&output, force)?;
            let secrets = Secrets { ca: pki::make_ca(now)? };
            context::write_secret(
                &output,
                "# The operator's secrets: the key to every node of the fleet. No node ever needs this file.\n",
                &secrets,
            )?;
            say(&output, "the operator's CA. Keep it apart: it is the key to the fleet")?;
        }
        Command::Config(args) => config(app, &args, now)?,
        Command::Client(args) => client(app, &args, now)?,
    }
    Ok(Outcome::Done)
}

fn say(path: &Path, what: &str) -> Result<()> {
    output::print(&format!("Wrote {}: {what}.\n", path.display()))
}

fn refuse_to_replace(path: &Path, force: bool) -> Result<()> {
    if !force && path.symlink_metadata().is_ok() {
        return Err(Misuse(format!(
            "{} is there already. --force replaces it, and what it held is lost",
            path.display()
        ))
        .into());
    }
    Ok(())
}

fn read_secrets(path: &Path) -> Result<Secrets> {
    if path.try_exists().is_ok_and(|exists| !exists) {
        return Err(Misuse(format!(
            "There is no {}. ctl gen secrets makes one; --secrets names another",
            path.display()
        ))
        .into());
    }
    context::warn_if_open(path);
    context::load(path)
}

fn credentials(
    secrets: &Secrets,
    options: &ClientOptions,
    now: OffsetDateTime,
) -> Result<Credentials> {
    let name = options
        .name
        .clone()
        .or_else(|| env::var("USER").ok())
        .unwrap_or_else(|| "operator".to_owned());
    let pair = pki::make_client(&secrets.ca, &name, &options.role, options.lifetime, now)?;
    Ok(Credentials {
        ca: secrets.ca.certificate.clone(),
        certificate: pair.certificate,
        key: pair.key,
    })
}

fn config(app: &App, args: &ConfigArgs, now: OffsetDateTime) -> Result<()> {
    if !args.addresses.is_empty() && args.links.len() != 1 {
        return Err(Misuse(
            "--address is for one --link. Write further links into machine.yaml by hand".to_owned(),
        )
        .into());
    }
    let path = |name: &str| args.output.join(name);
    let (machine, schema, client) =
        (path("machine.yaml"), path("machine.schema.json"), path("client.yaml"));
    refuse_to_replace(&machine, args.force)?;
    refuse_to_replace(&client, args.force)?;

    let secrets = read_secrets(&args.secrets)?;
    let node = pki::make_node(&secrets.ca, args.hostname.as_str(), now)?;
    let text = machine_yaml(args, &secrets.ca.certificate, &node)?;
    let contexts = contexts(app, args, credentials(&secrets, &args.client, now)?)?;

    context::write_file(
        &schema,
        format!("{:#}\n", stele_config::schema::json()).as_bytes(),
        0o644,
    )?;
    context::write_file(&machine, text.as_bytes(), 0o600)?;
    contexts.save(&client)?;
    say(&machine, "the configuration of the node, with its private key")?;
    say(&schema, "its JSON Schema, for editors")?;
    say(
        &client,
        &format!(
            "the client configuration, as {} for {}",
            args.client.role,
            span::format_duration(args.client.lifetime)
        ),
    )?;
    output::print(&format!(
        "\nNext:\n  ctl config merge {}\n  ctl apply-config -f {} --insecure --fingerprint SHA256:…    (as on the node's console)\n",
        client.display(),
        machine.display()
    ))
}

/// A document as people read it: what it is comes first.
#[derive(Serialize)]
struct Document<'a, T> {
    #[serde(rename = "apiVersion")]
    api_version: &'a str,
    kind: &'a str,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize)]
struct IdentityBody<'a> {
    ca: &'a str,
    certificate: &'a str,
    key: &'a str,
}

#[derive(Serialize)]
struct HostnameBody<'a> {
    hostname: &'a str,
}

#[derive(Serialize)]
struct LinkBody<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dhcp4: Option<Dhcp4Body>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<RouteBody<'a>>,
}

/// All that a server says is taken.
#[derive(Serialize)]
struct Dhcp4Body {}

#[derive(Serialize)]
struct RouteBody<'a> {
    to: &'a str,
    via: IpAddr,
}

#[derive(Serialize)]
struct ResolverBody<'a> {
    servers: &'a [IpAddr],
}

fn document(kind: &str, body: impl Serialize) -> Result<String> {
    let document = Document { api_version: stele_config::newest_version(kind), kind, body };
    serde_yaml::to_string(&document).with_context(|| format!("Writing the {kind}"))
}

/// The configuration as the YAML that a user edits, checked as a node would.
fn machine_yaml(args: &ConfigArgs, ca: &str, node: &Pair) -> Result<String> {
    let identity = IdentityBody { ca, certificate: &node.certificate, key: &node.key };
    let mut documents = vec![
        document("Identity", identity)?,
        document("Hostname", HostnameBody { hostname: args.hostname.as_str() })?,
    ];
    for name in &args.links {
        let to = if args.gateway.is_some_and(|gateway| gateway.is_ipv6()) {
            "::/0"
        } else {
            "0.0.0.0/0"
        };
        let link = LinkBody {
            name: name.as_ref(),
            dhcp4: args.addresses.is_empty().then_some(Dhcp4Body {}),
            addresses: args.addresses.iter().map(ToString::to_string).collect(),
            routes: args.gateway.iter().map(|via| RouteBody { to, via: *via }).collect(),
        };
        documents.push(document("Link", link)?);
    }
    if !args.dns.is_empty() {
        documents.push(document("Resolver", ResolverBody { servers: &args.dns })?);
    }
    let head = "# yaml-language-server: $schema=machine.schema.json\n\
                # The configuration of one machine. It holds the machine's private key: keep it to yourself.\n";
    let text = format!("{head}{}", documents.join("---\n"));
    match yaml::parse(text.as_bytes()) {
        Ok(_) => Ok(text),
        Err(findings) => {
            let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
            let count = findings::count(&findings, "what was given");
            Err(Misuse(format!("{count}:\n  {}", shown.join("\n  "))).into())
        }
    }
}

/// The client configuration for the node.
fn contexts(app: &App, args: &ConfigArgs, credentials: Credentials) -> Result<Contexts> {
    let mut endpoints = args.endpoints.clone();
    if endpoints.is_empty() {
        endpoints.push(args.addresses.first().map_or_else(|| args.hostname.to_string(), host));
    }
    let mut nodes = Vec::new();
    for endpoint in &endpoints {
        let mut node = Node::parse(endpoint).map_err(|error| Misuse(error.to_string()))?;
        // Whatever way leads to the node, it is its name that the certificate must carry.
        if node.host != args.hostname.as_str() {
            node.server_name.get_or_insert_with(|| args.hostname.to_string());
        }
        nodes.push(node);
    }
    let name = app.global.context.clone().unwrap_or_else(|| args.hostname.to_string());
    Ok(Contexts {
        current: Some(name.clone()),
        contexts: [(name, Context::new(nodes, credentials))].into(),
    })
}

/// The address of an address with its prefix length.
fn host(cidr: &Cidr) -> String {
    let text = cidr.to_string();
    text.split_once('/').map_or(text.clone(), |(host, _)| host.to_owned())
}

fn client(app: &App, args: &ClientArgs, now: OffsetDateTime) -> Result<()> {
    refuse_to_replace(&args.output, args.force)?;
    let secrets = read_secrets(&args.secrets)?;
    let credentials = credentials(&secrets, &args.client, now)?;
    let path = Contexts::path(app.global.config.as_deref())?;
    let known = Contexts::load(&path).context("Looking for the nodes of the context")?;
    let given = app.global.context.as_deref();
    let same_ca =
        |context: &&Context| context.credentials().ca.trim() == secrets.ca.certificate.trim();
    let selected = known
        .select(app.global.context.as_deref(), &path)
        .ok()
        .filter(|(_, context)| same_ca(context));
    let mut nodes: Vec<Node> =
        selected.map(|(_, context)| context.nodes.clone()).unwrap_or_default();
    for text in &app.global.nodes {
        nodes.push(Node::parse(text).map_err(|error| Misuse(error.to_string()))?);
    }
    let name = given.or(selected.map(|(name, _)| name)).unwrap_or("stele").to_owned();
    let contexts = Contexts {
        current: Some(name.clone()),
        contexts: [(name, Context::new(nodes, credentials))].into(),
    };
    contexts.save(&args.output)?;
    say(
        &args.output,
        &format!(
            "the client configuration, as {} for {}",
            args.client.role,
            span::format_duration(args.client.lifetime)
        ),
    )
}
