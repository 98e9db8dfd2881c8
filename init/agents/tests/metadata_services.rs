// SPDX-License-Identifier: Apache-2.0
//! The metadata agent, with what PID 1 leaves it, against every service that a platform has, played by hack's metadata.py in
//! a network namespace of its own: nothing leaves it.

use serde_json::Value;
use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};
use stele_config::canonical;
use stele_platform::{ALL, Server};

const AGENT: &str = env!("CARGO_BIN_EXE_agent");
const SERVICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../hack/tests/e2e/metadata.py");
/// What these say of a machine.
const ATTRIBUTES: &str = include_str!("../../../hack/tests/e2e/metadata.json");
/// The DHCP server of CloudStack.
const ROUTER: &str = "10.0.0.1";
/// Longer than anything here should take to start.
const PATIENCE: Duration = Duration::from_secs(20);
const CONFINE: [&str; 13] = [
    "setpriv",
    "--reuid",
    "210",
    "--regid",
    "210",
    "--clear-groups",
    "--no-new-privs",
    "--bounding-set",
    "-all,+net_bind_service",
    "--inh-caps",
    "-all,+net_bind_service",
    "--ambient-caps",
    "+net_bind_service",
];

/// A namespace and the services in it. All of it goes when this does.
struct Lab {
    name: String,
    folder: PathBuf,
    children: Vec<Child>,
}

impl Lab {
    fn new(test: &str) -> Lab {
        let name = format!("stele-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("user-data"), "hello").expect("a file");
        let lab = Lab { name, folder, children: Vec::new() };
        lab.ip(&format!("netns add {}", lab.name));
        lab.inside("link set lo up");
        for address in
            ["169.254.169.254", "169.254.42.42", "100.100.100.200", "168.63.129.16", ROUTER]
        {
            lab.inside(&format!("address add {address}/32 dev lo"));
        }
        lab
    }

    fn ip(&self, arguments: &str) {
        let output = Command::new("ip").args(arguments.split_whitespace()).output();
        let output = output.expect("ip; install iproute2 for this test");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments} (this test needs root): {complaint}");
    }

    fn inside(&self, arguments: &str) {
        self.ip(&format!("-n {} {arguments}", self.name));
    }

