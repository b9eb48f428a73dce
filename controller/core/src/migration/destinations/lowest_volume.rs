//! Where the least is in use, as it is measured.

use crate::migration::policies::{DestinationSelector, View};
use crate::policy::view::ServerView;
use tandem_model::{ServerId, VmRecord};

/// The server with the lowest volume first (Sandpiper: Wood et al., NSDI 2007, section 5), the
/// volume being `1/(1-cpu) 1/(1-net) 1/(1-ram)` of what hypervisors measure, and of what is
/// reserved where they tell nothing. The allocation policy sees reservations, so the two differ
/// where VMs use less than they have reserved.
///
/// Keep-policy asks it too: with this and `[keep_policy] period`, VMs follow the load. It looks at
/// every server, O(n log n).
#[derive(Debug, Clone, Copy, Default)]
pub struct LowestVolume;

fn share(used: f64, has: f64) -> f64 {
    if has > 0.0 { used / has } else { 0.0 }
}

fn volume(server: &ServerView, view: &View<'_>) -> f64 {
    let has = view.site().topology.server(server.id).map_or(server.capacity, |s| s.capacity);
    let [cpu, ram, net] = match view.server_load(server.id) {
        Some(load) => [load.cpu, load.ram.0 as f64, load.rx.0.max(load.tx.0) as f64],
        None => [f64::from(server.used.cpu), server.used.ram.0 as f64, server.used.net.0 as f64],
    };
    let shares = [share(cpu, f64::from(has.cpu)), share(ram, has.ram.0 as f64), share(net, has.net.0 as f64)];
    shares.iter().map(|share| 1.0 / (1.0 - share).clamp(0.01, 1.0)).product()
}

impl DestinationSelector for LowestVolume {
    fn name(&self) -> &str {
        "lowest-volume"
    }

    fn order(&self, _vm: &VmRecord, view: &View<'_>) -> Option<Vec<ServerId>> {
        let mut order: Vec<(f64, ServerId)> =
            view.servers().iter().map(|server| (volume(server, view), server.id)).collect();
        order.sort_by(|(a, x), (b, y)| a.total_cmp(b).then(x.cmp(y)));
        Some(order.into_iter().map(|(_, id)| id).collect())
    }
}
