//! Statistics: from counters to bit rates and ratios.
//!
//! A rate is the difference of two byte counts over the time between them, smoothed with the site's
//! history weight: `history * old + (1 - history) * new`. Counters may be 32 or 64 bits wide and
//! may start again at any time.

use std::collections::BTreeMap;
use tandem_model::{BitRate, FlowSample, PortNo, PortSample, SwitchId, Time, VmId};

/// The highest rate that a wrapped counter is believed to show; above it, the counter was reset.
pub(crate) const BELIEVABLE: BitRate = BitRate(400_000_000_000);

/// Ports of a switch that are kept at most, whatever numbers it invents. A large chassis has a few
/// hundred.
const MOST_PORTS: usize = 4096;

/// How far a counter went from `old` to `new` over `period`. `None` when it was reset, or is not
/// counted.
pub fn advance(old: Option<u64>, new: Option<u64>, period: std::time::Duration) -> Option<u64> {
    advance_within(old, new, period, BELIEVABLE)
}

/// The same where it is known what the counter's interface can carry: a step back that would take a
/// higher rate is a new start.
pub fn advance_within(
    old: Option<u64>,
    new: Option<u64>,
    period: std::time::Duration,
    most: BitRate,
) -> Option<u64> {
    let (old, new) = (old?, new?);
    if new >= old {
        return Some(new - old);
    }
    // It went back: the narrowest width it can have wrapped at, if what that makes is believable.
    let wrapped = if old <= u64::from(u32::MAX) { new + (1 << 32) - old } else { new.wrapping_sub(old) };
    (BitRate::over(wrapped, period) <= most.min(BELIEVABLE)).then_some(wrapped)
}

/// One smoothed rate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Smoothed {
    value: f64,
    primed: bool,
}

impl Smoothed {
    pub(crate) fn add(&mut self, sample: f64, history: f64) {
        self.value = if self.primed { history * self.value + (1.0 - history) * sample } else { sample };
        self.primed = true;
    }

    pub(crate) fn value(self) -> f64 {
        self.value
    }

    /// True once anything was added.
    pub(crate) fn primed(self) -> bool {
        self.primed
    }

    pub(crate) fn rate(self) -> BitRate {
        BitRate(self.value.round() as u64)
    }
}

/// A port's latest counters and rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PortStats {
    /// As last told.
    pub sample: PortSample,
    /// When.
    pub at: Time,
    rx: Smoothed,
    tx: Smoothed,
}

impl PortStats {
    /// Smoothed rate in; `None` where the switch does not count what comes in.
    pub fn rx(&self) -> Option<BitRate> {
        self.sample.counters.rx_bytes.map(|_| self.rx.rate())
    }

    /// Smoothed rate out; `None` where the switch does not count what goes out.
    pub fn tx(&self) -> Option<BitRate> {
        self.sample.counters.tx_bytes.map(|_| self.tx.rate())
    }
}

/// A VM's latest counters and rate, as its edge switch counts its flows (both directions together).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VmStats {
    /// Packets; `None` where they are not counted.
    pub packets: Option<u64>,
    /// Bytes; `None` where they are not counted.
    pub bytes: Option<u64>,
    /// When.
    pub at: Time,
    rate: Smoothed,
}

impl VmStats {
    /// Smoothed rate, in and out together.
    pub fn rate(&self) -> BitRate {
        self.rate.rate()
    }
}

/// The last counters of every switch, and the rates that follow from them.
#[derive(Debug, Clone)]
pub struct Statistics {
    history: f64,
    ports: Vec<BTreeMap<PortNo, PortStats>>,
    vms: BTreeMap<VmId, VmStats>,
    /// Per switch, when its ports were read last.
    read_at: Vec<Option<Time>>,
}

impl Statistics {
    /// Nothing is known yet. `history` is the weight of the past, 0 to below 1.
    pub fn new(switches: usize, history: f64) -> Statistics {
        Statistics {
            history,
            ports: vec![BTreeMap::new(); switches],
            vms: BTreeMap::new(),
            read_at: vec![None; switches],
        }
    }

    /// A switch has told its counters.
    pub(crate) fn is_read(&mut self, switch: SwitchId, now: Time) {
        if let Some(at) = self.read_at.get_mut(switch.0 as usize) {
            *at = Some(now);
        }
    }

    /// When a switch's counters were read last.
    pub(crate) fn read_at(&self, switch: SwitchId) -> Option<Time> {
        self.read_at.get(switch.0 as usize).copied().flatten()
    }

