//! Names of a request, and what they are in the snapshot.

use super::respond::Failure;
use std::net::Ipv4Addr;
use tandem_api::views::VmView;
use tandem_api::vm_ref::Meant;
use tandem_api::{ApiError, VmRef};
use tandem_core::Snapshot;
use tandem_model::text::{self, escaped};
use tandem_model::{ClassId, OnPlace, ServerId, SwitchId, VmId};

/// So many names are compared with one that nobody has.
const MOST_COMPARED: usize = 10_000;

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

/// The VM of that number or name. Whether there is one of that number is for the core to say, which
/// may know more than the snapshot.
///
/// # Errors
/// When no VM has that name, or several have (of a store from before names were unique).
pub(super) fn vm(snapshot: &Snapshot, meant: Meant<'_>) -> Result<VmId, Failure> {
    let name = match meant {
        Meant::Number(number) => return Ok(VmId(number)),
        Meant::Name(name) => name,
    };
    let named = |v: &&VmView| v.record.request.name.as_deref() == Some(name);
    let found: Vec<VmId> = snapshot.vms.iter().filter(named).map(|v| v.record.id).collect();
    match found[..] {
        [only] => Ok(only),
        [] => {
            let all = snapshot.vms.iter().filter_map(|v| v.record.request.name.as_deref());
            let all: Vec<&str> = all.take(MOST_COMPARED).collect();
            let advice = match text::nearest(name, &all) {
                Some(nearest) => format!("did you mean \"{}\"?", escaped(nearest)),
                None => "/api/v1/vms lists them with their names".to_owned(),
            };
            Err(ApiError::not_found(format!("there is no VM \"{}\"", escaped(name))).advise(advice).into())
        }
        _ => {
            let ids: Vec<String> = found.iter().take(5).map(ToString::to_string).collect();
            let error = format!("\"{}\" is the name of {} VMs, not of one", escaped(name), found.len());
            Err(ApiError::not_found(error)
                .advise(format!("say which by its number: {}", ids.join(", ")))
                .into())
        }
    }
}

/// The address of a member of a group, which is named by that, or as any VM.
///
/// # Errors
/// As [`vm`], and when there is no VM of that number.
pub(super) fn member(snapshot: &Snapshot, member: &VmRef) -> Result<Ipv4Addr, Failure> {
    if let VmRef::Text(text) = member
        && let Ok(address) = text.parse()
    {
        return Ok(address);
    }
    let id = vm(snapshot, member.meant())?;
    let found = snapshot.vms.iter().find(|v| v.record.id == id).map(|v| v.record.address);
    found.ok_or_else(|| ApiError::not_found(format!("there is no {id}")).into())
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
