//! Decides where the VM of a move is, and what has to be cleaned up, from the domains on both
//! hosts. Pure: a table.
//!
//! What `xl migrate` guarantees (xl_migrate.c): the new domain is called `NAME--incoming` and has
//! never run until the source has said "go" and it was renamed; the old one is destroyed only after
//! the new host has said that it runs there. So an incoming domain can always be destroyed, a
//! domain that runs at the target is the VM, and one that is suspended at the source may be resumed
//! as long as the target has none that ran. When a host does not answer, nothing is decided that
//! depends on it.

use super::host::Ours;
use crate::FoundState;

/// A host's domain of the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The host does not answer.
    Silent,
    /// There is none, or only one that is dying.
    None,
    /// It is incoming; it has never run there.
    Incoming,
    /// It is paused under its own name.
    Paused,
    /// It is suspended for a migration, or shut down.
    Suspended,
    /// It runs.
    Running,
}

/// An action on one of the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    /// Destroy the source's domain.
    DestroySource,
    /// Destroy the target's domain.
    DestroyTarget,
    /// Resume the source's domain.
    ResumeSource,
    /// Unpause the target's domain.
    UnpauseTarget,
}

/// Where the VM is after the actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Source,
    Target,
    Lost,
    Unknown,
}

/// Of several domains of a VM, the state of the most alive one.
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

/// The actions, and the VM's place afterwards. No process of the move runs on either host any more.
pub(crate) fn resolution(source: Side, target: Side) -> (Vec<Act>, Place) {
    use Act::{DestroySource, DestroyTarget, ResumeSource, UnpauseTarget};
    use Side::{Incoming, None, Paused, Running, Silent, Suspended};
    match (source, target) {
        // It has arrived: the source's domain is left over.
        (Silent | None, Running) => (vec![], Place::Target),
        (Incoming | Paused | Suspended, Running) => (vec![DestroySource], Place::Target),
        // Not the result of a migration: somebody has started it twice, or the target's is another
        // VM. A running domain is never destroyed; the source's counts.
        (Running, Running) => (vec![], Place::Source),
        // It never left. A target that does not answer is cleaned up later.
        (Running, Silent | None) => (vec![], Place::Source),
        (Running, Incoming | Paused | Suspended) => (vec![DestroyTarget], Place::Source),
        // It was stopped for the hand-over, and the target has not started it.
        (Paused | Suspended, None) => (vec![ResumeSource], Place::Source),
        (Paused | Suspended, Incoming | Paused | Suspended) => {
            (vec![DestroyTarget, ResumeSource], Place::Source)
        }
        // The target may run it: resuming it here could make two of it.
        (Paused | Suspended | Incoming | None, Silent) | (Silent, Silent) => (vec![], Place::Unknown),
        // The source does not answer, and the target has none that ran: it is on the source, or
        // lost with it.
        (Silent, None) => (vec![], Place::Source),
        (Silent, Incoming) => (vec![DestroyTarget], Place::Source),
        // The target was told to start it and did not; the source may have resumed it.
        (Silent, Paused | Suspended) => (vec![], Place::Unknown),
        // Only the target has it, completely: the source has destroyed its own.
        (None, Paused) => (vec![UnpauseTarget], Place::Target),
        (Incoming, Paused) => (vec![DestroySource, UnpauseTarget], Place::Target),
        // A domain that never ran is not the VM.
        (None | Incoming, Incoming | Suspended) => (vec![DestroyTarget], Place::Lost),
        (None | Incoming, None) => (vec![], Place::Lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Side; 6] =
        [Side::Silent, Side::None, Side::Incoming, Side::Paused, Side::Suspended, Side::Running];

    /// A side after actions.
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
                // A running domain is never destroyed, whoever has started it.
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
                // Repeated after the actions, the decision is the same.
                if place != Place::Lost {
                    assert_eq!(resolution(s, t), (vec![], place), "{source:?} {target:?}");
                }
            }
        }
    }

    #[test]
    fn the_states_that_cut_migrations_leave_are_resolved() {
        use Side::{Incoming, None, Running, Silent, Suspended};
        // The target's machine failed during pre-copy.
        assert_eq!(resolution(Running, Silent), (vec![], Place::Source));
        // The connection was lost: an incoming domain stays paused.
        assert_eq!(resolution(Running, Incoming), (vec![Act::DestroyTarget], Place::Source));
        // A stalled hand-over: it runs on neither host.
        let both = vec![Act::DestroyTarget, Act::ResumeSource];
        assert_eq!(resolution(Suspended, Incoming), (both, Place::Source));
        // The target's machine failed during the hand-over: the place is unknown.
        assert_eq!(resolution(Suspended, Silent), (vec![], Place::Unknown));
        // The target was rebooted since: it has no domain any more.
        assert_eq!(resolution(Suspended, None), (vec![Act::ResumeSource], Place::Source));
        // The source's machine failed.
        assert_eq!(resolution(Silent, Incoming), (vec![Act::DestroyTarget], Place::Source));
        assert_eq!(resolution(Silent, Running), (vec![], Place::Target));
        assert_eq!(resolution(None, None), (vec![], Place::Lost));
    }
}
