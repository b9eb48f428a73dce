//! The detection of stopped data paths: no traffic between the readings may look like a fault, and
//! a stop under traffic must be detected.

use proptest::prelude::*;
use std::time::Duration;
use tandem_fpga_config::health::{Health, Look, Pauses, Verdict};
use tandem_model::Time;

/// A data path: frames wait, enter, and are decided; it can lag by one, or stop.
#[derive(Debug, Clone, Default)]
struct Path {
    waiting: u64,
    inside: u64,
    entered: u32,
    decided: u32,
    lags: bool,
    stops: bool,
    /// Number of frames that still enter after it has stopped.
    room: u64,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Arrive(u8),
    Enter(u8),
    Decide(u8),
    /// Another process reads the counter of entered frames.
    Steal,
    /// Another process writes the counters of decided frames.
    Write(u32),
}

impl Path {
    fn enter(&mut self, most: u64) {
        let most = if self.stops { most.min(self.room) } else { most };
        let n = most.min(self.waiting);
        if self.stops {
            self.room -= n;
        }
        self.waiting -= n;
        self.inside += n;
        self.entered = self.entered.wrapping_add(n as u32);
    }

    fn decide(&mut self, most: u64) {
        if self.stops {
            return;
        }
        let n = most.min(self.inside.saturating_sub(u64::from(self.lags)));
        self.inside -= n;
        self.decided = self.decided.wrapping_add(n as u32);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Arrive(n) => self.waiting += u64::from(n),
            Step::Enter(n) => self.enter(n.into()),
            Step::Decide(n) => self.decide(n.into()),
            Step::Steal => self.entered = 0,
            Step::Write(value) => self.decided = value,
        }
    }

    /// The readings of a driver, with steps in between.
    fn look(&mut self, between: &[Vec<Step>; 3]) -> Look {
        let [first, second, third] = between;
        let entered = std::mem::take(&mut self.entered);
        let had = self.inside;
        let before = self.decided;
        first.iter().for_each(|s| self.step(*s));
        let waiting = self.waiting;
        second.iter().for_each(|s| self.step(*s));
        // Frames inside at the start have had the time to be decided.
        let decided = u64::from(self.decided.wrapping_sub(before)).min(had);
        self.decide(had - decided);
        let decided = self.decided;
        third.iter().for_each(|s| self.step(*s));
        let meanwhile = std::mem::take(&mut self.entered);
        Look { entered, waiting, decided, meanwhile }
    }
}

fn traffic() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<u8>().prop_map(Step::Arrive),
        any::<u8>().prop_map(Step::Enter),
        any::<u8>().prop_map(Step::Decide),
        (0u8..3).prop_map(Step::Arrive),
        (0u8..3).prop_map(Step::Enter),
        (0u8..3).prop_map(Step::Decide),
    ]
}

type Round = (u64, Vec<Step>, [Vec<Step>; 3]);

/// Milliseconds, the steps in them, and the steps between the readings of the look that follows.
fn rounds(most: usize) -> impl Strategy<Value = Vec<Round>> {
    let steps = |most| proptest::collection::vec(traffic(), 0..most);
    let round = (0u64..200, steps(12), [steps(3), steps(3), steps(3)]);
    proptest::collection::vec(round, 1..most)
}

struct Watched {
    path: Path,
    health: Health,
    now: Time,
}

impl Watched {
    fn new(before: u32) -> Watched {
        let path = Path { decided: before, entered: before.wrapping_mul(7), ..Path::default() };
        Watched { path, health: Health::new(), now: Time::from_secs(1) }
    }

    fn round(&mut self, (ms, steps, between): &Round) -> Verdict {
        self.now = self.now + Duration::from_millis(*ms);
        if *ms > 0 {
            // A data path that accepts frames lets none wait for a millisecond.
            self.path.enter(u64::MAX);
        }
        steps.iter().for_each(|s| self.path.step(*s));
        self.health.look(self.path.look(between), self.now)
    }