    /// A command in the namespace.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(words);
        command
    }

    /// Plays a cloud at an address, in trouble or not, in place of the one before.
    fn play(&mut self, cloud: &str, address: &str, port: &str, more: &[&str]) {
        let folder = self.folder.to_string_lossy().into_owned();
        let words = [&["python3", SERVICE, cloud, &folder, address, port], more].concat();
        let child = self.command(&words).spawn().expect("python3; install it for this test");
        self.children.push(child);
        let since = Instant::now();
        // Nothing is said: connecting alone would be a request without an end to a server of one thread.
        let (address, port) = (address.split('%').next().unwrap_or(address), format!(":{port} "));
        loop {
            let output = self.command(&["ss", "-ltnH"]).output().expect("ss");
            let mut lines = std::str::from_utf8(&output.stdout).expect("text").lines();
            if lines.any(|line| line.contains(address) && line.contains(&port)) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{cloud} does not listen");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn trouble(&self, words: &str) {
        fs::write(self.folder.join("trouble"), words).expect("a file");
    }

    fn stop(&mut self) {
        for mut child in self.children.drain(..) {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }

    fn agent(&self, arguments: &[&str]) -> Output {
        let words = [&CONFINE[..], &[AGENT, "metadata"], arguments].concat();
        let mut command = self.command(&words);
        command.env("SSL_CERT_FILE", self.folder.join("ca.pem"));
        command.stdin(Stdio::null()).output().expect("the agent")
    }

    /// What the agent says of a cloud: its attributes and the user-data.
    fn ask(&self, cloud: &str) -> Result<(Value, Option<String>), String> {
        let output = self.agent(&[cloud, ROUTER]);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8(output.stdout).expect("text");
        let (line, user_data) = text.split_once('\n').expect("a line");
        let line: Value = serde_json::from_str(line).expect("JSON");
        let user_data = (line["userData"] == true).then(|| user_data.to_owned());
        Ok((line["attributes"].clone(), user_data))
    }

    /// What it says of the network.
    fn network(&self, cloud: &str) -> Value {
        let output = self.agent(&[cloud, ROUTER]);
        let text = String::from_utf8(output.stdout).expect("text");
        let line = text.lines().next().expect("a line");
        serde_json::from_str::<Value>(line).expect("JSON")["network"].clone()
    }

    fn told(&self) -> String {
        fs::read_to_string(self.folder.join("told")).unwrap_or_default()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop();
        self.ip(&format!("netns delete {}", self.name));
        let _gone = fs::remove_dir_all(&self.folder);
    }
}

/// What clouds say of the network, a line for each link.
const NETWORKS: [(&str, &str); 8] = [
    ("azure", "net0 52:54:00:12:34:57 dhcp dhcp6 10.144.133.5/24\nnet1 52:54:00:12:34:58 dhcp"),
    (
        "digitalocean",
        "private0 52:54:00:12:34:56 10.132.255.113/16\n\
         public0 52:54:00:12:34:57 169.254.169.15/24 2001:db8:800:10::17d:2001/64 10.17.0.9/16 \
         0.0.0.0/0>169.254.169.2 ::/0>2001:db8:800:10::1",
    ),
    (
        "equinix",
        "bond0 198.51.100.7/31 2001:db8:1::3/127 10.80.156.1/31 203.0.113.9/32 \
         0.0.0.0/0>198.51.100.6 ::/0>2001:db8:1::2 10.0.0.0/8>10.80.156.0\n\
         eth0 0c:c4:7a:b5:85:16\neth1 0c:c4:7a:b5:85:17\nBond bond0 of eth0 eth1",
    ),
    (
        "gcp",
        "net0 52:54:00:12:34:57 dhcp dhcp6 198.51.100.10/32 10.240.2.7/32\nnet1 52:54:00:12:34:56 dhcp",
    ),
    ("hetzner", "eth0 52:54:00:12:34:56 dhcp 2001:db8:c0c:1::1/64"),
    ("oracle", "net0 52:54:00:12:34:57 dhcp dhcp6\nnet1 52:54:00:12:34:56 10.0.3.7/24"),
    (
        "scaleway",
        "eth0 dhcp 198.51.100.18/32 2001:db8:2::1/64 ::/0>fe80::1\n\
         private0 52:54:00:12:34:57 dhcp",
    ),
    ("vultr", "net0 52:54:00:12:34:57 dhcp 198.51.100.20/23\nnet1 52:54:00:12:34:56 10.99.0.10/16"),
];

/// Documents of the network as PID 1 reads them.
fn links(documents: &Value) -> String {
    let bytes = serde_json::to_vec(documents).expect("JSON");
    let network = canonical::read_network(&bytes).unwrap_or_else(|found| panic!("{found:?}"));
    let links = network.links().iter().map(|link| {
        let matched = link.matched().map(ToString::to_string);
        let dhcp = link.dhcp4().map(|_| "dhcp".to_owned());
        let dhcp = dhcp.into_iter().chain(link.dhcp6().map(|_| "dhcp6".to_owned()));
        let addresses = link.addresses().iter().map(ToString::to_string);
        let routes = link.routes().iter().map(|route| {
            format!("{}>{}", route.to, route.via.map(|via| via.to_string()).unwrap_or_default())
        });
        let words = [link.name().to_string()].into_iter().chain(matched).chain(dhcp);
        words.chain(addresses).chain(routes).collect::<Vec<_>>().join(" ")
    });
    let made = network.virtual_links().iter().map(|link| {
        let members: Vec<_> = link.members().iter().map(|name| name.as_str()).collect();
        format!("{} {} of {}", link.kind(), link.name(), members.join(" "))
    });
    links.chain(made).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_service_is_asked_in_its_own_way() {
    let mut lab = Lab::new("clouds");
    let known: Value = serde_json::from_str(ATTRIBUTES).expect("JSON");
    let mut count = 0;
    for platform in ALL {
        let Some(metadata) = platform.metadata else { continue };
        let address = match metadata.server {
            Server::At(server) => server.trim_start_matches("http://"),
            Server::Dhcp(_) => ROUTER,
        };
        // Its name leads to an address only with the files of `names_and_certificates`.
        if address.starts_with("https") {
            continue;
        }
        lab.play(platform.name, address, "80", &[]);
        let (attributes, user_data) = lab.ask(platform.name).unwrap();
        // Some pass it on in base64, which the configure agent takes off.
        let expected = matches!(platform.name, "akamai" | "azure" | "oracle");
        let expected = if expected { "aGVsbG8=" } else { "hello" };
        assert_eq!(user_data.as_deref(), Some(expected), "{}", platform.name);
        assert_eq!(attributes, known[platform.name], "{}", platform.name);
        if let Some((_, expected)) = NETWORKS.iter().find(|(cloud, _)| *cloud == platform.name) {
            assert_eq!(links(&lab.network(platform.name)), *expected, "{}", platform.name);
        }
        lab.stop();
        count += 1;
    }
    assert_eq!(count, 14);
}

#[test]
fn machines_without_ipv4_ask_by_ipv6() {
    let mut lab = Lab::new("ipv6");
    lab.inside("address flush dev lo");
    lab.inside("address add ::1/128 dev lo");
    let unreachable = lab.ask("aws").unwrap_err();
    assert!(unreachable.contains("http://169.254.169.254/"), "{unreachable}");
    lab.inside("address add fd00:ec2::254/128 dev lo");
    lab.play("aws", "fd00:ec2::254", "80", &[]);
    let (attributes, user_data) = lab.ask("aws").unwrap();
    assert_eq!(user_data.as_deref(), Some("hello"));
    assert_eq!(attributes["region"], "eu-central-1");
    lab.stop();
    // A link-local address, on whichever link it is; the first of them leads nowhere.
    lab.inside("link add nowhere type veth peer name end");
    lab.inside("link add here type veth peer name there");
    for link in ["nowhere", "end", "here", "there"] {
        lab.inside(&format!("link set {link} up"));
    }
    lab.inside("address add fe80::a9fe:a9fe/64 dev there nodad");
    lab.play("hetzner", "fe80::a9fe:a9fe%there", "80", &[]);
    let (attributes, user_data) = lab.ask("hetzner").unwrap();
    assert_eq!(user_data.as_deref(), Some("hello"));
    assert_eq!(attributes["instanceId"], "42");
}

#[test]
fn cloudstack_s_service_is_found_by_name_too() {
    let mut lab = Lab::new("dataserver");
    let names = PathBuf::from(format!("/etc/netns/{}", lab.name));
    fs::create_dir_all(&names).expect("a folder");
    fs::write(names.join("hosts"), "169.254.169.254 data-server data-server.\n").unwrap();
    lab.play("cloudstack", "169.254.169.254", "80", &[]);
    let second = lab.agent(&["cloudstack", "127.0.0.1", "169.254.169.254"]);
    let (unmet, no_server) = (lab.ask("cloudstack"), lab.agent(&["cloudstack"]));
    lab.stop();
    let nobody = lab.ask("cloudstack");
    fs::remove_dir_all(names).expect("the folder");
    let second = String::from_utf8(second.stdout).unwrap();
    assert!(second.ends_with("hello"), "the second of two DHCP servers is the service: {second}");
    assert_eq!(unmet.unwrap().1.as_deref(), Some("hello"));
    assert!(no_server.status.success(), "{}", String::from_utf8_lossy(&no_server.stderr));
    assert!(nobody.unwrap_err().contains(ROUTER), "who was asked first");
}

#[test]
fn platforms_hear_that_the_machine_is_up() {
    let mut lab = Lab::new("checkin");
    lab.play("scaleway", "169.254.42.42", "80", &[]);
    let output = lab.agent(&["--check-in", "scaleway"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lab.told(), r#"{"state_detail":"booted"}"#);
    lab.play("wireserver", "168.63.129.16", "80", &[]);
    let output = lab.agent(&["--check-in", "azure"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(lab.told().contains("<ContainerId>c6d5526c-5ac2</ContainerId>"), "{}", lab.told());
    // A platform that wants to hear nothing is told nothing.
    assert!(lab.agent(&["--check-in", "hetzner"]).status.success());
}

#[test]
fn names_and_certificates() {
    let mut lab = Lab::new("names");
    let key = rcgen::generate_simple_self_signed(["metadata.platformequinix.com".to_owned()]);
    let key = key.expect("a certificate");
    let certificate = key.cert.pem();
    fs::write(lab.folder.join("ca.pem"), &certificate).expect("a file");
    let both = lab.folder.join("both.pem");
    fs::write(&both, certificate + &key.signing_key.serialize_pem()).expect("a file");
    let names = PathBuf::from(format!("/etc/netns/{}", lab.name));
    fs::create_dir_all(&names).expect("a folder");
    fs::write(names.join("hosts"), format!("{ROUTER} metadata.platformequinix.com\n")).unwrap();
    lab.play("equinix", ROUTER, "443", &[&both.to_string_lossy()]);
    let said = lab.ask("equinix");
    let network = lab.network("equinix");
    let told = lab.agent(&["--check-in", "equinix"]);
    fs::remove_file(lab.folder.join("ca.pem")).expect("the file");
    let unknown = lab.ask("equinix");
    fs::remove_dir_all(names).expect("the folder");
    let (attributes, user_data) = said.unwrap();
    assert_eq!(user_data.as_deref(), Some("hello"));
    let known: Value = serde_json::from_str(ATTRIBUTES).expect("JSON");
    assert_eq!(attributes, known["equinix"]);
    let expected = NETWORKS.iter().find(|(cloud, _)| *cloud == "equinix");
    assert_eq!(Some(links(&network).as_str()), expected.map(|(_, network)| *network));
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(lab.told().contains("instance_id"));
    assert!(unknown.unwrap_err().contains("certificate"));
}

#[test]
fn services_in_trouble_hold_nobody_up() {
    let mut lab = Lab::new("trouble");
    lab.play("hetzner", "169.254.169.254", "80", &[]);
    lab.trouble("starting");
    assert!(lab.ask("hetzner").unwrap_err().contains("503"));
    assert!(lab.ask("hetzner").is_ok(), "it has started meanwhile");
    fs::remove_file(lab.folder.join("asked")).expect("the file");
    lab.trouble("absent");
    assert_eq!(lab.ask("hetzner").unwrap().1, None, "what is not there is an answer");
    fs::remove_file(lab.folder.join("asked")).expect("the file");
    lab.trouble("busy");
    assert_eq!(lab.ask("hetzner").unwrap().1.as_deref(), Some("hello"));
    let asked = fs::read_to_string(lab.folder.join("asked")).expect("what was asked");
    let paths: Vec<_> = asked.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(paths[1], paths[2], "too much at once is asked for again, and no more than that");
    assert_eq!(paths.iter().filter(|path| **path == paths[0]).count(), 1);
    lab.trouble("empty");
    assert_eq!(lab.ask("hetzner").unwrap().1, None);
    for (trouble, expected) in [
        ("broken", "500"),
        ("garbage", "talking to it"),
        ("elsewhere", "redirected to somebody else"),
        ("huge", "at most 1048576 bytes"),
        ("slow", "no whole answer within 15 s"),
    ] {
        lab.trouble(trouble);
        let (since, error) = (Instant::now(), lab.ask("hetzner").unwrap_err());
        assert!(error.contains(expected), "{trouble}: {error}");
        assert!(since.elapsed() < Duration::from_secs(20), "{trouble}: {:?}", since.elapsed());
    }
}
