//! Notices about ports, held to one of a kind in a minute.

use crate::network::access_ports::PortKey;
use crate::network::port_limits::PortNotice;
use crate::network::{NetworkMut, NetworkRef};
use tandem_model::Level;
use tandem_model::rate_limit::Verdict;

impl NetworkMut<'_> {
    /// True when one more packet of that port is looked at.
    pub(crate) fn may_cost(&mut self, port: PortKey) -> bool {
        self.net.allowances.events.take(port, self.cx.now)
    }

    /// A notice about a port, unless there was one of that kind within the minute; true when it was
    /// given.
    pub(crate) fn port_notice(
        &mut self,
        port: PortKey,
        notice: PortNotice,
        level: Level,
        text: impl FnOnce(NetworkRef<'_>) -> String,
    ) -> bool {
        let Verdict::Allowed { held_back } = self.net.allowances.notices.ask((port, notice), self.cx.now)
        else {
            return false;
        };
        let mut text = text(self.network());
        if held_back > 0 {
            text.push_str(&format!(" ({held_back} more of this kind since the last notice)"));
        }
        self.cx.notice(level, notice.kind(), text);
        true
    }
}
