//! The words that every part of Tandem shares, without I/O and without a clock.
//!
//! - [`ids`], [`units`]: small types that carry their meaning; [`spellings`]: how people write them.
//! - [`site`]: `site.toml` as written and as checked; [`topology`]: the data centre as arrays.
//! - [`vm`], [`rule`], [`traffic`]: what is asked for, wanted in switches, and generated;
//!   [`migration`]: VMs on their way; [`constraints`]: where VMs may run; [`explanation`]: what a
//!   request would lead to.
//! - [`text`]: foreign text made safe to show; [`text_request`]: the text protocol of the thesis; [`rate_limit`]: what one peer may cost.
//! - [`store_identity`]: what tells one controller's store from every other's; [`stray`]: VMs that
//!   a controller has no record of.
//! - [`datapath`]: what a switch can be made of, by name.
//! - [`event`]: the door of the core: facts in, effects out; [`site_event`]: what has changed in
//!   the data centre, for whoever follows it.

pub mod constraints;
pub mod counters;
pub mod datapath;
pub mod event;
pub mod explanation;
pub mod ids;
pub mod migration;
pub mod paths;
pub mod rate_limit;
pub mod rule;
#[cfg(feature = "schema")]
pub mod schema;
pub mod shapes;
pub mod site;
pub mod site_event;
pub mod spellings;
pub mod store_identity;
pub mod stray;
pub mod text;
pub mod text_request;
pub mod topology;
pub mod traffic;
pub mod units;
pub mod vm;

pub use constraints::{Constraints, OnPlace, Spread, SpreadLevel, VmGroupRequest};
pub use counters::*;
pub use datapath::{DatapathKind, UnknownDatapath};
pub use event::*;
pub use explanation::{Candidate, Change, Explanation, PlannedPlace};
pub use ids::*;
pub use migration::*;
pub use rule::*;
pub use site::{Allocation, Modules, PolicyName, Site, Ties};
pub use site_event::{HotPlace, SiteEvent};
pub use spellings::UnitError;
pub use store_identity::{NoStoreUid, StoreIdentity, StoreUid};
pub use stray::{Adoption, FoundVm, VmOrigin};
pub use topology::*;
pub use traffic::*;
pub use units::*;
pub use vm::*;
