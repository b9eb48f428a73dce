//! What every service of the core is handed: the site, the time, and where it leaves what is to be
//! done.
//!
//! A service never acts. It leaves effects here, in their order, and timers; it marks which parts
//! of the snapshot are out of date; and it leaves a [`Signal`] where a later service has to follow.

use crate::dirty::Dirty;
use crate::signal::Signal;
use crate::timers::Timers;
use std::collections::VecDeque;
use std::sync::Arc;
use tandem_model::text::escaped_to;
use tandem_model::{Effect, Level, LinkId, Notice, RequestId, Response, Site, SiteEvent, Time};

/// The wall clock, as an offset of the monotonic clock that the core is given.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WallClock {
    /// Nanoseconds by which it is ahead of `now`; below zero, behind.
    pub(crate) ahead: i64,
    /// It is being written down that a controller runs.
    pub(crate) writing: bool,
}

impl Context {
    /// What the wall clock showed, or will show, at a moment by `now`.
    pub(crate) fn by_wall_clock(&self, at: Time) -> Time {
        at.moved(self.wall_clock.ahead)
    }

    /// What the wall clock shows.
    pub(crate) fn wall_now(&self) -> Time {
        self.by_wall_clock(self.now)
    }
}

/// How many notices the snapshot keeps.
const NOTICES: usize = 200;

/// Characters of a notice's text at most.
const NOTICE_TEXT: usize = 1000;

/// The site, the time, and everything that leaves the core or comes back to it later.
pub(crate) struct Context {
    pub(crate) site: Arc<Site>,
    pub(crate) now: Time,
    pub(crate) wall_clock: WallClock,
    pub(crate) timers: Timers,
    pub(crate) notices: VecDeque<Notice>,
    pub(crate) dirty: Dirty,
    pub(crate) effects: Vec<Effect>,
    /// What this call has changed in the data centre, in order.
    pub(crate) site_events: Vec<SiteEvent>,
    /// What later services have to follow. The engine empties it before the event ends.
    pub(crate) signals: VecDeque<Signal>,
}

impl Context {
    pub(crate) fn new(site: Arc<Site>, now: Time) -> Context {
        Context {
            now,
            wall_clock: WallClock::default(),
            timers: Timers::default(),
            notices: VecDeque::new(),
            dirty: Dirty::all(site.topology.switches.len()),
            effects: Vec::new(),
            site_events: Vec::new(),
            signals: VecDeque::new(),
            site,
        }
    }

    /// Leaves word for a later service.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.signals.push_back(signal);
    }

    /// Says what has changed in the data centre.
    pub(crate) fn tell(&mut self, event: SiteEvent) {
        self.site_events.push(event);
    }

    pub(crate) fn answer(&mut self, id: RequestId, response: Response) {
        self.effects.push(Effect::Response { id, response });
    }

    pub(crate) fn notice(&mut self, level: Level, kind: &str, text: String) {
        // Names and reasons in it may be others' words: it stays one line, and is cut.
        let text = escaped_to(&text, NOTICE_TEXT).to_string();
        let notice = Notice { at: self.wall_now(), level, kind: kind.to_owned(), text };
        if self.notices.len() == NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(notice.clone());
        self.dirty.notices = true;
        self.effects.push(Effect::Notice { notice });
    }

    pub(crate) fn link_name(&self, id: LinkId) -> String {
        self.site.topology.link_name(id)
    }
}
