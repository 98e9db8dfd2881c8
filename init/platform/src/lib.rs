// SPDX-License-Identifier: Apache-2.0
//! The places where a machine may run: how each is recognised, and how it is asked what the machine is to be.
//!
//! A platform is a file with one value of [`Platform`]: the signs by which it is known, and its metadata service or the
//! channel of its hypervisor, if it has one. All of it is data. PID 1 looks at the signs, agents ask; neither knows one
//! platform from another.
//!
//! A metadata service is asked only where the signs say that it is there: on other hardware, whoever sits on the same
//! network could answer at its address. Nor is a hypervisor: on other hardware, the attempt ends the agent.

#![forbid(unsafe_code)]

mod akamai;
mod alibaba;
mod aws;
mod azure;
mod cloudstack;
mod digitalocean;
mod equinix;
mod exoscale;
mod gcp;
mod hetzner;
mod hyperv;
mod ibm;
mod kubevirt;
mod nutanix;
mod opennebula;
mod openstack;
mod oracle;
mod qemu;
mod scaleway;
mod upcloud;
mod virtualbox;
mod vmware;
mod vultr;

/// What the machine says of itself: the files of `/sys/class/dmi/id`, which are the firmware's (SMBIOS reference specification,
/// DSP0134, 7.2 to 7.4), its hypervisor, and its drives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `sys_vendor`.
    pub vendor: String,
    /// `product_name`.
    pub product: String,
    /// `product_uuid`.
    pub uuid: String,
    /// `product_serial`.
    pub serial: String,
    /// `chassis_asset_tag`.
    pub asset_tag: String,
    /// What its hypervisor calls itself; nothing without one.
    pub hypervisor: String,
    /// The labels of its drives, once they are known.
    pub drives: Vec<String>,
}

/// One of the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `sys_vendor`.
    Vendor,
    /// `product_name`.
    Product,
    /// `product_uuid`.
    Uuid,
    /// The first four bytes of `product_uuid` the other way round, as firmware writes it that takes them for a number.
    SwappedUuid,
    /// `product_serial`.
    Serial,
    /// `chassis_asset_tag`.
    AssetTag,
    /// What the hypervisor calls itself, whoever made the firmware.
    Hypervisor,
}

impl Fact {
    /// What it is called: the name of the file that says it, if it is the firmware's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fact::Vendor => "sys_vendor",
            Fact::Product => "product_name",
            Fact::Uuid | Fact::SwappedUuid => "product_uuid",
            Fact::Serial => "product_serial",
            Fact::AssetTag => "chassis_asset_tag",
            Fact::Hypervisor => "hypervisor",
        }
    }

    /// What the machine says.
    #[must_use]
    pub fn of(self, facts: &Facts) -> String {
        match self {
            Fact::Vendor => facts.vendor.clone(),
            Fact::Product => facts.product.clone(),
            Fact::Uuid => facts.uuid.clone(),
            Fact::SwappedUuid => {
                let digits: Vec<char> = facts.uuid.chars().take(8).collect();
                digits.rchunks(2).flatten().collect()
            }
            Fact::Serial => facts.serial.clone(),
            Fact::AssetTag => facts.asset_tag.clone(),
            Fact::Hypervisor => facts.hypervisor.clone(),
        }
    }
}

/// Something by which a platform is known, in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A fact is this.
    Is(Fact, &'static str),
    /// A fact begins with this.
    Begins(Fact, &'static str),
    /// There is a drive with this label. Anyone can make one: it never tells alone.
    Drive(&'static str),
}

impl Sign {
    fn holds(self, facts: &Facts) -> bool {
        match self {
            Sign::Is(fact, text) => fact.of(facts).eq_ignore_ascii_case(text),
            Sign::Begins(fact, text) => fact
                .of(facts)
                .get(..text.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(text)),
            Sign::Drive(label) => {
                facts.drives.iter().any(|drive| drive.eq_ignore_ascii_case(label))
            }
        }
    }

    /// The sign in words.
    #[must_use]
    pub fn in_words(self) -> String {
        match self {
            Sign::Is(fact, text) => format!("{} is {text}", fact.name()),
            Sign::Begins(fact, text) => format!("{} begins with {text}", fact.name()),
            Sign::Drive(label) => format!("a drive is labelled {label}"),
        }
    }
}

/// Something that a platform knows of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    /// What the platform calls this machine, as long as it is the same one.
    InstanceId,
    /// The name that the platform has for it.
    Hostname,
    /// Where it is, in the large.
    Region,
    /// Where it is within the region.
    Zone,
    /// How large it is.
    InstanceType,
    /// Addresses by which others reach it.
    PublicAddress,
    /// What its owners have marked it with.
    Tags,
}

impl Attribute {
    /// Its key in the resource.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Attribute::InstanceId => "instanceId",
            Attribute::Hostname => "hostname",
            Attribute::Region => "region",
            Attribute::Zone => "zone",
            Attribute::InstanceType => "instanceType",
            Attribute::PublicAddress => "publicAddress",
            Attribute::Tags => "tags",
        }
    }
}

