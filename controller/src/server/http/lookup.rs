//! Names of a request, and what they are in the snapshot.

use super::respond::Failure;
use tandem_api::ApiError;
use tandem_core::Snapshot;
use tandem_model::text::escaped;
use tandem_model::{ClassId, OnPlace, ServerId, SwitchId};

/// The server of that name.
///
/// # Errors
/// When there is none.
pub(super) fn server(snapshot: &Snapshot, name: &str) -> Result<ServerId, Failure> {
    let found = snapshot.servers.iter().find(|s| s.name == name).map(|s| s.id);
    found.ok_or_else(|| {
        let error = ApiError::not_found(format!("there is no server {}", escaped(name)));
        error.advise("/api/v1/servers lists them").into()
    })
}

/// The server of that name, if one is named.
///
/// # Errors
/// When there is none.
pub(super) fn server_if_named(snapshot: &Snapshot, name: Option<&str>) -> Result<Option<ServerId>, Failure> {
    name.map(|name| server(snapshot, name)).transpose()
}

/// The server of that name, or the edge switch: where a VM is kept to.
///
/// # Errors
/// When there is neither.
pub(super) fn place(snapshot: &Snapshot, name: &str) -> Result<OnPlace, Failure> {
    if let Some(server) = snapshot.servers.iter().find(|s| s.name == name) {
        return Ok(OnPlace::Server(server.id));
    }
    let switch = snapshot.switch_named(name).ok_or_else(|| {
        let error = ApiError::not_found(format!("there is no server or edge switch {}", escaped(name)));
        Failure::from(error.advise("/api/v1/servers lists servers, /api/v1/switches switches"))
    })?;
    let topology = &snapshot.site.topology;
    let has_servers =
        (0..topology.servers.len() as u32).any(|n| topology.edge_of(ServerId(n), 0) == Some(switch));
    if !has_servers {
        let error = ApiError::invalid(format!("no server's first uplink is at {}", escaped(name)));
        return Err(error.advise("name an edge switch, or a server").into());
    }
    Ok(OnPlace::Edge(switch))
}

/// The switch of that name or datapath id.
///
/// # Errors
/// When there is none.
pub(super) fn switch(snapshot: &Snapshot, name: &str) -> Result<SwitchId, Failure> {
    snapshot.switch_named(name).ok_or_else(|| no_switch(name))
}

/// There is no switch of that name.
pub(super) fn no_switch(name: &str) -> Failure {
    let error = ApiError::not_found(format!("there is no switch {}", escaped(name)));
    error.advise("/api/v1/switches lists them").into()
}

/// The class of that name.
///
/// # Errors
/// When the site has none of that name.
pub(super) fn class(snapshot: &Snapshot, name: &str) -> Result<ClassId, Failure> {
    let classes = &snapshot.site.classes;
    let at = (0u16..).zip(classes).find(|(_, c)| c.name == name);
    at.map(|(n, _)| ClassId(n)).ok_or_else(|| {
        let names: Vec<&str> = classes.iter().map(|c| c.name.as_str()).collect();
        let there = if names.is_empty() { "none ([[class]])".to_owned() } else { names.join(", ") };
        let error = ApiError::not_found(format!("there is no class \"{}\"", escaped(name)));
        error.advise(format!("the site file has {there}")).into()
    })
}

/// The class of that name, if one is named.
///
/// # Errors
/// When the site has none of that name.
pub(super) fn class_if_named(snapshot: &Snapshot, name: Option<&str>) -> Result<Option<ClassId>, Failure> {
    name.map(|name| class(snapshot, name)).transpose()
}
