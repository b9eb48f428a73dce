//! What a guest may send: its interface lets out packets from its own Ethernet address and its own
//! IPv4 address only (XenAPI, class VIF: `locking_mode` `locked`, `ipv4_allowed`, `ipv6_allowed`).
//! XAPI's rules on the host let a DHCP client ask in that mode.

use super::errors::Deed;
use super::pool::Pool;
use super::records::{Vif, Vm};
use super::rpc::Value;
use crate::VmmError;
use serde_json::json;
use std::net::Ipv4Addr;

/// The mode in which an interface lets out what is allowed by name.
const LOCKED: &str = "locked";

/// The fields of a new interface's record.
pub(super) fn fields(address: Ipv4Addr) -> [(&'static str, Value); 3] {
    [
        ("locking_mode", json!(LOCKED)),
        ("ipv4_allowed", json!([address.to_string()])),
        ("ipv6_allowed", json!([])),
    ]
}

/// Sees to it that a VM that is there already (found again, or moved here) is held to its address
/// too.
///
/// # Errors
/// When the pool cannot be asked, or refuses.
pub(super) async fn ensure(
    pool: &Pool,
    deed: &Deed<'_>,
    record: &Vm,
    address: Ipv4Addr,
) -> Result<(), VmmError> {
    let call = |method, params| async move {
        pool.session.call(method, params).await.map(drop).map_err(|e| deed.failed(e))
    };
    let allowed = [address.to_string()];
    for vif in &record.vifs {
        let found: Vif =
            pool.session.ask("VIF.get_record", vec![json!(vif)]).await.map_err(|e| deed.failed(e))?;
        if found.locking_mode == LOCKED && found.ipv4_allowed == allowed && found.ipv6_allowed.is_empty() {
            continue;
        }
        // The addresses first: at no moment is it locked to none.
        call("VIF.set_ipv4_allowed", vec![json!(vif), json!(allowed)]).await?;
        call("VIF.set_ipv6_allowed", vec![json!(vif), json!([])]).await?;
        call("VIF.set_locking_mode", vec![json!(vif), json!(LOCKED)]).await?;
    }
    Ok(())
}
