// SPDX-License-Identifier: Apache-2.0

use super::{
    model::Hypervisor,
    rpc::{Rpc, RpcError},
    *,
};
use crate::probe::explain;
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use serde_json::json;
use std::io::Write as _;

const OWN: &str = "apiVersion: stele/v1\nkind: Hostname\nhostname: web\n";

fn gzip(text: &str) -> String {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    Base64::encode_string(&encoder.finish().unwrap())
}

/// Takes a step with a model.
fn with(hypervisor: &mut Hypervisor) -> impl FnMut(Step) -> Step {
    |Step { kind, channel, value, cookies }| {
        let (kind, channel, value, cookies) = hypervisor.step((kind, channel, value, cookies));
        Step { kind, channel, value, cookies }
    }
}

fn heard(values: &[(&str, &str)]) -> Result<Said, String> {
    let mut hypervisor = Hypervisor::with(values);
    read(&mut Rpc::new(with(&mut hypervisor), LONGEST)).map_err(|error| explain(&error))
}

#[test]
fn user_data_in_every_wrapping() {
    let encoded = Base64::encode_string(OWN.as_bytes());
    let broken = format!("{}\r\n{}\n", &encoded[..20], &encoded[20..]);
    for (value, encoding) in [
        (OWN, None),
        (OWN, Some("")),
        (&encoded, Some("base64")),
        (&broken, Some(" b64 ")),
        (&gzip(OWN), Some("gzip+base64")),
        (&gzip(OWN), Some("gz+b64")),
    ] {
        let mut values = vec![("userdata", value)];
        values.extend(encoding.map(|encoding| ("userdata.encoding", encoding)));
        let said = heard(&values).unwrap();
        assert_eq!(said.user_data.as_deref(), Some(OWN.as_bytes()), "{encoding:?}");
    }
    for (value, encoding, why) in [
        (OWN, "base64", "is not"),
        (&encoded, "gzip+base64", "can't be unpacked"),
        (OWN, "rot13", "no encoding that is known"),
        (&gzip(&" ".repeat(MAX_BYTES + 1)), "gz+b64", "more than"),
    ] {
        let error = heard(&[("userdata", value), ("userdata.encoding", encoding)]).unwrap_err();
        assert!(error.contains(why) && error.contains("guestinfo.userdata"), "{error}");
    }
}

#[test]
fn nothing_and_what_was_forgotten_is_no_user_data() {
    for values in [vec![], vec![("userdata", "")], vec![("userdata", "---\n")]] {
        assert_eq!(heard(&values), Ok(Said::default()));
    }
}

#[test]
fn metadata_names_the_machine_and_describes_the_network() {
    let network = "version: 2\nethernets:\n  a:\n    match: {macaddress: '52:54:00:12:34:56'}\n    addresses: [192.0.2.7/24]\n";
    let about = "instance-id: iid-7\nlocal-hostname: web\n";
    let encoded = Base64::encode_string(network.as_bytes());
    let indented = network.replace('\n', "\n  ");
    let plain = format!("{about}network:\n  {indented}");
    for metadata in [
        plain.clone(),
        format!("{about}network: {encoded}\nnetwork.encoding: base64\n"),
        format!("{about}network: {}\nnetwork.encoding: gzip+base64\n", gzip(network)),
        json!({"instance-id": "iid-7", "local-hostname": "web", "network": network}).to_string(),
    ] {
        let said =
            heard(&[("metadata", &gzip(&metadata)), ("metadata.encoding", "gzip+base64")]).unwrap();
        assert_eq!(said.attributes["instanceId"], "iid-7", "{metadata}");
        assert_eq!(said.attributes["hostname"], "web");
        let documents = Value::from(said.network).to_string();
        assert!(documents.contains("192.0.2.7/24"), "{metadata}: {documents}");
    }
    // It costs nothing else.
    let odd = format!("{about}network: e30=\nnetwork.encoding: rot13\n");
    for (metadata, encoding, attributes) in [("a: [", "", 0), (&odd, "", 2), (&odd, "rot13", 0)] {
        let values = [("metadata", metadata), ("metadata.encoding", encoding), ("userdata", OWN)];
        let said = heard(&values).unwrap();
        assert_eq!(said.user_data.as_deref(), Some(OWN.as_bytes()), "{metadata}");
        assert_eq!((said.attributes.len(), said.network.len()), (attributes, 0), "{metadata}");
    }
}

#[test]
fn an_environment_stands_in() {
    let environment = "<Environment><Property key='user-data' value='YXBp'/><Property key='instance-id' value='iid-1'/>\
        <Property key='hostname' value='db'/></Environment>";
    let said = heard(&[("ovfEnv", environment)]).unwrap();
    assert_eq!(said.user_data.as_deref(), Some(environment.as_bytes()));
    assert_eq!(said.attributes["hostname"], "db");
    let said =
        heard(&[("ovfEnv", environment), ("userdata", OWN), ("metadata", "instance-id: iid-2\n")]);
    let said = said.unwrap();
    assert_eq!(said.user_data.as_deref(), Some(OWN.as_bytes()));
    assert_eq!((&*said.attributes["hostname"], &*said.attributes["instanceId"]), ("db", "iid-2"));
    assert_eq!(heard(&[("ovfEnv", "<Environment/>")]), Ok(Said::default()));
}