/// What of an answer is the attribute, where that is not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// What is before the first slash.
    First,
    /// What is behind the last slash.
    Last,
    /// The same, without what is behind its last hyphen: the region of a zone.
    Region,
}

impl Cut {
    /// What is left of an answer.
    #[must_use]
    pub fn of(self, answer: &str) -> &str {
        let last = || answer.rsplit_once('/').map_or(answer, |(_, last)| last);
        match self {
            Cut::First => answer.split_once('/').map_or(answer, |(first, _)| first),
            Cut::Last => last(),
            Cut::Region => last().rsplit_once('-').map_or_else(last, |(region, _)| region),
        }
    }
}

/// A word that is asked for first, and then said with each question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Where it is had, by PUT.
    pub path: &'static str,
    /// The header of that request.
    pub ask: (&'static str, &'static str),
    /// The header in which the word is said.
    pub say: &'static str,
    /// Whether a service that knows no such path is asked without.
    pub optional: bool,
}

/// Where a metadata service is. Nothing else is ever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// At a URL without a path.
    At(&'static str),
    /// At the address of the DHCP server; or at a URL without a path, where there is none, or nobody answers there.
    Dhcp(&'static str),
}

/// How a platform is told that the machine is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckIn {
    /// A request at a path of the service, with this JSON.
    Send {
        /// The method.
        method: &'static str,
        /// The path.
        path: &'static str,
        /// The JSON.
        body: &'static str,
    },
    /// The same, by POST, at a URL that the service names at this path.
    PhoneHome {
        /// The path, as of an attribute.
        path: &'static str,
        /// The JSON.
        body: &'static str,
    },
    /// Azure's own way: the goal state is asked for and answered.
    Wireserver {
        /// Where it is: a URL without a path.
        server: &'static str,
    },
}

/// A metadata service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Where it is.
    pub server: Server,
    /// Where it is for machines that can't reach it there, by IPv6: a URL without a path. A link-local address is asked for on
    /// every link.
    pub ipv6: Option<&'static str>,
    /// Whether it answers only those who ask from a port below 1024.
    pub low_port: bool,
    /// How a conversation begins.
    pub session: Option<Session>,
    /// Headers of each question.
    pub headers: &'static [(&'static str, &'static str)],
    /// Where the user-data is: the first of these paths that there is.
    pub user_data: &'static [&'static str],
    /// Where attributes are, as plain text; or in JSON, at the pointer behind `#` (RFC 6901, 6). In a pointer `*` is each that
    /// there is, and `*KEY=VALUE` each of which that is true; in a path `*` is each line of what is listed there, and one at
    /// the end has `LINE=` put before what it leads to. An attribute has all texts of all its lines here.
    pub attributes: &'static [(Attribute, &'static str)],
    /// What of these texts the attributes are.
    pub cuts: &'static [(Attribute, Cut)],
    /// Where the network is described, and in which form, as the agents call it.
    pub network: Option<(&'static str, &'static str)>,
    /// Answers that say "not yet" of a path that is there, while the service starts.
    pub not_yet: &'static [u16],
    /// What it wants to be told.
    pub check_in: Option<CheckIn>,
}

/// A way by which a hypervisor hands things over itself, without a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// What it is called among the sources, and the unit of its agent.
    pub name: &'static str,
    /// The device that the agent needs.
    pub device: Option<&'static str>,
    /// What of the firmware tells this machine from others where the hypervisor does not say.
    pub instance: Option<Fact>,
    /// Whether the hypervisor can be told to forget the user-data, which every program on the machine could read.
    pub forgets: bool,
}

/// The address at which most metadata services are (RFC 3927's range).
const LINK_LOCAL: Server = Server::At("http://169.254.169.254");

