//! What is read: the core's views, which are also what its snapshot consists of. They are written to JSON as they are, without a copy.

pub use tandem_core::classes::ClassView;
pub use tandem_core::core::Counters;
pub use tandem_core::migration::{HotspotView, MigrationView, PlanView};
pub use tandem_core::snapshot::{
    HostView, LinkView, OverrideView, PortView, ServerView, StrayView, SwitchView, VmView,
};
pub use tandem_model::{GroupRecord, Notice, Plan, Rule, VmRecord};
