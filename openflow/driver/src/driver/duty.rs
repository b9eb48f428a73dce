//! What a connection is for, when a switch has several: one is active, the others stand by.
//!
//! A connection that stands by keeps itself alive and knows the switch's ports; it sends nothing
//! else, and what the switch says on it goes to nobody, so that no packet is reported twice. When
//! the active one goes, it announces the switch again, and the rules are compared with what the
//! switch has: none is taken away in between.

use super::{Driver, Output};
use tandem_model::{Event, PortInfo, SwitchCaps, Time};

/// What a connection of a switch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Nobody has decided yet; as [`Duty::Standby`], and nothing is sent to the switch.
    Undecided,
    /// The switch is driven by this connection, until it ends.
    Active,
    /// Another connection drives it.
    Standby,
}

impl Driver {
    /// Greets a switch that has just connected, and waits after the handshake for
    /// [`Driver::take_duty`].
    pub fn undecided(cfg: super::Config, peer: &str, now: Time, out: &mut Output) -> Driver {
        let mut driver = Driver::new(cfg, peer, now, out);
        driver.duty = Duty::Undecided;
        driver
    }

    /// What this connection is for.
    pub fn duty(&self) -> Duty {
        self.duty
    }

    /// What the switch can do, once its handshake is done.
    pub fn caps(&self) -> Option<&SwitchCaps> {
        self.caps.as_ref()
    }

    /// Its ports, as it reported them.
    pub fn ports(&self) -> impl Iterator<Item = &PortInfo> {
        self.ports.values()
    }

    /// Bytes of changes that wait for the switch to confirm earlier ones.
    pub fn backlog(&self) -> usize {
        self.pieces.backlog()
    }

    /// Gives this connection another duty, after the handshake. One that is active stays so.
    pub fn take_duty(&mut self, duty: Duty, now: Time, out: &mut Output) {
        if !self.is_up() || self.duty == Duty::Active || self.duty == duty {
            return;
        }
        let before = std::mem::replace(&mut self.duty, duty);
        match duty {
            Duty::Undecided => {}
            // A switch that cannot be told so says everything twice; what it says here is not
            // listened to.
            Duty::Standby => drop(self.send(out, |s, xid, o| s.set_async(xid, false, o))),
            Duty::Active => {
                if before == Duty::Standby {
                    self.send(out, |s, xid, o| s.set_async(xid, true, o));
                }
                self.next_poll = now + self.cfg.poll_period;
                self.next_lldp = self.cfg.lldp_period.map(|_| now);
                self.announce(out);
            }
        }
    }

    /// Tells the core of the switch.
    pub(super) fn announce(&mut self, out: &mut Output) {
        let Some(caps) = self.caps.clone() else { return };
        let ports = self.ports.values().cloned().collect();
        out.events.push(Event::SwitchUp { switch: self.dpid, ports, caps });
    }

    pub(super) fn is_active(&self) -> bool {
        self.is_up() && self.duty == Duty::Active
    }

    /// Asks whether the switch is still there, because another connection says that it is somewhere
    /// else.
    pub fn probe(&mut self, now: Time, out: &mut Output) {
        self.session.probe(now, &mut out.bytes);
    }

    /// Tells the switch why its connection is closed.
    pub fn dismiss(&mut self, why: &str, out: &mut Output) {
        self.session.dismiss(why, &mut out.bytes);
    }
}
