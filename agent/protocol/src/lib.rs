//! Contracts between the controller, its agents and a world's hypervisor service, as generated from
//! `proto/`.

pub mod datapaths;
pub mod lab_sockets;
pub mod local_peers;
pub mod token;

/// The name in the controller's certificate, by which agents know it wherever it runs.
pub const CONTROLLER_NAME: &str = "controller.tandem.internal";

/// Controller and agents; see `proto/agent.proto`.
#[allow(clippy::all, clippy::pedantic, reason = "generated")]
pub mod agent {
    tonic::include_proto!("tandem.agent.v1");
}

/// Controller and a world's hypervisor service; see `proto/hypervisor.proto`.
#[allow(clippy::all, clippy::pedantic, reason = "generated")]
pub mod hypervisor {
    tonic::include_proto!("tandem.hypervisor.v1");
}
