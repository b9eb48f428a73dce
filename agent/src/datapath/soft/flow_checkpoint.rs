//! A switch's flows as bytes, so that the next process of the agent forwards by them before a
//! controller is connected.
//!
//! They are FLOW_MOD messages in sequence, as the controllers sent them. Left out are flows with a
//! time-out (they are temporary) and flows that use a group or a meter (which the controller has to
//! add first). Counters start at zero.

use super::runtime::PendingBytes;
use tandem_model::Time;
use tandem_openflow::switch::{Config, Switch};
use tandem_openflow::table::{Flow, Op, WireForm};
use tandem_openflow::wire::Pad;
use tandem_openflow::{framing, header, of10, of13};

/// OFP_NO_BUFFER, OFPP_ANY and OFPG_ANY.
const ANY: u32 = u32::MAX;

/// Writes the flows.
pub(super) fn write(switch: &Switch) -> Vec<u8> {
    let mut out = Vec::new();
    let mut lost: Option<(usize, String)> = None;
    for (table, flows) in (0u8..).zip(&switch.pipeline().tables) {
        for flow in flows.iter().filter(|f| is_kept(f)) {
            let done = match &flow.wording {
                WireForm::None => continue,
                WireForm::V10(matching, actions) => of10::Message::FlowMod(of10::FlowMod {
                    matching: matching.clone(),
                    cookie: flow.cookie,
                    command: 0,
                    idle_timeout: 0,
                    hard_timeout: 0,
                    priority: flow.priority,
                    buffer_id: ANY,
                    out_port: of10::port::NONE,
                    flags: flow.flags,
                    actions: actions.clone(),
                })
                .encode(1, &mut out),
                WireForm::V13(matching, instructions) => of13::Message::FlowMod(of13::FlowMod {
                    cookie: flow.cookie,
                    cookie_mask: 0,
                    table_id: table,
                    command: 0,
                    idle_timeout: 0,
                    hard_timeout: 0,
                    priority: flow.priority,
                    buffer_id: ANY,
                    out_port: ANY,
                    out_group: ANY,
                    flags: flow.flags,
                    pad: Pad::default(),
                    matching: matching.clone(),
                    instructions: instructions.clone(),
                })
                .encode(1, &mut out),
            };
            if let Err(error) = done {
                let (count, _) = lost.get_or_insert_with(|| (0, error.to_string()));
                *count += 1;
            }
        }
    }
    if let Some((count, why)) = lost {
        tracing::warn!("{count} flows are not kept for a restart: {why}");
    }
    out
}

fn is_kept(flow: &Flow) -> bool {
    let does = &flow.instructions;
    let groups = does.apply.iter().chain(&does.write).any(|op| matches!(op, Op::Group(_)));
    flow.idle.is_zero() && flow.hard.is_zero() && !groups && does.meter.is_none()
}

/// Restores saved flows, as a controller would add them. Flows that the switch refuses are skipped.
pub(super) fn restore(switch: &mut Switch, bytes: &[u8], now: Time) {
    for version in [header::V10, header::V13] {
        let mut sink = PendingBytes::default();
        let conn = switch.connected(now, &mut sink);
        let hello = [version, 0, 0, 8, 0, 0, 0, 1];
        let mut open = switch.on_message(conn, &hello, now, &mut sink).is_ok();
        let mut rest = bytes;
        while let (true, Ok(Some((message, after)))) = (open, framing::next(rest)) {
            rest = after;
            if message.first() == Some(&version) {
                open = switch.on_message(conn, message, now, &mut sink).is_ok();
            }
        }
        switch.closed(conn);
    }
}

/// The number of flows that a switch restores from these bytes, after a second switch has restored
/// what the first one wrote: the whole cycle of the file, for tests and the fuzz target `files`.
pub fn restored(bytes: &[u8]) -> usize {
    let mut switch = Switch::new(Config::default());
    restore(&mut switch, bytes, Time::ZERO);
    let again = write(&switch);
    // Flows that were restored and written again are restored by the next process too.
    let mut next = Switch::new(Config::default());
    restore(&mut next, &again, Time::ZERO);
    next.pipeline().tables.iter().map(|t| t.iter().count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// From a truncated or damaged file, the flows that can be read are restored.
        #[test]
        fn any_bytes_are_flows_or_left_out(
            parts in prop::collection::vec(
                (prop::sample::select(vec![1u8, 4, 5]), 0u8..30, prop::collection::vec(any::<u8>(), 0..120), any::<bool>()),
                0..5,
            ),
        ) {
            let mut bytes = Vec::new();
            for (version, kind, body, honest) in parts {
                let length = if honest { body.len() as u16 + 8 } else { 7 };
                bytes.extend([version, kind]);
                bytes.extend(length.to_be_bytes());
                bytes.extend([0, 0, 0, 1]);
                bytes.extend(body);
            }
            let _ = restored(&bytes);
        }
    }
}
