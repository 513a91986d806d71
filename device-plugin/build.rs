//! Generates gRPC types with a Rust protobuf compiler, so that no image needs `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let protos = ["proto/deviceplugin.proto", "proto/podresources.proto"];
    for proto in protos {
        println!("cargo::rerun-if-changed={proto}");
    }
    // Both directions of both services: the tests are the other side.
    tonic_prost_build::configure().compile_fds(protox::compile(protos, ["proto"])?)?;
    Ok(())
}