    /// Takes in one port's counters; true when a rate came out of it.
    pub fn port(&mut self, switch: SwitchId, sample: PortSample, most: BitRate, now: Time) -> bool {
        let Some(ports) = self.ports.get_mut(switch.0 as usize) else { return false };
        let fresh = PortStats { sample, at: now, rx: Smoothed::default(), tx: Smoothed::default() };
        // That nothing is counted is to be known too, where there was a rate before.
        let is_uncounted = sample.counters.rx_bytes.is_none() || sample.counters.tx_bytes.is_none();
        let Some(stats) = ports.get_mut(&sample.port) else {
            if ports.len() >= MOST_PORTS {
                return false;
            }
            ports.insert(sample.port, fresh);
            return is_uncounted;
        };
        let period = now.since(stats.at);
        if period.is_zero() {
            return false;
        }
        let rx = advance_within(stats.sample.counters.rx_bytes, sample.counters.rx_bytes, period, most);
        let tx = advance_within(stats.sample.counters.tx_bytes, sample.counters.tx_bytes, period, most);
        if let Some(bytes) = rx {
            stats.rx.add(bytes as f64 * 8.0 / period.as_secs_f64(), self.history);
        }
        if let Some(bytes) = tx {
            stats.tx.add(bytes as f64 * 8.0 / period.as_secs_f64(), self.history);
        }
        // A counter that is not supported now and then has no rate: what it once was says nothing
        // of what it is.
        if sample.counters.rx_bytes.is_none() {
            stats.rx = Smoothed::default();
        }
        if sample.counters.tx_bytes.is_none() {
            stats.tx = Smoothed::default();
        }
        stats.sample = sample;
        stats.at = now;
        rx.is_some() || tx.is_some() || is_uncounted
    }

    /// Takes in the counters of a VM's flows at its edge switch; true when they moved.
    pub fn vm(&mut self, vm: VmId, sample: &FlowSample, now: Time) -> bool {
        let FlowSample { packets, bytes, .. } = *sample;
        let Some(stats) = self.vms.get_mut(&vm) else {
            self.vms.insert(vm, VmStats { packets, bytes, at: now, rate: Smoothed::default() });
            return packets.is_some_and(|n| n > 0);
        };
        let period = now.since(stats.at);
        let moved = packets.is_some() && stats.packets.is_some() && packets != stats.packets;
        match (stats.bytes, bytes) {
            // New rules count from zero: a step back is a new start, never a wrap.
            (Some(before), Some(bytes)) if !period.is_zero() && bytes >= before => {
                stats.rate.add((bytes - before) as f64 * 8.0 / period.as_secs_f64(), self.history);
            }
            (_, None) => stats.rate = Smoothed::default(),
            _ => {}
        }
        (stats.packets, stats.bytes, stats.at) = (packets, bytes, now);
        moved
    }

    /// A port's statistics.
    pub fn of_port(&self, switch: SwitchId, port: PortNo) -> Option<&PortStats> {
        self.ports.get(switch.0 as usize)?.get(&port)
    }

    /// All ports of a switch, in order.
    pub fn ports(&self, switch: SwitchId) -> impl Iterator<Item = &PortStats> {
        self.ports.get(switch.0 as usize).into_iter().flat_map(BTreeMap::values)
    }

    /// A VM's statistics.
    pub fn of_vm(&self, vm: VmId) -> Option<&VmStats> {
        self.vms.get(&vm)
    }

    /// Forgets a VM.
    pub fn forget_vm(&mut self, vm: VmId) {
        self.vms.remove(&vm);
    }

    /// Forgets the rates of a port that went away: its number may come back as another one, which
    /// counts from zero.
    pub fn forget_port(&mut self, switch: SwitchId, port: PortNo) {
        if let Some(ports) = self.ports.get_mut(switch.0 as usize) {
            ports.remove(&port);
        }
    }

