//! The published hosts: pages of neighbouring addresses, so that a snapshot after a change shares
//! all pages but those in which something changed with the one before.

use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tandem_model::{Mac, Time};

/// Addresses of a page, as a number of bits: what is copied with each change is a page, and the
/// list of pages.
const PAGE_BITS: u32 = 7;

type Page = BTreeMap<Ipv4Addr, Arc<HostView>>;

/// The hosts of a snapshot, in pages that unchanged snapshots share.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostViews(Arc<BTreeMap<u32, Arc<Page>>>);

impl HostViews {
    /// In order of address.
    pub fn iter(&self) -> impl Iterator<Item = &HostView> {
        self.0.values().flat_map(|page| page.values()).map(AsRef::as_ref)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(|page| page.len()).sum()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts one in the place of what was published of that address, or takes it away.
    pub(crate) fn set(&mut self, address: Ipv4Addr, view: Option<HostView>) {
        let pages = Arc::make_mut(&mut self.0);
        let number = address.to_bits() >> PAGE_BITS;
        match view {
            Some(view) => {
                Arc::make_mut(pages.entry(number).or_default()).insert(address, Arc::new(view));
            }
            None => {
                let Some(page) = pages.get_mut(&number) else { return };
                Arc::make_mut(page).remove(&address);
                if page.is_empty() {
                    pages.remove(&number);
                }
            }
        }
    }

    /// How many pages are not the same allocation in both.
    pub fn pages_apart(&self, other: &HostViews) -> usize {
        let same = |(n, page): &(&u32, &Arc<Page>)| other.0.get(n).is_some_and(|p| Arc::ptr_eq(p, page));
        self.0.iter().filter(|entry| !same(entry)).count()
    }
}

impl Serialize for HostViews {
    /// A list.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// A host as the network shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HostView {
    /// Name, or `an unknown host`.
    pub name: String,
    /// `server`, `gateway`, `vm`, `unknown`.
    pub kind: String,
    /// Address.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub address: Ipv4Addr,
    /// Ethernet address.
    pub mac: Mac,
    /// Where it was seen, e.g. `edge1.3`; `None` while it is not there.
    pub at: Option<String>,
    /// When it was seen last.
    pub seen: Option<Time>,
}
