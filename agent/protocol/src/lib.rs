//! The contracts between the controller, its agents and a world's hypervisor service, generated
//! from `proto/`.

pub mod datapaths;
pub mod lab_sockets;
pub mod local_peers;
pub mod token;

/// The name in the controller's certificate; agents verify it, whatever the controller's address.
pub const CONTROLLER_NAME: &str = "controller.tandem.internal";

/// The contract between controller and agents; see `proto/agent.proto`.
#[allow(clippy::all, clippy::pedantic, reason = "generated")]
pub mod agent {
    tonic::include_proto!("tandem.agent.v1");
}

/// The contract between controller and a world's hypervisor service; see `proto/hypervisor.proto`.
#[allow(clippy::all, clippy::pedantic, reason = "generated")]
pub mod hypervisor {
    tonic::include_proto!("tandem.hypervisor.v1");
}
