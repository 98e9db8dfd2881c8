// SPDX-License-Identifier: Apache-2.0
//! What the drives of platforms say of the machine beside its user-data: what the platform calls it, its name, where it is.

use crate::{attribute, context, ovf};
use serde_json::Value;
use std::collections::BTreeMap;
use stele_platform::Attribute;

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The `meta-data` of NoCloud: YAML, or JSON.
    NoCloud,
    /// The `meta_data.json` of OpenStack.
    OpenStack,
    /// The `context.sh` of OpenNebula.
    OpenNebula,
    /// An OVF environment.
    Ovf,
}

/// Why nothing is known of the machine.
#[derive(Debug, thiserror::Error)]
pub enum AboutError {
    /// No YAML.
    #[error("the meta-data can't be read as YAML: {0}")]
    Yaml(String),
    /// No JSON.
    #[error("the meta-data can't be read as JSON: {0}")]
    Json(String),
    /// No OVF environment.
    #[error("this is no OVF environment: {0}")]
    Ovf(String),
}

impl Form {
    /// The form of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Form> {
        match name {
            "nocloud" => Some(Form::NoCloud),
            "openstack" => Some(Form::OpenStack),
            "opennebula" => Some(Form::OpenNebula),
            "ovf" => Some(Form::Ovf),
            _ => None,
        }
    }

    /// What a file in this form says.
    ///
    /// # Errors
    /// When it is in none.
    pub fn attributes(self, bytes: &[u8]) -> Result<BTreeMap<&'static str, String>, AboutError> {
        use Attribute::{Hostname, InstanceId, Tags, Zone};
        let text = String::from_utf8_lossy(bytes);
        let wanted: &[(Attribute, &[&str])] = match self {
            Form::NoCloud => {
                &[(InstanceId, &["instance-id"]), (Hostname, &["local-hostname", "hostname"])]
            }
            Form::OpenStack => &[
                (InstanceId, &["uuid"]),
                (Hostname, &["hostname", "name"]),
                (Zone, &["availability_zone"]),
                (Tags, &["meta"]),
            ],
            Form::OpenNebula => {
                &[(InstanceId, &["VMID", "VM_ID"]), (Hostname, &["SET_HOSTNAME", "HOSTNAME"])]
            }
            Form::Ovf => &[(InstanceId, &["instance"]), (Hostname, &["hostname"])],
        };
        let said = self.read(&text)?;
        let find = |attribute: Attribute, keys: &[&str]| {
            let values = keys.iter().filter_map(|key| said.get(*key));
            // Only of tags there are many.
            let values = values.filter(|it| attribute == Tags || it.is_string() || it.is_number());
            let mut texts = values.map(attribute::texts);
            attribute::join(texts.find(|texts| !texts.is_empty())?)
        };
        let found = wanted
            .iter()
            .filter_map(|(attribute, keys)| Some((attribute.key(), find(*attribute, keys)?)));
        Ok(found.collect())
    }

    fn read(self, text: &str) -> Result<Value, AboutError> {
        match self {
            Form::NoCloud if text.trim().is_empty() => Ok(Value::Null),
            Form::NoCloud => {
                serde_yaml::from_str(text).map_err(|error| AboutError::Yaml(error.to_string()))
            }
            Form::OpenStack => {
                serde_json::from_str(text).map_err(|error| AboutError::Json(error.to_string()))
            }
            Form::OpenNebula => {
                let variables = context::variables(text).into_iter();
                Ok(variables.map(|(key, value)| (key, Value::String(value))).collect())
            }
            Form::Ovf => {
                let environment = ovf::read(text).map_err(AboutError::Ovf)?;
                Ok(serde_json::json!({
                    "instance": environment.instance,
                    "hostname": environment.hostname,
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(form: &str, text: &str) -> Vec<(&'static str, String)> {
        Form::named(form).unwrap().attributes(text.as_bytes()).unwrap().into_iter().collect()
    }

    #[test]
    fn each_form_says_which_instance_this_is() {
        let expected = [("hostname", "web".to_owned()), ("instanceId", "iid-1".to_owned())];
        assert_eq!(said("nocloud", "instance-id: iid-1\nlocal-hostname: web\n"), expected);
        assert_eq!(said("nocloud", r#"{"instance-id":"iid-1","local-hostname":"web"}"#), expected);
        assert_eq!(said("openstack", r#"{"uuid":"iid-1","hostname":"web","meta":{}}"#), expected);
        let meta = r#"{"meta":{"role":"db"},"availability_zone":"nova"}"#;
        let tagged = [("tags", "role=db".to_owned()), ("zone", "nova".to_owned())];
        assert_eq!(said("openstack", meta), tagged);
        assert_eq!(said("opennebula", "VMID='iid-1'\nSET_HOSTNAME='web'\n"), expected);
        let ovf = "<Environment><Property key='hostname' value='web'/><Property key='instance-id' value='iid-1'/></Environment>";
        assert_eq!(said("ovf", ovf), expected);
    }

    #[test]
    fn a_number_is_a_name_and_nothing_is_none() {
        assert_eq!(said("nocloud", "instance-id: 42\n"), [("instanceId", "42".to_owned())]);
        for nothing in ["", "a", "instance-id: [1]\n", "instance-id: \" \\n\"\n"] {
            assert_eq!(said("nocloud", nothing), [], "{nothing:?}");
        }
        assert!(Form::NoCloud.attributes(b"a: [").is_err());
        assert!(Form::OpenStack.attributes(b"{").is_err());
    }
}
