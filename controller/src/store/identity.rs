//! The identity of a store, which is created with it, and the site that its records were written
//! for.
//!
//! Records refer to servers, switches, links and gateways by their index in the site file, so a
//! store is valid for that site only, and for later versions of the site with additions at the end
//! of each list. The [`Layout`] keeps the lists.

use anyhow::bail;
use rand::RngExt;
use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use tandem_model::{NodeId, Site, StoreIdentity, StoreUid, Time};

/// The lists of a site that records refer to by index.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Layout {
    /// Switches, by their datapath ids.
    pub switches: Vec<String>,
    /// Servers, by their names.
    pub servers: Vec<String>,
    /// Gateways, by their names.
    pub gateways: Vec<String>,
    /// Links, by their ends: `edge1:3 srv1:1`.
    pub links: Vec<String>,
    /// Service classes, by their names.
    pub classes: Vec<String>,
}

impl Layout {
    /// The layout of a site.
    pub fn of(site: &Site) -> Layout {
        let topology = &site.topology;
        let node = |node: NodeId| match node {
            NodeId::Switch(id) => topology.switch(id).map(|s| s.dpid.to_string()).unwrap_or_default(),
            NodeId::Server(_) | NodeId::Gateway(_) => topology.name(node).to_owned(),
        };
        let end = |end: tandem_model::Endpoint| format!("{}:{}", node(end.node), end.port);
        Layout {
            switches: topology.switches.iter().map(|s| s.dpid.to_string()).collect(),
            servers: topology.servers.iter().map(|s| s.name.clone()).collect(),
            gateways: topology.gateways.iter().map(|g| g.name.clone()).collect(),
            links: topology.links.iter().map(|l| format!("{} {}", end(l.a), end(l.b))).collect(),
            classes: site.classes.iter().map(|c| c.name.clone()).collect(),
        }
    }

    /// SHA-256 of all of it and the site's name.
    pub fn fingerprint(&self, site: &str) -> String {
        let mut bytes = Vec::new();
        let lists = [&self.switches, &self.servers, &self.gateways, &self.links, &self.classes];
        let texts = std::iter::once(site).chain(lists.iter().flat_map(|list| {
            // The end of a list is distinguished from a name: no name has this character.
            list.iter().map(String::as_str).chain(std::iter::once("\u{1e}"))
        }));
        for text in texts {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0x1f);
        }
        hex(digest(&SHA256, &bytes).as_ref())
    }

    /// True when two sites have at least a server or a switch in common.
    fn shares_anything(&self, other: &Layout) -> bool {
        self.servers.iter().any(|s| other.servers.contains(s))
            || self.switches.iter().any(|s| other.switches.contains(s))
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The single row of the table `site`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    #[serde(flatten)]
    pub(super) identity: StoreIdentity,
    pub(super) layout: Layout,
}

/// Reads the owner of a store, or makes it this site's if it has none yet (new, or created before
/// stores had an identity).
///
/// When it is another site's, or cannot be read or written.
pub(super) fn adopt(db: &Connection, path: &str, site: &Site, now: Time) -> anyhow::Result<Owner> {
    let layout = Layout::of(site);
    let Some(owner) = read(db, path)? else {
        let identity = StoreIdentity {
            id: StoreUid(rand::rng().random()),
            site: site.name.clone(),
            fingerprint: layout.fingerprint(&site.name),
            made_at: now,
        };
        let owner = Owner { identity, layout };
        write(db, &owner)?;
        return Ok(owner);
    };
    let other = owner.identity.site != site.name || !owner.layout.shares_anything(&layout);
    if other {
        bail!(
            "the store {path} is of site {:?} (identity {}, made {}, fingerprint {:.12}); you serve {:?} (fingerprint \
             {:.12}): give that site's own store with --store, or serve the site file that this store is of",
            owner.identity.site,
            owner.identity.id,
            super::date(owner.identity.made_at),
            owner.identity.fingerprint,
            site.name,
            layout.fingerprint(&site.name),
        );
    }
    Ok(owner)
}

/// The owner of a store; `None` if it has none yet.
pub(super) fn read(db: &Connection, path: &str) -> anyhow::Result<Option<Owner>> {
    let row: Option<String> =
        db.query_row("SELECT record FROM site WHERE id = 1", [], |row| row.get(0)).optional()?;
    row.map(|text| {
        serde_json::from_str(&text)
            .map_err(|error| anyhow::anyhow!("site 1 in the store {path} is damaged: {error}"))
    })
    .transpose()
}

/// Writes the owner of a store.
pub(super) fn write(db: &Connection, owner: &Owner) -> anyhow::Result<()> {
    db.execute("INSERT OR REPLACE INTO site VALUES (1, ?1)", [serde_json::to_string(owner)?])?;
    Ok(())
}
