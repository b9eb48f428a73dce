//! The controller that a hypervisor service, a host or a pool serves, identified by its store's
//! identity.

use tandem_model::text::escaped_to;
use tandem_model::{StoreIdentity, StoreUid};

/// A controller, as its hypervisors know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its store's identity.
    pub store: StoreUid,
    /// Its site's name.
    pub site: String,
}

impl Owner {
    /// The controller with this store.
    pub fn of(identity: &StoreIdentity) -> Owner {
        Owner { store: identity.id, site: identity.site.clone() }
    }

    /// Its line in a host's record: the store's identity, a space, the site's name.
    pub fn line(&self) -> String {
        let site: String = self.site.chars().filter(|c| !c.is_control()).take(200).collect();
        format!("{} {site}", self.store)
    }

    /// Parses such a line; `None` if it is malformed.
    pub fn read(line: &str) -> Option<Owner> {
        let (store, site) = line.trim_end_matches('\n').split_once(' ')?;
        let plain = site.len() <= 1000 && !site.contains(char::is_control);
        plain.then_some(Owner { store: store.parse().ok()?, site: site.to_owned() })
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the one with the store {} of site {}", self.store, escaped_to(&self.site, 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_leads_back_to_its_owner_and_nothing_else_does() {
        let owner = Owner { store: StoreUid(7), site: "two words".into() };
        assert_eq!(Owner::read(&format!("{}\n", owner.line())), Some(owner));
        for wrong in ["", "7 dc", "00000000000000000000000000000007", "zz dc", "\u{1b} x"] {
            assert_eq!(Owner::read(wrong), None, "{wrong:?}");
        }
    }
}
