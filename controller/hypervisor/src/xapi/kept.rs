//! Records stored in a pool for later controllers: the specification of each VM's last request, and
//! the owner of each host.
//!
//! Both are in `other_config`: a VM's [`SPEC`] (a [`VmSpec`] as JSON, which moves with the VM), a
//! host's [`OWNER`] and, when another controller has tried to claim it since the owner looked last,
//! [`RIVAL`]. The owner is recorded per host and not per pool: several sites may share a pool, each
//! with hosts of its own.

use super::errors::Deed;
use super::pool::{HostRef, Pool};
use super::records::{Texts, Vm};
use super::session::CallError;
use crate::VmmError;
use crate::owner::Owner;
use serde_json::json;
use tandem_model::{ServerId, Time, VmId, VmSpec};

/// The key of a VM's specification.
pub const SPEC: &str = "tandem-spec";
/// The key of a host's owner: [`Owner::line`].
pub const OWNER: &str = "tandem-owner";
/// The key of another controller that has tried.
pub const RIVAL: &str = "tandem-rival";

/// The specification stored with a VM; one that cannot be parsed counts as not stored.
pub(super) fn spec(record: &Vm) -> Option<Box<VmSpec>> {
    serde_json::from_str(record.other_config.get(SPEC)?).ok()
}

/// Refuses a VM that was created for another request, or whose request is unknown.
pub(super) fn check_made_for(
    deed: &Deed<'_>,
    vm: VmId,
    record: &Vm,
    placed_at: Time,
) -> Result<(), VmmError> {
    let host = deed.host.to_owned();
    match spec(record).map(|s| s.origin.placed_at) {
        Some(made_for) if made_for == placed_at => Ok(()),
        Some(_) => Err(VmmError::NotMeant { host, vm }),
        None => Err(VmmError::MadeForUnknown { host, vm }),
    }
}

/// Stores this specification with a VM.
pub(super) async fn keep(
    pool: &Pool,
    deed: &Deed<'_>,
    reference: &str,
    spec: &VmSpec,
) -> Result<(), VmmError> {
    let text = serde_json::to_string(spec).unwrap_or_default();
    put(pool, "VM", reference, SPEC, &text).await.map_err(|e| deed.failed(e))
}

/// See [`crate::Hypervisor::claim`].
pub(super) async fn claim(
    pool: &Pool,
    server: ServerId,
    owner: &Owner,
    take_over: bool,
) -> Result<Option<Owner>, VmmError> {
    let deed = pool.deed(server, None, "asking whom it serves");
    let host = pool.host(server).await?;
    let line = owner.line();
    if take_over {
        put(pool, "host", &host.reference, OWNER, &line).await.map_err(|e| deed.failed(e))?;
    }
    let mut kept = config(pool, &host).await.map_err(|e| deed.failed(e))?;
    if !kept.contains_key(OWNER) {
        let params = vec![json!(host.reference), json!(OWNER), json!(line)];
        match pool.session.call("host.add_to_other_config", params).await {
            // Another controller was faster.
            Err(error) if error.code() == "MAP_DUPLICATE_KEY" => {}
            other => drop(other.map_err(|e| deed.failed(e))?),
        }
        kept = config(pool, &host).await.map_err(|e| deed.failed(e))?;
    }
    let by = kept.get(OWNER).and_then(|line| Owner::read(line)).ok_or_else(|| VmmError::Refused {
        what: format!("{}: {}", deed.host, deed.what),
        why: format!(
            "`{OWNER}` in its other_config is not a valid owner; remove it, or take the host over: `tandem hypervisors take-over`"
        ),
    })?;
    if by.store != owner.store {
        put(pool, "host", &host.reference, RIVAL, &line).await.map_err(|e| deed.failed(e))?;
        return Err(VmmError::Owned { host: deed.host.to_owned(), by });
    }
    let Some(rival) = kept.get(RIVAL) else { return Ok(None) };
    let params = vec![json!(host.reference), json!(RIVAL)];
    pool.session.call("host.remove_from_other_config", params).await.map_err(|e| deed.failed(e))?;
    Ok(Owner::read(rival))
}

async fn config(pool: &Pool, host: &HostRef) -> Result<Texts, CallError> {
    pool.session.ask("host.get_other_config", vec![json!(host.reference)]).await
}

/// Replaces an entry of an `other_config`.
async fn put(pool: &Pool, class: &str, it: &str, key: &str, value: &str) -> Result<(), CallError> {
    let call = |name: &str, params| {
        let method = format!("{class}.{name}");
        async move { pool.session.call(&method, params).await.map(drop) }
    };
    call("remove_from_other_config", vec![json!(it), json!(key)]).await?;
    call("add_to_other_config", vec![json!(it), json!(key), json!(value)]).await
}
