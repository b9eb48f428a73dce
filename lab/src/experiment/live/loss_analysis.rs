//! What a move has cost, judged by single packets. Pure.
//!
//! A packet to the VM that arrived at one of the two servers while the VM was paused is the pause's
//! loss: no network could have delivered it. Every other one that is missing is the network's: it
//! arrived nowhere, or at the server where the VM was not. A VM that is paused sends nothing, so
//! what is missing of what it sent is always the network's.

use crate::node::probe::Packet;
use crate::node::vm_relocation::Pause;

/// A quarter of a second.
pub(super) const NEAR_NS: u64 = 250_000_000;

/// What a move has cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct LossAnalysis {
    /// Packets sent in both directions.
    pub(super) sent: u64,
    /// Of these, lost.
    pub(super) lost: u64,
    /// Of these, lost by the network.
    pub(super) network_lost: u64,
    /// Of these, sent within [`NEAR_NS`] of the pause: lost by the change of place and not by the
    /// transfer's own load.
    pub(super) near_lost: u64,
    /// The longest time in which nothing arrived, in the worse direction, milliseconds.
    pub(super) longest_ms: f64,
}

/// Counts from the first packet on that arrived: the ends look for each other before.
pub(super) fn analyze(down: &[Packet], up: &[Packet], pause: &Pause) -> LossAnalysis {
    let mut loss = LossAnalysis::default();
    let paused = |at: &u64| (pause.paused_ns..=pause.resumed_ns).contains(at);
    for (packets, to_vm) in [(down, true), (up, false)] {
        let first = packets.iter().position(|p| p.received.is_some()).unwrap_or(packets.len());
        let counted = packets.get(first..).unwrap_or_default();
        loss.sent += counted.len() as u64;
        for packet in counted.iter().filter(|p| p.received.is_none()) {
            loss.lost += 1;
            let explained = to_vm && packet.seen.iter().flatten().any(paused);
            loss.network_lost += u64::from(!explained);
            let near = pause.paused_ns.saturating_sub(NEAR_NS)..=pause.resumed_ns + NEAR_NS;
            loss.near_lost += u64::from(!explained && near.contains(&packet.sent));
        }
        let mut arrivals: Vec<u64> = counted.iter().filter_map(|p| p.received).collect();
        arrivals.sort_unstable();
        // Silence goes on to the end when nothing comes any more.
        arrivals.extend(counted.last().map(|p| p.sent));
        let longest = arrivals.iter().zip(arrivals.iter().skip(1)).map(|(a, b)| b.saturating_sub(*a)).max();
        loss.longest_ms = loss.longest_ms.max(longest.unwrap_or(0) as f64 / 1e6);
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn pause(from: u64, to: u64) -> Pause {
        let paused_ns = from * MS;
        let resumed_ns = to * MS;
        Pause { vm: 1, migration: 1, from: "srv1".into(), to: "srv2".into(), paused_ns, resumed_ns }
    }

    /// A packet each 10 ms until 1 s, each 1 ms on its way; `fate` says whether it arrives, and
    /// where it was seen.
    fn packets(fate: impl Fn(u64) -> (bool, [bool; 2])) -> Vec<Packet> {
        (0..100)
            .map(|n| {
                let (sent, (there, seen)) = (n * 10, fate(n * 10));
                let at = (sent + 1) * MS;
                Packet {
                    sent: sent * MS,
                    received: there.then_some(at),
                    seen: seen.iter().map(|s| s.then_some(at)).collect(),
                }
            })
            .collect()
    }

    #[test]
    fn a_pause_alone_loses_nothing_by_the_network() {
        let down = packets(|t| (!(500..540).contains(&t), [true, true]));
        let up = packets(|_| (true, [false; 2]));
        let loss = analyze(&down, &up, &pause(499, 541));
        assert_eq!((loss.sent, loss.lost, loss.network_lost), (200, 4, 0));
        assert_eq!(loss.longest_ms, 50.0);
    }

    #[test]
    fn what_still_goes_to_the_old_server_afterwards_is_the_networks_loss() {
        let down = packets(|t| (!(500..700).contains(&t), [t < 700, t >= 700]));
        let loss = analyze(&down, &[], &pause(499, 541));
        // Sent at 500 to 540 ms: it was paused. From 550 on it ran elsewhere.
        assert_eq!((loss.lost, loss.network_lost, loss.near_lost), (20, 15, 15));
        assert_eq!(loss.longest_ms, 210.0);
    }

    #[test]
    fn what_arrives_nowhere_is_the_networks_loss_also_during_the_pause() {
        let down = packets(|t| (!(500..540).contains(&t), [t < 500, t >= 540]));
        assert_eq!(analyze(&down, &[], &pause(499, 541)).network_lost, 4);
        let up = packets(|t| (t != 300 && t != 100, [false; 2]));
        let loss = analyze(&[], &up, &pause(499, 541));
        assert_eq!((loss.network_lost, loss.near_lost), (2, 1), "what the VM has sent");
    }

    #[test]
    fn the_first_packets_are_not_counted_and_a_silence_to_the_end_is() {
        let down = packets(|t| ((200..400).contains(&t), [true, true]));
        let loss = analyze(&down, &[], &pause(395, 2000));
        assert_eq!((loss.sent, loss.lost, loss.network_lost), (80, 60, 0));
        assert_eq!(loss.longest_ms, 599.0, "from the last one that came to the last one sent");
        assert_eq!(analyze(&[], &[], &pause(0, 1)), LossAnalysis::default());
    }
}