#[test]
fn only_user_data_is_forgotten() {
    let environment = "<Environment><Property key='user-data' value='YXBp'/></Environment>";
    for (before, after) in [
        (
            vec![("metadata", "a"), ("userdata", "b"), ("userdata.encoding", "base64")],
            vec![("metadata", "a"), ("userdata", "---"), ("userdata.encoding", " ")],
        ),
        (vec![("ovfEnv", environment)], vec![("ovfEnv", "---")]),
        (vec![("ovfEnv", "<Environment/>")], vec![("ovfEnv", "<Environment/>")]),
    ] {
        let mut hypervisor = Hypervisor::with(&before);
        forget(&mut Rpc::new(with(&mut hypervisor), LONGEST)).unwrap();
        assert_eq!(hypervisor.values, Hypervisor::with(&after).values);
        let again = read(&mut Rpc::new(with(&mut hypervisor), LONGEST)).unwrap();
        assert_eq!(again.user_data, None);
    }
}

#[test]
fn a_large_value_comes_whole() {
    let large = "0123456789\n".repeat(90_000);
    let mut hypervisor = Hypervisor::with(&[("userdata", &large)]);
    let said = read(&mut Rpc::new(with(&mut hypervisor), LONGEST)).unwrap();
    assert_eq!(said.user_data.map(|bytes| bytes.len()), Some(large.len()));
    let error = Rpc::new(with(&mut hypervisor), 100).ask("info-get guestinfo.userdata");
    assert_eq!(error, Err(RpcError::TooLong { length: 990_002, longest: 100 }));
}

#[test]
fn no_is_told_in_the_hypervisor_s_words() {
    let mut hypervisor = Hypervisor::default();
    let mut rpc = Rpc::new(with(&mut hypervisor), LONGEST);
    assert_eq!(rpc.ask("log a"), Err(RpcError::Refused("Unknown command".to_owned())));
    assert_eq!(rpc.ask("info-set guestinfo.a b"), Ok(Vec::new()));
    assert_eq!(rpc.ask("info-get guestinfo.a"), Ok(b"b".to_vec()));
    drop(rpc);
    assert_eq!(hypervisor.opened, 3);
}

/// Who is no such hypervisor leaves the registers as they are.
#[test]
fn where_nobody_listens_nothing_is_opened() {
    let error = Rpc::new(|step| Step { kind: 0, ..step }, LONGEST).ask("info-get guestinfo.a");
    assert_eq!(error, Err(RpcError::Step("opening a channel")));
}

#[test]
fn a_message_that_a_checkpoint_made_void_is_begun_anew() {
    for (moves, expected) in [(2, Ok(b"v".to_vec())), (3, Err(RpcError::Checkpoint))] {
        for at in 0..=5 {
            let mut hypervisor = Hypervisor::with(&[("a", "v")]);
            let (mut model, mut moved) = (with(&mut hypervisor), 0);
            let step = |step: Step| {
                if step.kind == at && moved < moves {
                    moved += 1;
                    return Step { kind: 16, ..step };
                }
                model(step)
            };
            let answer = Rpc::new(step, LONGEST).ask("info-get guestinfo.a");
            assert_eq!(answer, expected, "at step {at}");
        }
    }
}

proptest! {
    /// Whatever a hypervisor answers, the agent ends, after no more steps than there are words.
    #[test]
    fn hostile_hypervisors_are_left(
        answers in proptest::collection::vec((any::<u16>(), any::<u16>(), any::<u32>(), any::<[u32; 2]>()), 1..64),
        willing: bool,
        longest in 0_u32..4096,
    ) {
        let request = "info-get guestinfo.userdata";
        let mut steps = 0_usize;
        let mut answers = answers.iter().cycle();
        let step = |_: Step| {
            steps += 1;
            let (kind, channel, value, cookies) = *answers.next().unwrap();
            Step { kind: if willing { kind | 3 } else { kind }, channel, value, cookies }
        };
        if let Ok(answer) = Rpc::new(step, longest).ask(request) {
            prop_assert!(answer.len() <= longest as usize);
        }
        prop_assert!(steps <= 3 * (5 + request.len().div_ceil(4) + longest.div_ceil(4) as usize));
    }

    /// The same of all that is asked.
    #[test]
    fn whatever_values_there_are_nothing_panics(
        user_data: String, encoding in "|base64|gz\\+b64|x", metadata: String, environment: String,
    ) {
        let _heard = heard(&[
            ("userdata", &user_data), ("userdata.encoding", &encoding), ("metadata", &metadata), ("ovfEnv", &environment),
        ]);
    }
}
