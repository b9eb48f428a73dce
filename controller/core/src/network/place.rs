//! A placement: the server, the uplink and the gateway of a VM, with its path there and back.

use tandem_model::paths::Path;
use tandem_model::{GatewayId, ServerId, VmRecord};

/// Where a VM goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The server.
    pub server: ServerId,
    /// By which of its uplinks.
    pub uplink: u32,
    /// Through which gateway.
    pub gateway: GatewayId,
    /// From the server to the gateway.
    pub path_up: Path,
    /// From the gateway to the server.
    pub path_down: Path,
}

impl Placement {
    /// The same place as a migration's record has it.
    pub(crate) fn at(place: &tandem_model::Place) -> Placement {
        let tandem_model::Place { server, uplink, gateway, path_up, path_down } = place.clone();
        Placement { server, uplink, gateway, path_up, path_down }
    }

    pub(crate) fn into_place(self) -> tandem_model::Place {
        let Placement { server, uplink, gateway, path_up, path_down } = self;
        tandem_model::Place { server, uplink, gateway, path_up, path_down }
    }

    /// Where a VM is.
    pub(crate) fn of(record: &VmRecord) -> Placement {
        Placement {
            server: record.server,
            uplink: record.uplink,
            gateway: record.gateway,
            path_up: record.path_up.clone(),
            path_down: record.path_down.clone(),
        }
    }
}
