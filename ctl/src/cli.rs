// SPDX-License-Identifier: Apache-2.0
//! The commands there are.

use crate::{
    app::Global,
    command::{
        apply, boots, completion, config, dashboard, diagnose, drift, edit, events, generate,
        generations, get, health, logs, machine, patch, slots, status, support, upgrade, validate,
    },
};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::fmt::Write as _;

/// The client of Stele, an operating system without a shell
#[derive(Debug, Parser)]
#[command(
    name = "ctl",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    max_term_width = 110
)]
pub(crate) struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make secrets, machine configurations and client certificates
    #[command(subcommand)]
    Gen(generate::Command),
    /// Check a machine configuration, without a node
    #[command(after_help = "Examples:
  ctl validate -f machine.yaml
  ctl get config -n web1 | ctl validate -f -

Every finding comes at once. Exit code 2 if there is any.")]
    Validate(validate::Args),
    /// Print the JSON Schema of machine configurations, for editors
    #[command(after_help = "Example:
  ctl schema > machine.schema.json

An editor with a YAML language server takes it from the first line of machine.yaml:
  # yaml-language-server: $schema=machine.schema.json")]
    Schema,
    /// Give a node its configuration
    #[command(after_help = "Examples:
  ctl apply-config -f machine.yaml --dry-run      what differs, and what each change does
  ctl apply-config -f machine.yaml
  ctl get config > machine.yaml                   which is then edited, and applied
  ctl apply-config -f machine.yaml --confirm-within 5m
  ctl apply-config -f machine.yaml --mode staged  all of it with the next start of the machine
  ctl apply-config -f machine.yaml --mode reboot  the same, and restart it
  ctl apply-config -f machine.yaml --insecure --fingerprint SHA256:3f5a…

Without --mode all of it is done at once, and a change that needs a restart of the machine is refused: the node says \
which, as --dry-run does.

A node without a configuration (in maintenance mode) knows no one and has no certificate of the operator's: its \
console shows the fingerprint of the one it has. --insecure --fingerprint sends the configuration, which holds a \
private key, to the holder of that certificate and to no one else.

What was applied by another one meanwhile is not overwritten: the node refuses, and what changed is shown. The first \
line of what ctl get config has written names the generation that it was made from, and that counts, unless --base names \
another one; when the file is applied, ctl writes the new number there. With --confirm-within the node goes back to the configuration it had, whatever happens to it, unless ctl \
confirm comes in time.")]
    ApplyConfig(apply::Args),
    /// Keep a configuration that would go back by itself
    #[command(after_help = "Examples:
  ctl apply-config -f machine.yaml --confirm-within 5m
  ctl confirm -n web1

It is taken over a connection that is newer than the configuration: so the node is known to be reachable with it.")]
    Confirm(generations::ConfirmArgs),
    /// Edit a node's configuration
    #[command(after_help = "Examples:
  ctl edit -n web1
  EDITOR='code --wait' ctl edit --confirm-within 5m
  ctl edit -f /tmp/stele-edit-Ab3dEf/machine.yaml   a text that was kept

The editor is $VISUAL, or else $EDITOR, or else vi. What it leaves is checked before it is sent, and the editor comes \
again with what is wrong. Secrets are not in the text: marks stand in their places. A text that could not be sent is kept. If another configuration has come into force since \
it was made, what that changed is shown instead of the editor, and --base says that the text is to replace it.")]
    Edit(edit::Args),
    /// Change some documents of a node's configuration
    #[command(after_help = "Examples:
  ctl patch -p '{kind: Link, name: eth0, mtu: 9000}' --dry-run
  ctl patch -f patch.yaml -n all
  ctl patch -p '{kind: Link, name: eth1, $patch: delete}'
  ctl patch --type json -p '[{\"op\": \"replace\", \"path\": \"/Link/eth0/mtu\", \"value\": 9000}]'