/// A service to which the rest is added.
const PLAIN: Metadata = Metadata {
    server: LINK_LOCAL,
    ipv6: None,
    low_port: false,
    session: None,
    headers: &[],
    user_data: &[],
    attributes: &[],
    cuts: &[],
    network: None,
    not_yet: &[],
    check_in: None,
};

/// A place where a machine may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The name, as in `stele.platform=`.
    pub name: &'static str,
    /// Any of these tells; each is a number of signs that have to hold together. Without any, only the kernel command line
    /// tells.
    pub signs: &'static [&'static [Sign]],
    /// Whom to ask.
    pub metadata: Option<Metadata>,
    /// How its hypervisor is asked, where that has something to say.
    pub channel: Option<Channel>,
    /// Servers of the time that it has for its machines: names or addresses, IPv6 in brackets.
    pub time_servers: &'static [&'static str],
}

/// All of them. A cloud comes before the hypervisor that it is made with.
pub const ALL: [Platform; 23] = [
    akamai::PLATFORM,
    alibaba::PLATFORM,
    aws::PLATFORM,
    azure::PLATFORM,
    cloudstack::PLATFORM,
    digitalocean::PLATFORM,
    equinix::PLATFORM,
    exoscale::PLATFORM,
    gcp::PLATFORM,
    hetzner::PLATFORM,
    ibm::PLATFORM,
    kubevirt::PLATFORM,
    nutanix::PLATFORM,
    opennebula::PLATFORM,
    openstack::PLATFORM,
    oracle::PLATFORM,
    scaleway::PLATFORM,
    upcloud::PLATFORM,
    vultr::PLATFORM,
    hyperv::PLATFORM,
    virtualbox::PLATFORM,
    vmware::PLATFORM,
    qemu::PLATFORM,
];

/// A platform, and what it was known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub platform: Platform,
    /// In words.
    pub evidence: String,
}

/// The platform of this name.
#[must_use]
pub fn named(name: &str) -> Option<Platform> {
    ALL.into_iter().find(|platform| platform.name == name)
}

