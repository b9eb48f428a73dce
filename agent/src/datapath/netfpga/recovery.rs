//! A card whose data path lags or has stopped: noticed, reset, and written anew.
//!
//! ```text
//! Watching --a sign that lasts--> Ill --its pause is over--> Clearing --the exact table answers--> Watching
//! ```
//!
//! 1. Ten times a second the card is looked at (`tandem_fpga_config::health`): some ten registers,
//!    which nobody else may read.
//! 2. A card that is ill is reset at once, but after three times in a minute only after a pause
//!    that grows ([`Pauses`]).
//! 3. Before the reset all counters are read, and what it would forget. Then follows the pulse, and
//!    the 4.2 ms in which the card clears its exact table; meanwhile packets of the plain NICs go
//!    on.
//! 4. Then the settings, the rows, the exact entries and the watchdog are written, and the limiters
//!    with the next second.
//!
//! A card that cannot be asked meanwhile, and one that others reset, go the ways that they have
//! anyway (`io.rs`); the outage ends when everything is written.

use super::offload_io::CardIo;
use super::open::chain;
use super::{CardState, DataPath, shared};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tandem_fpga_card::{Card, info};
use tandem_fpga_config::health::{DRAIN, Health, Look, Pauses, Verdict};
use tandem_fpga_config::profile::Profile;
use tandem_fpga_config::registers::{AccessError, Registers, is_no_answer};
use tandem_fpga_config::settings::Settings;
use tandem_model::Time;
use tandem_openflow::switch::Switch;

/// How often a card is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often while something speaks against it.
const CLOSER: Duration = Duration::from_millis(25);
/// How long a reset card is left alone before it is asked whether its exact table answers: the
/// clearing takes 4.2 ms.
const CLEARING: Duration = Duration::from_millis(5);
/// A card that does not answer so long after a reset is given up. A simulation takes seconds for
/// the clearing.
const PATIENCE: Duration = Duration::from_secs(30);

/// CTRL of the bus FPGA, and its bit that resets the user FPGA while it is written.
const CONTROL: u32 = 0x008;
const RESET: u32 = 1 << 8;
/// Of a MAC's CONTROL: RX queue off, MAC in reset, MAC RX off. Frames that wait in such a queue
/// wait for good.
const NOT_RECEIVING: u32 = 0b1_0110;
/// Of the same what switches a receiver off: RX queue and MAC RX.
const MUTE: u32 = 0b1_0010;
/// The longest frame without FCS that a MAC takes with any setting.
const LONGEST: usize = 1514;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Watching,
    /// It is reset at that time.
    Ill(Time),
    /// It was reset then.
    Clearing(Time),
}

/// An outage that lasts.
#[derive(Debug, Clone)]
struct Outage {
    /// The last look that was good.
    since: Time,
    why: String,
}

/// Notices that a card's data path has stopped, resets it and writes it anew.
pub(super) struct Recovery {
    health: Health,
    pauses: Pauses,
    state: State,
    outage: Option<Outage>,
    /// The last look that was good.
    good: Time,
    next: Time,
    /// Frames that were put into each port and have not entered the data path as far as is known.
    offered: [u64; 4],
    settings: Settings,
    /// What each port's MAC had received when the card was last written anew, and the ports that
    /// had frames before every stop since.
    received: BTreeMap<u32, u64>,
    suspects: Option<BTreeSet<u32>>,
    /// A port whose receiver is off, until then.
    muted: Option<(u32, Time)>,
    outages: u64,
    total: Duration,
}

impl Recovery {
    pub(super) fn new() -> Recovery {
        Recovery {
            health: Health::new(),
            pauses: Pauses::default(),
            state: State::Watching,
            outage: None,
            good: Time::ZERO,
            next: Time::ZERO,
            offered: [0; 4],
            settings: Settings::default(),
            received: BTreeMap::new(),
            suspects: None,
            muted: None,
            outages: 0,
            total: Duration::ZERO,
        }
    }

    /// A frame was put into a queue of the card.
    pub(super) fn offered(&mut self, queue: u8, length: usize) {
        if queue.is_multiple_of(2)
            && length <= LONGEST
            && let Some(offered) = self.offered.get_mut(usize::from(queue / 2))
        {
            *offered += 1;
        }
    }

    /// The card clears its tables: nothing can be written.
    pub(super) fn is_clearing(&self) -> bool {
        matches!(self.state, State::Clearing(_))
    }

