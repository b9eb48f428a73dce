//! Whom a hypervisor service serves, and what it keeps with its VMs for controllers to come.
//!
//! One controller at a time is served, known by its store's identity. While it is attached, another
//! one is refused and both are told; when it has gone, the next one is served and finds the VMs
//! that are there, each with what it was asked for with.

use crate::control::service::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use tandem_agent_protocol::hypervisor as wire;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Between two words to the controller that is served about another one that tries.
const RIVALS: Duration = Duration::from_secs(60);
/// Characters of what a controller says of itself at most.
const NAME: usize = 100;

/// Who attaches, by what he says of himself. One that says nothing is an older version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Controller {
    store: String,
    site: String,
}

impl Controller {
    /// By the metadata of its request.
    pub fn of(metadata: &MetadataMap) -> Controller {
        let text = |key: &str| -> String {
            let value = metadata.get(key).and_then(|v| v.to_str().ok()).unwrap_or_default();
            value.chars().filter(char::is_ascii_graphic).take(NAME).collect()
        };
        Controller { store: text("tandem-store"), site: text("tandem-site") }
    }

    fn is(&self, other: &Controller) -> bool {
        self.store == other.store
    }
}

impl std::fmt::Display for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.store.is_empty() {
            return f.write_str("one that does not say who it is");
        }
        write!(f, "the one with the store {} of site {}", self.store, self.site)
    }
}

/// Held by a controller's attachment for as long as it lasts.
pub type Attached = Arc<()>;

/// Whom a service serves.
#[derive(Debug, Default)]
pub struct Served(Mutex<Option<Last>>);

/// A controller, what lives as long as its attachment does, and a moment of it.
type Last = (Controller, Weak<()>, Option<Instant>);

/// What a controller that is not served is answered, and what the one that is served is to be told.
#[derive(Debug)]
pub struct Refused {
    /// The answer.
    pub status: Status,
    /// Not every time.
    pub rival: Option<wire::Rival>,
}

impl Served {
    /// Lets a controller attach to the service `world`, unless another one is attached.
    ///
    /// # Errors
    /// When another one is.
    pub fn admit(&self, world: &str, who: Controller, now: Instant) -> Result<Attached, Box<Refused>> {
        let mut served = lock(&self.0);
        if let Some((first, attached, said)) = served.as_mut()
            && !first.is(&who)
            && attached.strong_count() > 0
        {
            let say = said.is_none_or(|at| now.duration_since(at) >= RIVALS);
            let rival = say.then(|| wire::Rival { who: who.to_string() });
            *said = if say { Some(now) } else { *said };
            let text = format!(
                "{world} serves another controller, {first}; stop that one first (its VMs live on, and this one finds them), or give \
                 this one a lab of its own (--world)"
            );
            return Err(Box::new(Refused { status: Status::failed_precondition(text), rival }));
        }
        let attached = Attached::default();
        *served = Some((who, Arc::downgrade(&attached), None));
        Ok(attached)
    }
}

/// What VMs were last asked for with.
#[derive(Debug, Default)]
pub struct VmRecords(Mutex<BTreeMap<u64, wire::Allocate>>);

impl VmRecords {
    /// Adds to each VM what is kept with it, and forgets those that are not there.
    pub fn complete(&self, hello: &mut wire::Hello) {
        let mut kept = lock(&self.0);
        kept.retain(|vm, _| hello.vms.iter().any(|r| r.vm == *vm));
        for running in &mut hello.vms {
            running.kept = kept.get(&running.vm).cloned();
        }
    }

    /// Keeps this with a VM from now on.
    pub fn put(&self, order: wire::Allocate) {
        lock(&self.0).insert(order.vm, order);
    }

    /// A VM is gone.
    pub fn forget(&self, vm: u64) {
        lock(&self.0).remove(&vm);
    }

    /// Something of what a VM was asked for with has changed.
    pub fn change(&self, vm: u64, change: impl FnOnce(&mut wire::Allocate)) {
        if let Some(kept) = lock(&self.0).get_mut(&vm) {
            change(kept);
        }
    }

    /// The VM that was asked for with this name.
    pub fn named(&self, name: &str) -> Option<u64> {
        lock(&self.0).values().find(|order| order.name == name && !name.is_empty()).map(|order| order.vm)
    }

    /// False for a VM that was made for another request than this one.
    pub fn is_meant(&self, vm: u64, placed_at: Option<u64>) -> bool {
        let made_for = lock(&self.0).get(&vm).and_then(|a| a.origin).map(|o| o.placed_at_ns);
        match (made_for, placed_at) {
            (Some(is), Some(meant)) => is == meant,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller(store: &str) -> Controller {
        Controller { store: store.into(), site: "dc".into() }
    }

    #[test]
    fn one_controller_is_served_and_the_next_when_it_has_gone() {
        let served = Served::default();
        let now = Instant::now();
        let first = served.admit("lab", controller("a"), now).expect("nobody is served");
        let refused = served.admit("lab", controller("b"), now).expect_err("a is served");
        assert_eq!(refused.status.code(), tonic::Code::FailedPrecondition);
        for word in ["store a of site dc", "stop that one first", "--world"] {
            assert!(refused.status.message().contains(word), "{}", refused.status.message());
        }
        assert!(refused.rival.is_some_and(|r| r.who.contains("store b")));
        // The first one is told once a minute, however often the other tries.
        let refused = served.admit("lab", controller("b"), now).expect_err("a is served");
        assert!(refused.rival.is_none());
        let refused = served.admit("lab", controller("b"), now + RIVALS).expect_err("a is served");
        assert!(refused.rival.is_some());
        // One that says nothing is another one.
        assert!(served.admit("lab", Controller::default(), now).is_err());
        // Its own new connection takes over from its old one.
        let again = served.admit("lab", controller("a"), now).expect("it is itself");
        drop(first);
        assert!(served.admit("lab", controller("b"), now).is_err(), "the new connection counts");
        drop(again);
        served.admit("lab", controller("b"), now).expect("the first one has gone");
    }

    #[test]
    fn a_vm_is_found_by_the_name_that_it_was_asked_for_with() {
        let records = VmRecords::default();
        for (vm, name) in [(1, "web"), (2, "")] {
            records.put(wire::Allocate { vm, name: name.into(), ..wire::Allocate::default() });
        }
        assert_eq!((records.named("web"), records.named("db"), records.named("")), (Some(1), None, None));
        records.forget(1);
        assert_eq!(records.named("web"), None);
    }

    #[test]
    fn what_a_controller_says_of_itself_is_cut_and_plain() {
        let mut metadata = MetadataMap::new();
        metadata.insert("tandem-store", "ab c".parse().expect("ASCII"));
        metadata.insert("tandem-site", "x".repeat(5000).parse().expect("ASCII"));
        let who = Controller::of(&metadata);
        assert_eq!((who.store.as_str(), who.site.len()), ("abc", NAME));
    }
}
