// SPDX-License-Identifier: Apache-2.0
//! Compiles the .proto files: messages always, client stubs with the feature `client`, and the descriptor set.

use prost::Message as _;
use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "stele/v1/machine.proto",
        "stele/v1/config.proto",
        "stele/v1/upgrade.proto",
        "stele/v1/event.proto",
        "stele/v1/log.proto",
        "stele/v1/resource.proto",
        "stele/v1/diagnose.proto",
        "stele/internal/v1/init.proto",
        "stele/internal/v1/agent.proto",
    ];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(false)
        .bytes(".stele.internal.v1.Frame")
        .bytes(".stele.v1.PushRequest")
        .compile_fds(descriptors)?;
    Ok(())
}