    /// Why nothing leaves the card, while that is so.
    pub(super) fn outage(&self) -> Option<&str> {
        self.outage.as_ref().map(|o| o.why.as_str())
    }

    /// When it wants to be called.
    pub(super) fn deadline(&self) -> Time {
        self.muted.map_or(self.next, |(_, until)| self.next.min(until))
    }

    /// The card could not be asked, or was opened again: what it has is found out anew.
    pub(super) fn begin_anew(&mut self) {
        (self.health, self.state, self.offered) = (Health::new(), State::Watching, [0; 4]);
        (self.muted, self.good) = (None, Time::ZERO);
    }

    /// What people should know, a line each.
    pub(super) fn about(&self, now: Time) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(outage) = &self.outage {
            let left = match self.state {
                State::Ill(until) => format!("it is reset in {:.0} s", until.since(now).as_secs_f64().ceil()),
                State::Clearing(_) => "it was reset and is written anew".to_owned(),
                State::Watching => "it is written anew once it answers".to_owned(),
            };
            lines.push(format!("NOT FORWARDING: {}; {left}", outage.why));
        }
        if let Some((port, until)) = self.muted {
            let left = until.since(now).as_secs_f64().ceil();
            lines.push(format!(
                "the receiver of port {port} is off for {left:.0} s more: \
                 the stops seem to come from there"
            ));
        }
        if self.outages > 0 {
            lines.push(format!(
                "its data path has lagged or stopped {} times and was reset: {:.3} s without forwarding in all",
                self.outages,
                self.total.as_secs_f64()
            ));
        }
        lines
    }
}

impl CardIo {
    /// Looks at the card when it is time, and goes on with a recovery.
    pub(super) fn recover(&mut self, switch: &mut Switch, now: Time) {
        self.unmute(now);
        if now >= self.recovery.next {
            match self.recovery.state {
                State::Clearing(since) => self.cleared(since, now),
                State::Watching | State::Ill(_) => self.look_at(switch, now),
            }
        }
        self.share(now);
    }

    /// Everything is written: an outage is over.
    pub(super) fn is_written(&mut self, now: Time) {
        if self.recovery.state != State::Watching || self.offload.is_none() {
            return;
        }
        let Some(outage) = self.recovery.outage.take() else { return };
        let took = now.since(outage.since);
        self.recovery.total += took;
        self.recovery.good = now;
        self.recovery.pauses.recovered(now);
        self.recovery.received = self.received();
        let why = format!(
            "the card forwards again: reset and written anew, {:.0} ms after it was last seen well",
            took.as_secs_f64() * 1e3
        );
        self.say(why);
        self.share(now);
    }

    /// The worker writes it into the log, and the session tells it to the controller.
    fn say(&self, why: String) {
        shared(&self.talk).note(why);
    }

    /// What others learn of the card.
    pub(super) fn share(&self, now: Time) {
        let r = &self.recovery;
        let lasts = r.outage.as_ref().map_or(Duration::ZERO, |o| now.since(o.since));
        let path = match (&self.card, &r.outage, r.state) {
            (None, ..) => DataPath::Unreachable,
            (Some(_), None, _) => DataPath::Working,
            (Some(_), Some(_), State::Ill(_)) => DataPath::Stopped,
            (Some(_), Some(_), _) => DataPath::Recovering,
        };
        shared(&self.talk).card = Some(CardState { path, outages: r.outages, outage: r.total + lasts });
    }

    fn recovers(&self) -> bool {
        self.switch.card.as_ref().is_none_or(|c| c.recover)
    }

    fn look_at(&mut self, switch: &mut Switch, now: Time) {
        self.recovery.next = now + LOOK;
        let (Some(opened), Some(_)) = (&mut self.card, &self.offload) else { return };
        let look = match look(opened.card.as_mut(), &opened.profile, &mut self.recovery.offered) {
            Ok(Some(look)) => look,
            // A bitfile whose data path cannot be looked at.
            Ok(None) => return,
            Err(error) => return self.fail("looking at the card's data path", &error, now),
        };
        let verdict = self.recovery.health.look(look, now);
        if self.recovery.good == Time::ZERO {
            // How it was before is not known.
            self.recovery.good = now;
        }
        match (self.recovery.state, verdict) {
            (State::Watching, Verdict::Well) => self.recovery.good = now,
            (State::Watching, Verdict::Suspect) => self.recovery.next = now + CLOSER,
            (State::Watching, Verdict::Lags(_) | Verdict::Stopped(_)) => self.is_ill(verdict, now),
            (State::Ill(_), Verdict::Well) if look.entered > 0 => {
                // Somebody else has reset it.
                self.recovery.state = State::Watching;
                return self.is_written(now);
            }
            _ => {}
        }
        if let State::Ill(until) = self.recovery.state {
            if now >= until && self.recovers() {
                self.reset(switch, now);
            } else if now < until {
                self.recovery.next = self.recovery.next.min(until);
            }
        }
    }