    /// Forgets the rates of a switch that went away: its counters may start anew.
    pub fn forget_switch(&mut self, switch: SwitchId) {
        if let Some(ports) = self.ports.get_mut(switch.0 as usize) {
            ports.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tandem_model::PortCounters;

    fn sample(bytes: u64) -> PortSample {
        PortSample {
            port: PortNo(1),
            counters: PortCounters {
                rx_packets: Some(0),
                tx_packets: Some(0),
                rx_bytes: tandem_model::counted(bytes),
                tx_bytes: tandem_model::counted(bytes),
                rx_dropped: Some(0),
                tx_dropped: Some(0),
                rx_errors: Some(0),
                tx_errors: Some(0),
                ..PortCounters::default()
            },
        }
    }

    #[test]
    fn invented_ports_take_no_room_without_end() {
        let mut statistics = Statistics::new(1, 0.5);
        for n in 0..100_000 {
            let sample = PortSample { port: PortNo(n), ..sample(1) };
            statistics.port(SwitchId(0), sample, BitRate::mbit(10), Time::from_secs(1));
        }
        assert_eq!(statistics.ports(SwitchId(0)).count(), MOST_PORTS);
    }

    #[test]
    fn counters_wrap_at_32_and_at_64_bits_and_may_be_reset() {
        let s = Duration::from_secs(1);
        assert_eq!(advance(Some(10), Some(30), s), Some(20));
        assert_eq!(advance(Some(u64::from(u32::MAX) - 9), Some(10), s), Some(20), "32-bit wrap");
        assert_eq!(advance(Some(u64::MAX - 10), Some(9), s), Some(20), "64-bit wrap");
        assert_eq!(advance(Some(1 << 40), Some(5), s), None, "a 64-bit counter that starts anew");
        assert_eq!(advance(None, Some(5), s), None, "not counted");
        let ten = BitRate::mbit(10);
        assert_eq!(
            advance_within(Some(126_000), Some(10), s, ten),
            None,
            "34 Gbit/s over a port of 10 Mbit/s: it started again"
        );
        assert_eq!(advance_within(Some(u64::from(u32::MAX) - 9), Some(10), s, ten), Some(20), "32-bit wrap");
    }

    #[test]
    fn a_counter_that_starts_anew_makes_no_peak() {
        let mut stats = Statistics::new(1, 0.0);
        let most = BitRate::mbit(100);
        stats.port(SwitchId(0), sample(10_000_000), most, Time::from_secs(0));
        assert!(
            !stats.port(SwitchId(0), sample(0), most, Time::from_secs(1)),
            "no link of 100 Mbit/s wraps in a second"
        );
        assert!(stats.port(SwitchId(0), sample(125_000), most, Time::from_secs(2)));
        assert_eq!(stats.of_port(SwitchId(0), PortNo(1)).and_then(PortStats::rx), Some(BitRate::mbit(1)));
    }

    #[test]
    fn the_history_weight_is_the_share_of_the_past() {
        let mut stats = Statistics::new(1, 0.75);
        let port = SwitchId(0);
        assert!(!stats.port(port, sample(0), BELIEVABLE, Time::from_secs(0)), "one sample makes no rate");
        assert!(stats.port(port, sample(125_000), BELIEVABLE, Time::from_secs(1)));
        assert_eq!(stats.of_port(port, PortNo(1)).and_then(PortStats::tx), Some(BitRate::mbit(1)));
        stats.port(port, sample(125_000), BELIEVABLE, Time::from_secs(2));
        assert_eq!(stats.of_port(port, PortNo(1)).and_then(PortStats::tx), Some(BitRate(750_000)));
    }

    #[test]
    fn a_sample_at_the_same_moment_changes_nothing() {
        let mut stats = Statistics::new(1, 0.0);
        stats.port(SwitchId(0), sample(0), BELIEVABLE, Time::from_secs(1));
        assert!(!stats.port(SwitchId(0), sample(500), BELIEVABLE, Time::from_secs(1)));
        assert!(stats.port(SwitchId(0), sample(125_000), BELIEVABLE, Time::from_secs(2)));
        assert_eq!(stats.of_port(SwitchId(0), PortNo(1)).and_then(PortStats::rx), Some(BitRate::mbit(1)));
    }

    /// All ones are "not supported" (OF 1.0 section 5.3.5): no rate, and none that is absurd when a
    /// counter comes and goes.
    #[test]
    fn a_counter_that_is_not_supported_has_no_rate_and_makes_no_peak() {
        let mut stats = Statistics::new(1, 0.5);
        let port = SwitchId(0);
        let at = |n| Time::from_secs(n);
        let rate = |s: &Statistics| s.of_port(port, PortNo(1)).and_then(PortStats::rx);
        stats.port(port, sample(0), BELIEVABLE, at(0));
        stats.port(port, sample(125_000), BELIEVABLE, at(1));
        assert_eq!(rate(&stats), Some(BitRate::mbit(1)));
        for n in 1..20 {
            assert!(
                stats.port(port, sample(u64::MAX), BELIEVABLE, at(4 * n)),
                "that it is not known is news"
            );
            assert_eq!(rate(&stats), None);
            stats.port(port, sample(n * 125_000), BELIEVABLE, at(4 * n + 1));
            assert_eq!(rate(&stats), Some(BitRate(0)), "one sample makes no rate");
            stats.port(port, sample((n + 1) * 125_000), BELIEVABLE, at(4 * n + 2));
            assert_eq!(rate(&stats), Some(BitRate::mbit(1)));
        }
        let flow = |packets, bytes| FlowSample {
            cookie: tandem_model::Cookie(0),
            flows: 1,
            packets: tandem_model::counted(packets),
            bytes: tandem_model::counted(bytes),
        };
        let vm = VmId(1);
        assert!(!stats.vm(vm, &flow(u64::MAX, u64::MAX), at(0)), "nothing has moved that is not counted");
        assert!(!stats.vm(vm, &flow(5, 1000), at(1)));
        assert!(!stats.vm(vm, &flow(u64::MAX, u64::MAX), at(2)));
        assert_eq!(stats.of_vm(vm).map(VmStats::rate), Some(BitRate(0)));
        assert!(!stats.vm(vm, &flow(6, 126_000), at(3)));
        assert!(stats.vm(vm, &flow(7, 251_000), at(4)));
        assert_eq!(stats.of_vm(vm).map(VmStats::rate), Some(BitRate::mbit(1)));
    }
}
