//! Changes a running VM: its network, its CPUs and its memory.

use super::pool::Pool;
use super::records::Vif;
use crate::VmmError;
use serde_json::json;
use tandem_model::{Bytes, PortNo, Resources, ServerId, VmId};

/// Connects a VM's interface to the network behind a port of its server, unless it is connected.
///
/// When that is not possible.
pub(super) async fn attach(pool: &Pool, server: ServerId, vm: VmId, port: PortNo) -> Result<(), VmmError> {
    let what = format!("connecting {vm} to port {port}");
    let deed = pool.deed(server, Some(vm), what.clone());
    let ours = pool.must_find(server, vm, &what).await?;
    let network = pool.network(server, port).await?;
    for vif in &ours.record.vifs {
        let record: Vif =
            pool.session.ask("VIF.get_record", vec![json!(vif)]).await.map_err(|e| deed.failed(e))?;
        if record.network != network {
            pool.session
                .call("VIF.move", vec![json!(vif), json!(network)])
                .await
                .map_err(|e| deed.failed(e))?;
        }
    }
    Ok(())
}

/// Gives other CPUs and memory to a running VM, within the limits of its template
/// (`memory_static_max`, `VCPUs_max`).
///
/// When that is not possible; its resources are unchanged then.
pub(super) async fn resize(
    pool: &Pool,
    server: ServerId,
    vm: VmId,
    wanted: Resources,
) -> Result<(), VmmError> {
    let what = format!("resizing {vm}");
    let deed = pool.deed(server, Some(vm), what.clone());
    let ours = pool.must_find(server, vm, &what).await?;
    let refused = |why: String| VmmError::Refused { what: format!("{}: {what}", deed.host), why };
    let ram = i64::try_from(wanted.ram.0).unwrap_or(i64::MAX);
    let cpus = i64::from(wanted.cpu.max(1));
    let (most_ram, most_cpus) = (ours.record.memory_static_max, ours.record.vcpus_max);
    if ram > most_ram {
        let most = Bytes(u64::try_from(most_ram).unwrap_or(0));
        return Err(refused(format!(
            "while it runs it can have {most} of memory at most; give its image a higher `max_ram`, or its template a higher static maximum"
        )));
    }
    if cpus > most_cpus {
        return Err(refused(format!(
            "while it runs it can have {most_cpus} CPUs at most; give its image a higher `max_cpu`, or its template a higher VCPUs_max"
        )));
    }
    let it = json!(ours.reference);
    let range = |n: i64| vec![it.clone(), json!(n), json!(n)];
    let before = ours.record.memory_dynamic_max;
    if ram != before {
        let grown = pool.session.call("VM.set_memory_dynamic_range", range(ram)).await;
        grown.map_err(|e| deed.failed(e))?;
    }
    let set = pool.session.call("VM.set_VCPUs_number_live", vec![it.clone(), json!(cpus)]).await;
    if let Err(error) = set {
        if ram != before
            && let Err(back) = pool.session.call("VM.set_memory_dynamic_range", range(before)).await
        {
            tracing::warn!("{}: {what}: memory could not be given back: {back}", deed.host);
        }
        return Err(deed.failed(error));
    }
    Ok(())
}
