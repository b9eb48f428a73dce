//! Where the VM of a move is, by what both hosts have of it, and what has to be cleaned up. Pure: a
//! table.
//!
//! What `xl migrate` guarantees (xl_migrate.c): the new domain is called `NAME--incoming` and has
//! never run until the source has said "go" and it was renamed; the old one is destroyed only after
//! the new host has said that it runs there. So an incoming domain can always go, a domain that
//! runs at the target is the VM, and one that is suspended at the source may run again as long as
//! the target has none that ran. When a host does not answer, nothing that only it could tell is
//! decided.

use super::host::Ours;
use crate::FoundState;

/// What a host has of the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// It does not answer.
    Silent,
    /// Nothing, or only what is dying.
    None,
    /// It waits for its memory; it has never run there.
    Incoming,
    /// It is paused under its own name.
    Paused,
    /// It is suspended for a migration, or shut down.
    Suspended,
    /// It runs.
    Running,
}

/// What is to be done on both hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    /// Destroy what the source has.
    DestroySource,
    /// Destroy what the target has.
    DestroyTarget,
    /// Let the source's run on.
    ResumeSource,
    /// Let the target's run.
    UnpauseTarget,
}

/// Where the VM is when the acts are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Source,
    Target,
    Lost,
    Unknown,
}

/// What counts of several domains of one VM: the one that is most alive.
pub(crate) fn side(domains: &[Ours]) -> Side {
    let one = |o: &Ours| match o.state() {
        FoundState::Running => Side::Running,
        FoundState::Paused if o.domain.state.shutdown => Side::Suspended,
        FoundState::Paused => Side::Paused,
        FoundState::Incoming => Side::Incoming,
        FoundState::Halted | FoundState::Dying => Side::None,
    };
    domains.iter().map(one).max().unwrap_or(Side::None)
}

/// What is to be done, and where the VM is then. Nothing of the move runs on either host any more.
pub(crate) fn resolution(source: Side, target: Side) -> (Vec<Act>, Place) {
    use Act::{DestroySource, DestroyTarget, ResumeSource, UnpauseTarget};
    use Side::{Incoming, None, Paused, Running, Silent, Suspended};
    match (source, target) {
        // It arrived: whatever the source has is what it left behind.
        (Silent | None, Running) => (vec![], Place::Target),
        (Incoming | Paused | Suspended, Running) => (vec![DestroySource], Place::Target),
        // Not by a migration: somebody has started it twice, or the target's is another VM. One
        // that runs is never destroyed; the one that was there before counts.
        (Running, Running) => (vec![], Place::Source),
        // It never left. A silent target is cleaned when it answers.
        (Running, Silent | None) => (vec![], Place::Source),
        (Running, Incoming | Paused | Suspended) => (vec![DestroyTarget], Place::Source),
        // It was stopped for the hand-over, and the target has not let it run.
        (Paused | Suspended, None) => (vec![ResumeSource], Place::Source),
        (Paused | Suspended, Incoming | Paused | Suspended) => {
            (vec![DestroyTarget, ResumeSource], Place::Source)
        }
        // The target may run it: to resume it here might make two of it.
        (Paused | Suspended | Incoming | None, Silent) | (Silent, Silent) => (vec![], Place::Unknown),
        // The source is silent and the target has nothing that ran: it is at the source, or lost
        // with it.
        (Silent, None) => (vec![], Place::Source),
        (Silent, Incoming) => (vec![DestroyTarget], Place::Source),
        // It was told to go and did not come to run; the source may have taken it back.
        (Silent, Paused | Suspended) => (vec![], Place::Unknown),
        // Only the target has it, whole: the source has destroyed its own.
        (None, Paused) => (vec![UnpauseTarget], Place::Target),
        (Incoming, Paused) => (vec![DestroySource, UnpauseTarget], Place::Target),
        // What never ran is no VM.
        (None | Incoming, Incoming | Suspended) => (vec![DestroyTarget], Place::Lost),
        (None | Incoming, None) => (vec![], Place::Lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Side; 6] =
        [Side::Silent, Side::None, Side::Incoming, Side::Paused, Side::Suspended, Side::Running];

    /// What becomes of a side by acts.
    fn after(side: Side, acts: &[Act], destroy: Act, run: Act) -> Side {
        acts.iter().fold(side, |s, act| match act {
            a if *a == destroy => Side::None,
            a if *a == run => Side::Running,
            _ => s,
        })
    }

    #[test]
    fn no_pair_of_sides_ends_with_two_of_it_or_touches_a_silent_host() {
        for source in ALL {
            for target in ALL {
                let (acts, place) = resolution(source, target);
                let on_source = [Act::DestroySource, Act::ResumeSource];
                let on_target = [Act::DestroyTarget, Act::UnpauseTarget];
                assert!(
                    source != Side::Silent || !acts.iter().any(|a| on_source.contains(a)),
                    "{source:?} {target:?}"
                );
                assert!(
                    target != Side::Silent || !acts.iter().any(|a| on_target.contains(a)),
                    "{source:?} {target:?}"
                );
                let s = after(source, &acts, Act::DestroySource, Act::ResumeSource);
                let t = after(target, &acts, Act::DestroyTarget, Act::UnpauseTarget);
                let two = source == Side::Running && target == Side::Running;
                assert!(
                    two || !(s == Side::Running && t == Side::Running),
                    "two of it: {source:?} {target:?}"
                );
                // A running one is never destroyed, whoever has started it.
                let destroyed = (source == Side::Running && s == Side::None)
                    || (target == Side::Running && t == Side::None);
                assert!(!destroyed, "{source:?} {target:?}");
                match place {
                    Place::Source => {
                        assert!(matches!(s, Side::Running | Side::Silent), "{source:?} {target:?}")
                    }
                    Place::Target => assert_eq!(t, Side::Running, "{source:?} {target:?}"),
                    Place::Lost => assert!(s != Side::Silent && t != Side::Silent, "{source:?} {target:?}"),
                    Place::Unknown => assert!(acts.is_empty(), "{source:?} {target:?}"),
                }
                // Asked again after the acts, the answer is the same.
                if place != Place::Lost {
                    assert_eq!(resolution(s, t), (vec![], place), "{source:?} {target:?}");
                }
            }
        }
    }

    #[test]
    fn the_states_that_cut_migrations_leave_are_resolved() {
        use Side::{Incoming, None, Running, Silent, Suspended};
        // The target's machine died during pre-copy.
        assert_eq!(resolution(Running, Silent), (vec![], Place::Source));
        // The session was cut: an incoming domain stays paused.
        assert_eq!(resolution(Running, Incoming), (vec![Act::DestroyTarget], Place::Source));
        // A stalled hand-over: nobody runs it.
        let both = vec![Act::DestroyTarget, Act::ResumeSource];
        assert_eq!(resolution(Suspended, Incoming), (both, Place::Source));
        // The target's machine died during the hand-over: nobody can tell.
        assert_eq!(resolution(Suspended, Silent), (vec![], Place::Unknown));
        // It was started anew since: it runs nothing any more.
        assert_eq!(resolution(Suspended, None), (vec![Act::ResumeSource], Place::Source));
        // The source's machine died.
        assert_eq!(resolution(Silent, Incoming), (vec![Act::DestroyTarget], Place::Source));
        assert_eq!(resolution(Silent, Running), (vec![], Place::Target));
        assert_eq!(resolution(None, None), (vec![], Place::Lost));
    }
}