Each document of a patch goes into the one of its kind and name: mappings are merged, null removes a key, and lists and \
all else are replaced. One that finds none is added. $patch: delete removes a document, $patch: replace leaves nothing \
of it. Operations of RFC 6902 find a document at /KIND, or at /KIND/NAME.")]
    Patch(patch::Args),
    /// Show resources: every state of the machine
    #[command(after_help = "Examples:
  ctl get                         the kinds there are
  ctl get links                   all resources of a kind
  ctl get link eth0 -o yaml       all that is known of one
  ctl get links -o wide           what the columns leave out, and when each last changed
  ctl get link eth0 -o jsonpath='{.status.state}'
  ctl get links -o jsonpath='{range [*]}{.name}{\"\\t\"}{.status.mac}{\"\\n\"}{end}'
  ctl get service -w              and every change as it happens
  ctl get service -w -o jsonpath='{.change} {.resource.name} {.resource.status.state}'
  ctl get config                  the configuration that the node has, as YAML
  ctl get config --generation 3

A JSON path is one of RFC 9535, into what -o json prints: a list of resources, or the one that is named. With -w it is \
filled in for each change, which is an object of node, change (added, modified, removed or synced) and resource; with \
config, for an object of generation and documents.")]
    Get(get::Args),
    /// Show the services and how they are
    #[command(after_help = "Examples:
  ctl services
  ctl services apid -o yaml
  ctl services -w")]
    Services(get::ServicesArgs),
    /// Show a log, or name the logs there are
    #[command(after_help = "Examples:
  ctl logs                        the logs there are
  ctl logs apid --tail 100
  ctl logs audit -f               who did what, as it happens
  ctl logs kernel --boot -1       how the last boot ended
  ctl logs panic --boot 12        what the kernel of a boot wrote down when it panicked
  ctl logs dhcp-eth0 --since 10m -n web1,web2")]
    Logs(logs::Args),
    /// Show the kernel's log
    #[command(after_help = "Examples:
  ctl dmesg
  ctl dmesg -f
  ctl dmesg --boot -1")]
    Dmesg(logs::DmesgArgs),
    /// Show nodes in a terminal: health, services, network, resources and logs
    #[command(after_help = "Example:
  ctl dashboard -n web1,web2

1 to 5 or Tab choose a view, the arrows to the left and right another node, those up and down what is in a view. q ends it.")]
    Dashboard(dashboard::Args),
    /// Show what happened, who made it happen, and by which request
    #[command(after_help = "Examples:
  ctl events --since 10m
  ctl events -f -n web1,web2
  ctl events --request 6265de1d-9 what a line of ctl logs audit has caused")]
    Events(events::Args),
    /// Write all that nodes tell of themselves into archives, without their secrets
    #[command(after_help = "Examples:
  ctl support -n web1
  ctl support -n all -o /tmp --age age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p

What could not be read is named in the archive's README, and does not keep the rest out of it.")]
    Support(support::Args),
    /// Show how nodes are, in one look
    #[command(after_help = "Examples:
  ctl status
  ctl status -n all -o json

Exit code 1 if a node is in safe mode, its image has failed its health gate, or a required check fails.")]
    Status(status::Args),
    /// Show the health checks, and whether a new image has proved itself
    #[command(after_help = "Examples:
  ctl health
  ctl health -w                   and every change as it happens
  ctl health -n all -o json

Exit code 1 if a required check fails. kind: HealthCheck in the configuration adds checks to the system's own.")]
    Health(health::Args),
    /// Show where nodes differ from their configuration
    #[command(after_help = "Examples:
  ctl drift
  ctl drift -n all -o json

Exit code 1 if a node differs.")]
    Drift(drift::Args),
    /// Show how nodes started, and how each boot ended
    #[command(after_help = "Examples:
  ctl boots
  ctl boots 12                    all that is known of one: each check, and when it passed
  ctl boots -1                    the one before the running one
  ctl logs kernel --boot 12       what it left behind
  ctl logs panic --boot 12        and if its kernel panicked")]
    Boots(boots::Args),
    /// Show what ctl and the nodes run
    #[command(after_help = "Examples:
  ctl version
  ctl version --client
  ctl version -n web1,web2 -o json")]
    Version(machine::VersionArgs),
    /// Move a node to another image, and follow until it runs it
    #[command(after_help = "Examples:
  ctl upgrade --image out/stele.efi
  ctl upgrade --url https://example.com/stele.efi -n web1,web2
  ctl upgrade --image out/stele.efi --stage-only
  ctl upgrade --slot stele_1.2.0.efi              once it is staged

