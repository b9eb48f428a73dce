//! Names of what the network has.

use crate::network::NetworkRef;
use tandem_model::Dpid;

impl NetworkRef<'_> {
    /// A switch's name in the site, or its datapath id where the site does not know it.
    pub(crate) fn switch_name(self, dpid: Dpid) -> String {
        match self.net.live.id(dpid).and_then(|id| self.cx.site.topology.switch(id)) {
            Some(switch) => switch.name.clone(),
            None => format!("switch {dpid}"),
        }
    }
}
