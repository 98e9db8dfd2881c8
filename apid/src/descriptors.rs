// SPDX-License-Identifier: Apache-2.0
//! What the .proto files say: which methods stream, and what reflection tells clients.
//!
//! Reflection shows the public API alone: what apid and PID 1 say to each other is left out.

use http::{Request, Response};
use hyper::body::Incoming;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use std::{convert::Infallible, sync::OnceLock};
use stele_proto::method::Method;
use tower::util::BoxCloneSyncService;

/// A service of gRPC that apid answers itself.
pub type LocalService =
    BoxCloneSyncService<Request<Incoming>, Response<tonic::body::Body>, Infallible>;

/// What the .proto files say.
#[derive(Debug)]
pub struct Descriptors {
    streaming: Vec<Method>,
    // Made for the first who asks: most nodes are never asked, and it takes memory.
    reflection: OnceLock<Option<LocalService>>,
}

impl Descriptors {
    /// Reads the compiled descriptors.
    pub fn parse() -> Result<Self, prost::DecodeError> {
        let files = FileDescriptorSet::decode(stele_proto::DESCRIPTORS)?;
        let mut streaming = Vec::new();
        for file in &files.file {
            for service in &file.service {
                let methods = service.method.iter().filter(|method| method.server_streaming());
                streaming.extend(methods.filter_map(|method| {
                    Method::parse(&format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ))
                }));
            }
        }
        Ok(Self { streaming, reflection: OnceLock::new() })
    }

    /// True if PID 1 may answer this method with more than one message.
    #[must_use]
    pub fn is_streaming(&self, method: Method) -> bool {
        self.streaming.contains(&method)
    }

    /// The reflection service.
    #[must_use]
    pub fn reflection(&self) -> Option<LocalService> {
        self.reflection.get_or_init(reflect).clone()
    }
}

fn reflect() -> Option<LocalService> {
    let mut files = FileDescriptorSet::decode(stele_proto::DESCRIPTORS).ok()?;
    files.file.retain(|file| !file.package().starts_with("stele.internal"));
    let built = tonic_reflection::server::Builder::configure()
        .register_file_descriptor_set(files)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    match built {
        Ok(service) => Some(BoxCloneSyncService::new(service)),
        Err(error) => {
            tracing::error!(%error, "The API cannot be described to clients");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streaming_is_read_from_the_descriptors() {
        let descriptors = Descriptors::parse().unwrap();
        for (method, streams) in [
            (Method::MachineVersion, false),
            (Method::LogStream, true),
            (Method::ResourceWatch, true),
            (Method::ConfigApply, false),
        ] {
            assert_eq!(descriptors.is_streaming(method), streams, "{method:?}");
        }
    }

    #[test]
    fn reflection_is_made() {
        assert!(Descriptors::parse().unwrap().reflection().is_some());
    }
}