/// The platform that these facts are the signs of; none on hardware of one's own.
#[must_use]
pub fn detect(facts: &Facts) -> Option<Found> {
    ALL.into_iter().find_map(|platform| {
        let signs =
            platform.signs.iter().find(|signs| signs.iter().all(|sign| sign.holds(facts)))?;
        let words: Vec<String> = signs.iter().map(|sign| sign.in_words()).collect();
        Some(Found { platform, evidence: words.join(" and ") })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn facts(vendor: &str, product: &str, asset_tag: &str, uuid: &str) -> Facts {
        Facts {
            vendor: vendor.to_owned(),
            product: product.to_owned(),
            uuid: uuid.to_owned(),
            serial: String::new(),
            asset_tag: asset_tag.to_owned(),
            ..Facts::default()
        }
    }

    fn name(facts: &Facts) -> &'static str {
        detect(facts).map_or("metal", |found| found.platform.name)
    }

    #[test]
    fn each_is_known_by_its_signs() {
        for (expected, vendor, product, tag, uuid) in [
            ("akamai", "Akamai", "Compute Instance", "", ""),
            ("akamai", "Linode", "Compute Instance", "", ""),
            ("alibaba", "Alibaba Cloud", "Alibaba Cloud ECS", "", ""),
            ("aws", "Amazon EC2", "m5.large", "", "ec2e1916-9099-7caf-fd21-012345abcdef"),
            ("aws", "Xen", "HVM domU", "", "EC2E1916-9099-7CAF-FD21-012345ABCDEF"),
            ("aws", "Xen", "HVM domU", "", "45e12aec-dcd1-b213-94ed-012345abcdef"),
            (
                "azure",
                "Microsoft Corporation",
                "Virtual Machine",
                "7783-7084-3265-9085-8269-3286-77",
                "",
            ),
            ("cloudstack", "Apache Software Foundation", "CloudStack KVM Hypervisor", "", ""),
            ("digitalocean", "DigitalOcean", "Droplet", "", ""),
            ("exoscale", "Exoscale", "Exoscale Compute Platform", "", ""),
            ("gcp", "Google", "Google Compute Engine", "", ""),
            ("hetzner", "Hetzner", "vServer", "", ""),
            ("hyperv", "Microsoft Corporation", "Virtual Machine", "", ""),
            ("kubevirt", "KubeVirt", "None", "", ""),
            ("nutanix", "Nutanix", "AHV", "", ""),
            ("openstack", "OpenStack Foundation", "OpenStack Nova", "", ""),
            ("openstack", "QEMU", "Standard PC", "OpenTelekomCloud", ""),
            ("openstack", "QEMU", "Standard PC", "Samsung Cloud Platform", ""),
            ("oracle", "QEMU", "Standard PC", "OracleCloud.com", ""),
            ("qemu", "QEMU", "Standard PC (Q35 + ICH9, 2009)", "", ""),
            ("scaleway", "Scaleway", "SCW-DEV1-S", "", ""),
            ("upcloud", "UpCloud", "Cloud Server", "", ""),
            ("virtualbox", "innotek GmbH", "VirtualBox", "", ""),
            ("vmware", "VMware, Inc.", "VMware7,1", "", ""),
            ("vultr", "Vultr", "VC2", "", ""),
            ("metal", "Dell Inc.", "PowerEdge R650", "", "4c4c4544-0051-3510-8052-b4c04f565931"),
            ("metal", "", "", "", ""),
        ] {
            assert_eq!(name(&facts(vendor, product, tag, uuid)), expected, "{vendor} {product}");
        }
        // VMware may show a guest the firmware of its host.
        let hypervisor = "VMwareVMware".to_owned();
        let reflected = Facts { hypervisor, ..facts("Dell Inc.", "PowerEdge R650", "", "") };
        assert_eq!(name(&reflected), "vmware");
        let context = Facts { drives: vec!["CONTEXT".to_owned()], ..reflected };
        assert_eq!(name(&context), "opennebula");
        let serial = Facts { serial: "GoogleCloud-1A2B".to_owned(), ..Facts::default() };
        assert_eq!(name(&serial), "gcp");
    }

    #[test]
    fn a_drive_tells_a_platform_from_its_hypervisor() {
        let drives = vec!["CONTEXT".to_owned()];
        let with = |vendor| Facts { drives: drives.clone(), ..facts(vendor, "", "", "") };
        let found = detect(&with("QEMU")).unwrap();
        assert_eq!(found.platform.name, "opennebula");
        assert_eq!(found.evidence, "sys_vendor is QEMU and a drive is labelled CONTEXT");
        // Nobody makes a machine another's by a drive that they put in.
        assert_eq!(name(&with("Dell Inc.")), "metal");
        assert_eq!(name(&with("Hetzner")), "hetzner");
    }

    #[test]
    fn the_evidence_is_told() {
        let found = detect(&facts("Microsoft Corporation", "Virtual Machine", "", "")).unwrap();
        assert_eq!(
            found.evidence,
            "sys_vendor is Microsoft Corporation and product_name is Virtual Machine"
        );
    }

    #[test]
    fn names_are_their_own_and_paths_are_paths() {
        let names: BTreeSet<_> = ALL.iter().map(|platform| platform.name).collect();
        assert_eq!(names.len(), ALL.len());
        for platform in ALL {
            assert_eq!(named(platform.name), Some(platform));
            assert!(platform.metadata.is_none() || platform.channel.is_none(), "{}", platform.name);
            let Some(metadata) = platform.metadata else { continue };
            let (Server::At(server) | Server::Dhcp(server)) = metadata.server;
            assert!(server.starts_with("http"), "{}", platform.name);
            if let Some(server) = metadata.ipv6 {
                assert!(server.starts_with("http://["), "{}", platform.name);
            }
            let paths =
                metadata.user_data.iter().chain(metadata.attributes.iter().map(|(_, path)| path));
            for path in paths.chain(metadata.session.iter().map(|session| &session.path)) {
                assert!(path.starts_with('/'), "{}: {path}", platform.name);
            }
        }
    }

    #[test]
    fn answers_are_cut() {
        let cut = |cut: Cut| ["projects/1/zones/europe-west1-b", "nova", ""].map(|it| cut.of(it));
        assert_eq!(cut(Cut::First), ["projects", "nova", ""]);
        assert_eq!(cut(Cut::Last), ["europe-west1-b", "nova", ""]);
        assert_eq!(cut(Cut::Region), ["europe-west1", "nova", ""]);
    }

    #[test]
    fn odd_facts_are_no_signs() {
        let odd = facts("Ḧetzner", "É", "7783", "ec");
        assert_eq!(name(&odd), "metal");
    }
}