    fn is_ill(&mut self, verdict: Verdict, now: Time) {
        let what = match verdict {
            Verdict::Lags(1) => {
                "its look-up is a frame behind: frames leave by others' decisions, or not at all".to_owned()
            }
            Verdict::Lags(n) => {
                format!("its look-up is {n} frames behind: frames leave by others' decisions, or not at all")
            }
            _ => "its data path has stopped: frames wait and none is forwarded".to_owned(),
        };
        if let Err(error) = self.read_macs() {
            return self.fail("reading the card's counters", &error, now);
        }
        let received = self.received();
        let moved: BTreeSet<u32> = received
            .iter()
            .filter(|(port, n)| self.recovery.received.get(port).is_none_or(|before| before < n))
            .map(|(port, _)| *port)
            .collect();
        let r = &mut self.recovery;
        let pause = r.pauses.ill(now);
        let suspects = match r.suspects.take() {
            Some(before) if r.outages > 0 && r.pauses.is_repeated(now) => {
                before.intersection(&moved).copied().collect()
            }
            _ => moved,
        };
        r.outages += 1;
        let mut why = what.clone();
        let mut until = now + pause;
        let mute = self.switch.card.as_ref().is_some_and(|c| c.mute);
        if !pause.is_zero() {
            why = format!(
                "{what}; three times within a minute, so it is left so for {} s before it is reset again",
                pause.as_secs()
            );
            let guess = suspects.first().filter(|_| suspects.len() == 1).copied();
            if let Some(port) = guess.filter(|_| mute) {
                r.muted = Some((port, until));
                until = now;
                why = format!(
                    "{what}; three times within a minute, each after frames at port {port}: its receiver is off for {} s",
                    pause.as_secs()
                );
            } else if mute {
                why.push_str(&format!(
                    "; frames came in at {} ports, so none is switched off",
                    suspects.len()
                ));
            }
        }
        if !self.recovers() {
            why.push_str(
                "; recover = false, so reset it with `tandem-fpga reg write CPCI_CTRL`, or load its bitfile",
            );
        }
        let r = &mut self.recovery;
        r.suspects = Some(suspects);
        r.outage = Some(Outage { since: r.good, why: why.clone() });
        r.state = State::Ill(until);
        self.say(why);
    }

    /// By OpenFlow number, what the MACs have received.
    fn received(&self) -> BTreeMap<u32, u64> {
        let of = |(number, at): (&u32, &u8)| {
            let name = format!("MAC_GRP_{at}_RX_QUEUE_NUM_PKTS_STORED");
            Some((*number, *self.counted.get(&name)?))
        };
        self.card_ports.iter().filter_map(of).collect()
    }

    /// Everything is read that would be lost, then comes the pulse.
    fn reset(&mut self, switch: &mut Switch, now: Time) {
        let outcome = (|| {
            self.read_macs()?;
            let (Some(opened), Some(offload)) = (&mut self.card, &mut self.offload) else { return Ok(()) };
            self.recovery.settings = Settings::read(&opened.profile, &mut opened.card)?;
            match offload.sweep_all(now, &mut opened.card) {
                Ok(deltas) => super::table_sync::add_counters(switch, deltas),
                // The look-up's registers may be what is stuck; what they had counted is lost then.
                Err(error) => tracing::warn!("switch {}: {}", self.switch.name, chain(&error)),
            }
            tracing::info!("switch {}: the card is reset", self.switch.name);
            let control = opened.card.read32(CONTROL)?;
            opened.card.write32(CONTROL, control | RESET)?;
            offload.was_reset();
            if let Some(macs) = &mut self.macs {
                macs.restart();
            }
            self.seconds = 0;
            Ok::<(), AccessError>(())
        })();
        if let Err(error) = outcome {
            return self.fail("resetting the card", &error, now);
        }
        self.rates.clear();
        self.recovery.health = Health::after_reset();
        self.recovery.offered = [0; 4];
        self.recovery.state = State::Clearing(now);
        self.recovery.next = now + CLEARING;
    }