    /// Looks without a frame inside.
    fn rest(&mut self, looks: usize) -> Vec<Verdict> {
        let quiet = (100, vec![Step::Enter(255), Step::Decide(255)], Default::default());
        (0..looks).map(|_| self.round(&quiet)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_traffic_looks_like_a_fault(before in prop_oneof![any::<u32>(), (u32::MAX - 300)..u32::MAX], rounds in rounds(30)) {
        let mut watched = Watched::new(before);
        for round in &rounds {
            let verdict = watched.round(round);
            prop_assert!(!verdict.is_ill(), "{verdict:?} of {:?}", watched.path);
        }
        // Without traffic nothing is even suspected.
        let rest = watched.rest(20);
        prop_assert!(watched.path.waiting > 0 || rest.ends_with(&[Verdict::Well]), "{rest:?}");
    }

    #[test]
    fn a_stop_under_traffic_is_always_seen(
        before: u32, healthy in rounds(10), room in 0u64..5, after in rounds(10), arrivals in 1u8..9,
    ) {
        let mut watched = Watched::new(before);
        healthy.iter().for_each(|r| { watched.round(r); });
        watched.path.stops = true;
        watched.path.room = room;
        after.iter().for_each(|r| { watched.round(r); });
        // Traffic goes on.
        let traffic = (100, vec![Step::Arrive(arrivals), Step::Enter(arrivals), Step::Decide(arrivals)], Default::default());
        let verdicts: Vec<Verdict> = (0..8).map(|_| watched.round(&traffic)).collect();
        prop_assert!(matches!(verdicts.last(), Some(Verdict::Stopped(_))), "{verdicts:?} of {:?}", watched.path);
    }

    #[test]
    fn a_card_that_falls_one_behind_is_seen_once_there_is_a_pause(
        before: u32, healthy in rounds(10), after in rounds(10),
    ) {
        let mut watched = Watched::new(before);
        healthy.iter().for_each(|r| { watched.round(r); });
        // A pause without a fault, after which the counts are known.
        watched.path.waiting = 0;
        watched.rest(12);
        watched.path.lags = true;
        watched.path.waiting = 1;
        after.iter().for_each(|r| { watched.round(r); });
        watched.path.waiting = watched.path.waiting.min(255);
        let rest = watched.rest(3);
        prop_assert_eq!(rest.last(), Some(&Verdict::Lags(1)));
    }

    #[test]
    fn a_counter_that_somebody_else_reads_or_writes_is_no_fault(
        before: u32, rounds in rounds(20), deed in prop_oneof![Just(Step::Steal), any::<u32>().prop_map(Step::Write), Just(Step::Write(0))],
        at in any::<proptest::sample::Index>(), place in 0usize..4,
    ) {
        let mut rounds = rounds;
        let at = at.index(rounds.len());
        let steps = if place == 3 { &mut rounds[at].1 } else { &mut rounds[at].2[place] };
        steps.push(deed);
        let mut watched = Watched::new(before);
        for round in &rounds {
            let verdict = watched.round(round);
            // A counter lowered by one during traffic looks like a card that lags; here this is
            // possible by chance only.
            prop_assert!(!verdict.is_ill(), "{verdict:?} of {:?} after {deed:?}", watched.path);
        }
        watched.path.waiting = 0;
        watched.rest(3);
        // Decided frames show that the counter was written.
        watched.path.waiting = 3;
        let rest = watched.rest(3);
        prop_assert_eq!(rest.last(), Some(&Verdict::Well));
    }
}

fn at(ms: u64) -> Time {
    Time::from_secs(5) + Duration::from_millis(ms)
}

#[test]
fn each_sign_must_last_and_each_way_out_of_it_ends_it() {
    let idle = Look::default();
    let look = |entered, decided, waiting, meanwhile| Look { entered, waiting, decided, meanwhile };
    // A gap of one after the reset, for less than 20 ms, for 20 ms, and with further frames.
    let mut health = Health::after_reset();
    assert_eq!(health.look(look(10, 9, 0, 0), at(0)), Verdict::Suspect);
    assert_eq!(health.look(look(0, 9, 0, 0), at(19)), Verdict::Suspect);
    assert_eq!(health.look(look(0, 9, 0, 0), at(20)), Verdict::Lags(1));
    assert_eq!(health.look(look(5, 14, 0, 0), at(30)), Verdict::Lags(1));
    // The frame was still inside.
    assert_eq!(health.look(look(0, 15, 0, 0), at(40)), Verdict::Well);
    // A frame entered during the look.
    assert_eq!(health.look(look(3, 17, 0, 1), at(50)), Verdict::Well);
    // Several frames, and none waits: it may be a counter that was written.
    assert_eq!(health.look(look(3, 17, 0, 0), at(60)), Verdict::Suspect);
    assert_eq!(health.look(look(0, 17, 0, 0), at(900)), Verdict::Suspect);
    // Then a frame waits, at two looks.
    assert_eq!(health.look(look(0, 17, 1, 0), at(1000)), Verdict::Suspect);
    assert_eq!(health.look(look(0, 17, 1, 0), at(1019)), Verdict::Suspect);
    assert_eq!(health.look(look(0, 17, 1, 0), at(1020)), Verdict::Stopped(5));
    // Frames are decided: the counter was written.
    assert_eq!(health.look(look(2, 19, 0, 0), at(1100)), Verdict::Well);
    assert_eq!(health.look(look(0, 19, 0, 0), at(1200)), Verdict::Well);
    // Another process has reset the card: the counters start at 0.
    assert_eq!(health.look(look(2, 2, 0, 0), at(1300)), Verdict::Well);
    assert_eq!(health.look(look(2, 4, 0, 0), at(1400)), Verdict::Well);
    // A frame waits, then it has entered.
    let mut health = Health::new();
    assert_eq!(health.look(idle, at(0)), Verdict::Well);
    assert_eq!(health.look(look(0, 0, 4, 0), at(100)), Verdict::Suspect);
    assert_eq!(health.look(look(4, 4, 0, 0), at(200)), Verdict::Well);
    assert_eq!(health.look(look(0, 4, 1, 0), at(300)), Verdict::Suspect);
    assert_eq!(health.look(look(0, 4, 1, 0), at(400)), Verdict::Stopped(0));
}

#[test]
fn three_in_a_minute_are_free_then_the_pause_grows_and_a_good_minute_ends_it() {
    let mut pauses = Pauses::default();
    let mut now = Time::from_secs(100);
    let mut waits = Vec::new();
    for _ in 0..12 {
        let wait = pauses.ill(now);
        waits.push(wait.as_secs());
        now = now + wait;
        pauses.recovered(now);
        now = now + Duration::from_secs(10);
    }
    assert_eq!(waits, [0, 0, 0, 5, 10, 20, 40, 80, 160, 300, 300, 300]);
    now = now + Duration::from_secs(50);
    assert_eq!(pauses.ill(now), Duration::ZERO, "a minute without an outage");
    // One every 25 s: never three in a minute.
    let mut pauses = Pauses::default();
    for n in 0..10u64 {
        let now = Time::from_secs(1000 + 25 * n);
        assert_eq!(pauses.ill(now), Duration::ZERO, "the {n}th");
        pauses.recovered(now);
    }
}