The new image is put beside the running one, which stays until the new one has proved itself. ctl ends when the node \
runs the new image and has marked it good, or with exit code 1 when it went back to the old one.")]
    Upgrade(upgrade::Args),
    /// Go back to the image that ran before
    #[command(after_help = "Examples:
  ctl slots                       what there is to go back to
  ctl rollback -n web1")]
    Rollback(upgrade::RollbackArgs),
    /// Show the images on a node
    #[command(after_help = "Example:
  ctl slots -n web1,web2")]
    Slots(slots::Args),
    /// Restart nodes, and wait until they are back
    #[command(after_help = "Examples:
  ctl reboot -n web1
  ctl reboot -n all --no-wait")]
    Reboot(machine::PowerArgs),
    /// Power nodes off
    #[command(after_help = "Example:
  ctl shutdown -n web1")]
    Shutdown(machine::PowerArgs),
    /// Send echo requests from nodes
    #[command(after_help = "Examples:
  ctl ping 10.0.0.1
  ctl ping example.com -c 10 -i 200ms -n web1,web2

Exit code 1 if nothing is answered. For os:operator, as all that sends packets.")]
    Ping(diagnose::ping::Args),
    /// Find the routers between nodes and a host
    #[command(after_help = "Example:
  ctl traceroute example.com -n web1

Exit code 1 if the host is not reached.")]
    Traceroute(diagnose::traceroute::Args),
    /// Ask name servers from nodes
    #[command(after_help = "Examples:
  ctl dig example.com
  ctl dig example.com --type MX --server 192.0.2.53
  ctl dig 192.0.2.7               the name of an address

Exit code 1 if the answer is not NoError.")]
    Dig(diagnose::dig::Args),
    /// Try to reach a server from nodes, by TCP, TLS or HTTP
    #[command(subcommand)]
    Probe(diagnose::probe::Command),
    /// Capture packets of a node's link, as a file for tcpdump and Wireshark
    #[command(after_help = "Examples:
  ctl pcap eth0 -w eth0.pcap -n web1
  ctl pcap eth0 --filter 'host 10.0.0.5 and port 53 and udp' | tcpdump -nr -
  ctl pcap lo --filter icmp -c 10 -w lo.pcap

A filter is made of host ADDRESS, port NUMBER and proto NAME, each at most once; all of them must hold. NAME is ip, ip6, arp, tcp, udp, icmp or icmp6, and needs no proto before it. For os:admin: packets hold what others say.")]
    Pcap(diagnose::pcap::Args),
    /// Show the processes
    #[command(after_help = "Examples:
  ctl ps
  ctl ps --sort memory
  ctl ps --arguments -n web1      with what each was started with, for os:admin")]
    Ps(diagnose::machine::ProcessArgs),
    /// Show the sockets and their connections
    #[command(after_help = "Examples:
  ctl netstat
  ctl netstat --listening -n web1")]
    Netstat(diagnose::machine::SocketArgs),
    /// Show what is mounted
    #[command(after_help = "Example:
  ctl mounts -n web1")]
    Mounts(diagnose::machine::Args),
    /// Show what memory is used for
    #[command(after_help = "Example:
  ctl memory -n web1")]
    Memory(diagnose::machine::Args),
    /// Show the control groups, and what they use
    #[command(after_help = "Example:
  ctl cgroups -n web1")]
    Cgroups(diagnose::machine::Args),
    /// Show how long threads have waited for processors, memory and disks
    #[command(after_help = "Example:
  ctl pressure -n web1,web2

