//! The wanted egress of an interface, as a value.

use super::class::Class;
use super::filter::{CATCH_ALL, Filter, Select};
use std::collections::{BTreeMap, BTreeSet};

/// HTB has eight levels (net/sched/sch_htb.c: TC_HTB_MAXDEPTH).
const DEPTH: usize = 8;

/// An egress: an HTB with handle 1:, its classes, and the filters that assign packets to them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// The number of the class for packets that no filter matches. Without such a class, they
    /// bypass all shaping.
    pub default: u16,
    /// The classes.
    pub classes: Vec<Class>,
    /// The filters.
    pub filters: Vec<Filter>,
}

/// Why a tree is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A class has number 0, which is the root's.
    #[error("a class has the number 0, which is the root's; number classes from 1")]
    ClassZero,
    /// Two classes have the same number.
    #[error("two classes have the number {0}; give each its own")]
    ClassTwice(u16),
    /// A class's parent does not exist.
    #[error("class {class} is under {parent}, which is no class of this tree")]
    NoParent {
        /// Which class.
        class: u16,
        /// Its parent.
        parent: u16,
    },
    /// The kernel has eight levels; or a class is its own ancestor.
    #[error("class {0} is more than 8 levels deep, or under itself; the kernel has 8 levels")]
    TooDeep(u16),
    /// A class has no rate.
    #[error("class {0} has a rate or a ceiling below 8 bit/s, the kernel's least")]
    NoRate(u16),
    /// The preference of a filter is reserved.
    #[error("a filter has the preference {0}; 1 to 65534 can be used")]
    Preference(u16),
    /// Two filters have the same preference.
    #[error("two filters have the preference {0}; give each its own")]
    PreferenceTwice(u16),
    /// The class of a filter does not exist or has children.
    #[error("the filter of preference {priority} is for class {class}, which is no class without children")]
    NoLeaf {
        /// Which filter.
        priority: u16,
        /// Its class.
        class: u16,
    },
    /// A filter's selection cannot be expressed.
    #[error(
        "the filter of preference {0} selects a DSCP above 63, a PCP above 7, or nothing that can be said"
    )]
    Selects(u16),
}

impl Tree {
    /// Whether the kernel accepts the tree; to be called before anything is changed.
    ///
    /// The first reason against it.
    pub fn check(&self) -> Result<(), Invalid> {
        let mut parents = BTreeMap::new();
        for class in &self.classes {
            if class.id == 0 {
                return Err(Invalid::ClassZero);
            }
            if class.rate < 8 || class.ceil < 8 {
                return Err(Invalid::NoRate(class.id));
            }
            if parents.insert(class.id, class.parent).is_some() {
                return Err(Invalid::ClassTwice(class.id));
            }
        }
        for class in &self.classes {
            let mut at = class.id;
            for depth in 0.. {
                if at == 0 {
                    break;
                }
                if depth == DEPTH {
                    return Err(Invalid::TooDeep(class.id));
                }
                at = *parents.get(&at).ok_or(Invalid::NoParent { class: class.id, parent: at })?;
            }
        }
        let inner: BTreeSet<u16> = parents.values().copied().collect();
        let mut preferences = BTreeSet::new();
        for filter in &self.filters {
            let priority = filter.priority;
            if priority == 0 || priority == CATCH_ALL {
                return Err(Invalid::Preference(priority));
            }
            if !preferences.insert(priority) {
                return Err(Invalid::PreferenceTwice(priority));
            }
            if filter.select == Select::Foreign || filter.normal() != *filter {
                return Err(Invalid::Selects(priority));
            }
            if !parents.contains_key(&filter.class) || inner.contains(&filter.class) {
                return Err(Invalid::NoLeaf { priority, class: filter.class });
            }
        }
        Ok(())
    }

    /// The same tree in the form in which the kernel reports it: classes by number, filters by
    /// preference, rates in whole bytes a second, bursts in whole ticks, computed values left out.
    /// Equivalent trees are then equal; [`super::read`] returns this form.
    #[must_use]
    pub fn normal(&self) -> Tree {
        let inner: BTreeSet<u16> = self.classes.iter().map(|c| c.parent).collect();
        let mut classes: Vec<Class> = self.classes.iter().map(|c| c.normal(inner.contains(&c.id))).collect();
        classes.sort_by_key(|c| c.id);
        let mut filters: Vec<Filter> = self.filters.iter().map(|f| f.normal()).collect();
        filters.sort_by_key(|f| f.priority);
        Tree { default: self.default, classes, filters }
    }
}
