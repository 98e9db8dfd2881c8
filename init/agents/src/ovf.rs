// SPDX-License-Identifier: Apache-2.0
//! OVF environments (DMTF DSP0243, 9.5), as VMware's transports and Azure's provisioning drive have them.

use roxmltree::{Document, Node, ParsingOptions};

/// Elements and attributes that are looked at.
const MOST_NODES: u32 = 100_000;

/// What an environment says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The user-data, mostly in base64.
    pub user_data: Option<String>,
    /// The name that the machine is to have.
    pub hostname: Option<String>,
    /// What the platform calls it.
    pub instance: Option<String>,
    /// The network, as NoCloud's network-config in base64.
    pub network: Option<String>,
}

/// Whether this may be one.
#[must_use]
pub fn is_environment(bytes: &[u8]) -> bool {
    let begin = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    begin.starts_with(b"<?xml") || begin.starts_with(b"<Environment")
}

/// Reads one; the reason why it is none.
///
/// # Errors
/// When it is not the XML of an environment.
pub fn read(text: &str) -> Result<Environment, String> {
    let document = parse(text)?;
    let root = document.root_element();
    if root.tag_name().name() != "Environment" {
        return Err(format!("its root is {}", root.tag_name().name()));
    }
    let mut environment = Environment::default();
    for node in root.descendants().filter(Node::is_element) {
        let (key, value) = match node.tag_name().name() {
            // DSP0243: a property with its value.
            "Property" => (attribute(&node, "key"), attribute(&node, "value")),
            // Azure, in place of properties.
            name @ ("CustomData" | "UserData" | "HostName") => (Some(name), node.text()),
            _ => continue,
        };
        let place = match key {
            Some("user-data" | "guestinfo.userdata" | "CustomData" | "UserData") => {
                &mut environment.user_data
            }
            Some("hostname" | "HostName") => &mut environment.hostname,
            Some("instance-id") => &mut environment.instance,
            Some("network-config") => &mut environment.network,
            _ => continue,
        };
        let value = value.map(str::trim).filter(|value| !value.is_empty());
        if let (None, Some(value)) = (&place, value) {
            *place = Some(value.to_owned());
        }
    }
    Ok(environment)
}

/// Reads XML of which nothing is to be expected but elements and attributes.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Document<'_>, String> {
    let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| error.to_string())
}

fn attribute<'a>(node: &Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.attributes().find(|attribute| attribute.name() == name).map(|found| found.value())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_of_an_environment() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1" oe:id="">
  <PlatformSection><Kind>VMware ESXi</Kind></PlatformSection>
  <PropertySection>
    <Property oe:key="hostname" oe:value="web"/>
    <Property oe:key="instance-id" oe:value="iid-7"/>
    <Property oe:key="password" oe:value="x"/>
    <Property oe:key="user-data" oe:value="YXBp"/>
    <Property oe:key="network-config" oe:value="e30="/>
  </PropertySection>
</Environment>"#;
        let expected = Environment {
            user_data: Some("YXBp".to_owned()),
            hostname: Some("web".to_owned()),
            instance: Some("iid-7".to_owned()),
            network: Some("e30=".to_owned()),
        };
        assert_eq!(read(text), Ok(expected));
    }

    #[test]
    fn the_provisioning_section_of_azure() {
        let text = r#"<?xml version="1.0" encoding="utf-8"?>
<ns0:Environment xmlns:ns0="http://schemas.dmtf.org/ovf/environment/1" xmlns:ns1="http://schemas.microsoft.com/windowsazure">
  <ns1:ProvisioningSection><ns1:Version>1.0</ns1:Version>
    <ns1:LinuxProvisioningConfigurationSet>
      <ns1:ConfigurationSetType>LinuxProvisioningConfiguration</ns1:ConfigurationSetType>
      <ns1:HostName>web</ns1:HostName><ns1:UserName>core</ns1:UserName>
      <ns1:CustomData>YXBp</ns1:CustomData>
    </ns1:LinuxProvisioningConfigurationSet>
  </ns1:ProvisioningSection>
</ns0:Environment>"#;
        let found = read(text).unwrap();
        assert_eq!(found.user_data.as_deref(), Some("YXBp"));
        assert_eq!(found.hostname.as_deref(), Some("web"));
    }

    #[test]
    fn what_is_none_is_said() {
        assert!(read("<?xml version='1.0'?><html/>").unwrap_err().contains("html"));
        assert!(read("<Environment>").is_err());
        let bomb = "<!DOCTYPE a [<!ENTITY a 'x'>]><Environment>&a;</Environment>";
        assert!(read(bomb).is_err());
    }
}