some: at least one thread waited. full: all that had something to do did.")]
    Pressure(diagnose::machine::Args),
    /// Show the disks and their partitions
    #[command(after_help = "Example:
  ctl disks -n web1")]
    Disks(diagnose::machine::Args),
    /// Contexts: fleets and the credentials for them; and the configurations that nodes have had
    #[command(subcommand)]
    Config(config::Command),
    /// Print the completion script for a shell
    #[command(after_help = "Examples:
  ctl completion bash > ~/.local/share/bash-completion/completions/ctl
  ctl completion zsh > ~/.zfunc/_ctl
  ctl completion fish > ~/.config/fish/completions/ctl.fish")]
    Completion(completion::Args),
}

/// In which order and under which headings help shows the commands.
const GROUPS: &[(&str, &[&str])] = &[
    ("Begin", &["gen", "validate", "schema", "apply-config"]),
    (
        "Look",
        &[
            "status",
            "dashboard",
            "health",
            "drift",
            "boots",
            "get",
            "services",
            "logs",
            "dmesg",
            "events",
            "version",
            "slots",
            "support",
        ],
    ),
    (
        "Diagnose",
        &[
            "ping",
            "traceroute",
            "dig",
            "probe",
            "pcap",
            "ps",
            "netstat",
            "mounts",
            "memory",
            "cgroups",
            "pressure",
            "disks",
        ],
    ),
    ("Operate", &["confirm", "edit", "patch", "upgrade", "rollback", "reboot", "shutdown"]),
    ("Here", &["config", "completion"]),
];

/// The command line, with the commands in groups.
pub(crate) fn command() -> clap::Command {
    let command = Cli::command();
    let mut commands = String::new();
    for (group, names) in GROUPS {
        let _ = writeln!(commands, "{group}:");
        for name in *names {
            let about = command
                .find_subcommand(name)
                .and_then(clap::Command::get_about)
                .map(ToString::to_string);
            let _ = writeln!(commands, "  {name:<14}{}", about.unwrap_or_default());
        }
        commands.push('\n');
    }
    let template = format!(
        "{{about}}\n\nUsage: ctl COMMAND [OPTIONS]\n\n{commands}{{options}}\n\n\
         ctl COMMAND --help says more, with examples. Exit codes: 0 done, 1 a node failed or refused, 2 not valid.\n"
    );
    command.help_template(template)
}

/// Reads the command line; help, and what is wrong with it, end the program.
pub(crate) fn parse() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_command_is_in_one_group() {
        let grouped: Vec<&str> =
            GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let mut all: Vec<String> =
            Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let mut sorted: Vec<String> = grouped.iter().map(ToString::to_string).collect();
        sorted.sort();
        all.sort();
        assert_eq!(sorted, all);
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let leaf = command.get_subcommands().next().is_none();
            assert!(!leaf || help.contains("Example"), "{} has no example", command.get_name());
            command.get_subcommands().for_each(check);
        }
        Cli::command().get_subcommands().for_each(check);
    }

    #[test]
    fn global_options_stand_anywhere() {
        for line in [&["ctl", "-n", "a,b", "get", "link"][..], &["ctl", "get", "link", "-n", "a,b"]]
        {
            let matches = command().try_get_matches_from(line).unwrap();
            assert_eq!(Cli::from_arg_matches(&matches).unwrap().global.nodes, ["a", "b"]);
        }
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_done() {
        for line in [
            &["ctl", "upgrade"][..],
            &["ctl", "upgrade", "--image", "a", "--url", "http://b"],
            &["ctl", "apply-config", "-f", "a", "--fingerprint", "SHA256:00"],
            &["ctl", "logs", "--tail", "-1"],
            &["ctl", "get", "link", "--timeout", "soon"],
            &["ctl", "gen", "client", "--role", "os:root"],
            &["ctl", "ping", "web", "-c", "101"],
            &["ctl", "pcap", "eth0", "--filter", "src 10.0.0.1"],
            &["ctl", "probe", "udp", "web:53"],
        ] {
            assert!(command().try_get_matches_from(line).is_err(), "{line:?}");
        }
    }
}
