//! A driver and its switch, in one thread.
#![allow(dead_code, reason = "each test program uses a part")]

use crate::memory::{LONG, Memory, cfg};
use tandem_model::{
    Cookie, Dpid, ETH_IPV4, Effect, Event, Leave, Owner, Prefix, Rule, RuleAction, RuleKey, RuleMatch, Time,
    TxnId,
};
use tandem_openflow::{framing, header};
use tandem_switch_driver::{Driver, DriverError, Output};

pub(crate) const VERSIONS: [u8; 2] = [header::V10, header::V13];

/// A driver, its switch, and the messages between them.
pub(crate) struct Pair {
    pub(crate) driver: Driver,
    pub(crate) switch: Memory,
    pub(crate) out: Output,
    pub(crate) now: Time,
    pub(crate) warnings: Vec<String>,
}

impl Pair {
    /// Connected; only the HELLO has been sent.
    pub(crate) fn new(version: u8) -> Pair {
        let mut out = Output::default();
        let driver = Driver::new(cfg(), "test", Time::ZERO, &mut out);
        Pair { driver, switch: Memory::new(version), out, now: Time::ZERO, warnings: Vec::new() }
    }

    /// After the handshake.
    pub(crate) fn up(version: u8) -> Pair {
        let mut pair = Pair::new(version);
        let events = pair.talk().expect("a handshake");
        let wanted = if version == header::V13 { "1.3" } else { "1.0" };
        match &events[..] {
            [Event::SwitchUp { switch, ports, caps }] => {
                assert_eq!((*switch, ports.len(), caps.version.as_str()), (Dpid(7), 1, wanted));
                assert!(ports[0].up && ports[0].speed == Some(tandem_model::BitRate(1_000_000_000)));
            }
            other => panic!("wanted SwitchUp, got {other:?}"),
        }
        pair
    }

    /// After a sync of these rules.
    pub(crate) fn synced(version: u8, rules: Vec<Rule>) -> Pair {
        let mut pair = Pair::up(version);
        let events = pair.effect(sync(1, rules)).expect("a sync");
        assert!(
            matches!(&events[..], [Event::RulesApplied { txn: TxnId(1), .. }]),
            "the sync has not come to an end: {events:?}"
        );
        pair
    }

    /// Exchanges messages until both sides are quiet; returns the driver's events. A driver that
    /// fails has sent its last error message.
    pub(crate) fn talk(&mut self) -> Result<Vec<Event>, DriverError> {
        let mut events = Vec::new();
        loop {
            self.warnings.append(&mut self.out.warnings);
            events.append(&mut self.out.events);
            if self.out.bytes.is_empty() {
                return Ok(events);
            }
            let sent = std::mem::take(&mut self.out.bytes);
            let answered = self.switch.answer(&sent, self.now);
            let mut rest = &answered[..];
            while let Ok(Some((message, after))) = framing::next(rest) {
                rest = after;
                self.driver.on_message(message, self.now, &mut self.out)?;
            }
        }
    }

    pub(crate) fn effect(&mut self, effect: Effect) -> Result<Vec<Event>, DriverError> {
        self.driver.execute(effect, self.now, &mut self.out);
        self.talk()
    }

    /// Advances the time to the driver's next deadline.
    pub(crate) fn wait(&mut self) -> Result<Vec<Event>, DriverError> {
        self.now = self.driver.next_deadline();
        self.driver.on_deadline(self.now, &mut self.out)?;
        self.talk()
    }

    /// Advances the time until the connection ends; returns the events until then, and the error.
    pub(crate) fn wait_for_the_end(&mut self) -> (Vec<Event>, DriverError) {
        let mut events = Vec::new();
        loop {
            match self.wait() {
                Ok(more) => events.extend(more),
                Err(error) => {
                    events.append(&mut self.out.events);
                    return (events, error);
                }
            }
            assert!(self.now < Time::ZERO + LONG, "nobody noticed");
        }
    }
}

pub(crate) fn sync(txn: u64, rules: Vec<Rule>) -> Effect {
    Effect::SyncRules { switch: Dpid(7), txn: TxnId(txn), rules, leave: Leave::Nothing }
}

pub(crate) fn apply(txn: u64, add: Vec<Rule>, remove: Vec<RuleKey>) -> Effect {
    Effect::ApplyRules { switch: Dpid(7), txn: TxnId(txn), add, remove }
}

/// A rule for IPv4 to 10.0.0.0/24.
pub(crate) fn rule(priority: u16, action: RuleAction) -> Rule {
    let matching = RuleMatch {
        eth_type: Some(ETH_IPV4),
        ip_dst: Prefix::new(std::net::Ipv4Addr::new(10, 0, 0, 0), 24),
        ..RuleMatch::default()
    };
    Rule {
        key: RuleKey { table: 0, priority, matching },
        actions: vec![action],
        cookie: Cookie::new(Owner::Fabric, 0),
    }
}

pub(crate) fn stale() -> u64 {
    Cookie::new(Owner::Vm(9), 0).0
}
