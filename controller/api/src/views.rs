//! What is read: the core's views, which are also what its snapshot consists of. They are written
//! to JSON as they are, without a copy.

pub use tandem_core::Counters;
pub use tandem_core::compute::moves::MigrationView;
pub use tandem_core::migration::views::{HotspotView, MoveState, PlanView};
pub use tandem_core::network::topology_state::Sync;
pub use tandem_core::rules::qos::ClassView;
pub use tandem_core::snapshot::{
    HostView, LinkView, OverrideView, PortView, ServerView, StrayView, SwitchView, VmView,
};
pub use tandem_model::{Explanation, GroupRecord, Notice, Plan, Rule, VmRecord};