    /// After a reset: whether the exact table answers; then the settings and the watchdog are
    /// written, and the tables with the next `follow`.
    fn cleared(&mut self, since: Time, now: Time) {
        self.recovery.next = now + CLEARING;
        let watched = self.watched();
        let Some(opened) = &mut self.card else { return };
        let Some(rows) = opened.profile.flow_table else { return };
        let (profile, muted) = (&opened.profile, self.recovery.muted);
        let outcome = (|| {
            if is_no_answer(opened.card.read32(rows.exact)?) {
                return Ok(false);
            }
            self.recovery.settings.write(&mut opened.card)?;
            if let Some(at) = muted.and_then(|(port, _)| self.card_ports.get(&port)) {
                receiver(opened.card.as_mut(), profile, *at, false)?;
            }
            if let Some(dog) = profile.watchdog.filter(|_| watched) {
                opened.card.write32(dog.enable, 1)?;
            }
            Ok::<bool, AccessError>(true)
        })();
        match outcome {
            Ok(true) => {
                self.recovery.state = State::Watching;
                self.recovery.next = now + LOOK;
            }
            Ok(false) if now.since(since) < PATIENCE => {}
            Ok(false) => {
                let error = AccessError::TimedOut {
                    access: tandem_fpga_config::registers::Access::Read(rows.exact),
                    within: PATIENCE,
                };
                self.fail("waiting for the card after its reset", &error, now);
            }
            Err(error) => self.fail("writing the card anew", &error, now),
        }
    }

    fn unmute(&mut self, now: Time) {
        let Some((port, _)) = self.recovery.muted.filter(|(_, until)| now >= *until) else { return };
        self.recovery.muted = None;
        let (Some(opened), Some(at)) = (&mut self.card, self.card_ports.get(&port)) else { return };
        match receiver(opened.card.as_mut(), &opened.profile, *at, true) {
            Ok(()) => self.say(format!("the receiver of port {port} is on again")),
            Err(error) => self.fail("switching a receiver on", &error, now),
        }
    }
}

/// Switches the receiver of a port of the card on or off.
fn receiver(card: &mut dyn Registers, profile: &Profile, port: u8, on: bool) -> Result<(), AccessError> {
    let Some(address) = profile.port_register("MAC_GRP", port, "CONTROL") else { return Ok(()) };
    let control = card.read32(address)?;
    card.write32(address, if on { control & !MUTE } else { control | MUTE })
}

/// The registers of a look; `None` where the bitfile has not those, or they do not answer.
fn look(card: &mut dyn Card, profile: &Profile, offered: &mut [u64; 4]) -> Result<Option<Look>, AccessError> {
    let Some(path) = profile.data_path.as_ref().filter(|p| p.entered_clears) else { return Ok(None) };
    let entered = card.read32(path.entered)?;
    let mut waiting = 0;
    for (port, offered) in (0..).zip(offered.iter()) {
        let in_queue = match profile.port_register("MAC_GRP", port, "RX_QUEUE_NUM_PKTS_IN_QUEUE") {
            Some(address) => Some(card.read32(address)?).filter(|v| !is_no_answer(*v)).unwrap_or(0),
            None => 0,
        };
        let there = u64::from(in_queue) + offered;
        if there > 0 && receives(card, profile, port)? {
            waiting += there;
        }
    }
    card.wait(DRAIN);
    let mut decided = 0u32;
    for address in &path.decided {
        let value = card.read32(*address)?;
        if is_no_answer(value) {
            return Ok(None);
        }
        decided = decided.wrapping_add(value);
    }
    let meanwhile = card.read32(path.entered)?;
    if is_no_answer(entered) || is_no_answer(meanwhile) {
        return Ok(None);
    }
    if entered > 0 || meanwhile > 0 {
        *offered = [0; 4];
    }
    Ok(Some(Look { entered, waiting, decided, meanwhile }))
}

/// Whether a port takes frames: its MAC's receiver and queue are on, and it has a link.
fn receives(card: &mut dyn Card, profile: &Profile, port: u8) -> Result<bool, AccessError> {
    if let Some(address) = profile.port_register("MAC_GRP", port, "CONTROL")
        && card.read32(address)? & NOT_RECEIVING != 0
    {
        return Ok(false);
    }
    Ok(info::link(card, profile, port)? != Some(false))
}
