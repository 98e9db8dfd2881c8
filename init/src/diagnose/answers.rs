// SPDX-License-Identifier: Apache-2.0
//! What agents may say: text without anything that a terminal or a log would take for more than text.

use stele_proto::v1;

/// The longest text that is passed on, in bytes; arguments of a process are the longest.
const LONGEST: usize = 4096;

/// An answer, by its texts.
pub(crate) trait Texts {
    /// Does something with each of them.
    fn each(&mut self, work: &mut dyn FnMut(&mut String));
}

/// Takes out what does not belong into an answer.
pub(super) fn clean(answer: &mut impl Texts) {
    answer.each(&mut |text| {
        if text.len() > LONGEST || text.contains(char::is_control) {
            *text = plain(text);
        }
    });
}

pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(LONGEST).collect()
}

/// The texts of each type: those of its own, and the lists of other types with texts in it.
macro_rules! texts {
    ($($name:ident { $($text:ident),* $(; $($list:ident),*)? })*) => {
        $(impl Texts for v1::$name {
            fn each(&mut self, work: &mut dyn FnMut(&mut String)) {
                let v1::$name { $($text,)* $($($list,)*)? .. } = self;
                $(work($text);)*
                $($($list.iter_mut().for_each(|inner| inner.each(work));)*)?
            }
        })*
    };
}

impl Texts for String {
    fn each(&mut self, work: &mut dyn FnMut(&mut String)) {
        work(self);
    }
}

texts! {
    PingReply { host, address, reason }
    TracerouteHop { ; tries }
    TracerouteTry { address, reason }
    ResolveResponse { code, server; answers, authorities }
    DnsRecord { name, r#type, data }
    ProbeResponse { reason, address; tls, http }
    TlsFacts { version, cipher, alpn }
    HttpFacts { version, content_type, location, server }
    CaptureChunk { ; end }
    CaptureEnd { reason }
    ProcessesResponse { ; processes }
    Process { name, state, cgroup; arguments }
    SocketsResponse { ; sockets }
    Socket { protocol, local, remote, state, service }
    MountsResponse { ; mounts }
    Mount { source, target, r#type; options }
    CgroupsResponse { ; groups }
    ControlGroup { path; pressure }
    PressureResponse { ; stalls }
    Stall { resource, threads }
    DisksResponse { ; disks }
    Disk { name, model, serial; partitions }
    Partition { name }
}

impl Texts for v1::MemoryResponse {
    fn each(&mut self, _work: &mut dyn FnMut(&mut String)) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cleaned_wherever_they_are() {
        let process = v1::Process {
            name: "a\u{1b}[31m".into(),
            arguments: vec!["b\n".into(), "c".repeat(5000)],
            ..v1::Process::default()
        };
        let mut answer = v1::ProcessesResponse { processes: vec![process], left_off: 0 };
        clean(&mut answer);
        let process = &answer.processes[0];
        assert_eq!((process.name.as_str(), process.arguments[0].as_str()), ("a[31m", "b"));
        assert_eq!(process.arguments[1].len(), LONGEST);
        let facts = v1::HttpFacts { server: "x\r".into(), ..v1::HttpFacts::default() };
        let mut answer = v1::ProbeResponse { http: Some(facts), ..v1::ProbeResponse::default() };
        clean(&mut answer);
        assert_eq!(answer.http.unwrap().server, "x");
    }
}
