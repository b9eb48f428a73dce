//! Restricts a guest's packets: its interface lets out only packets from its own Ethernet address
//! and IPv4 address (XenAPI, class VIF: `locking_mode` `locked`, `ipv4_allowed`, `ipv6_allowed`).
//! In that mode XAPI's rules on the host still allow DHCP requests.

use super::errors::Deed;
use super::pool::Pool;
use super::records::{Vif, Vm};
use super::rpc::Value;
use crate::VmmError;
use serde_json::json;
use std::net::Ipv4Addr;

/// The mode in which an interface lets out only packets of the allowed addresses.
const LOCKED: &str = "locked";

/// The fields of a new interface's record.
pub(super) fn fields(address: Ipv4Addr) -> [(&'static str, Value); 3] {
    [
        ("locking_mode", json!(LOCKED)),
        ("ipv4_allowed", json!([address.to_string()])),
        ("ipv6_allowed", json!([])),
    ]
}

/// Locks the interface of an existing VM (found again, or moved here) to its addresses.
///
/// When the pool does not answer, or refuses.
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
        // The addresses come first, so that it is never locked to none.
        call("VIF.set_ipv4_allowed", vec![json!(vif), json!(allowed)]).await?;
        call("VIF.set_ipv6_allowed", vec![json!(vif), json!([])]).await?;
        call("VIF.set_locking_mode", vec![json!(vif), json!(LOCKED)]).await?;
    }
    Ok(())
}
