//! Requests that wait for switches to be read: what [`readings`](crate::compute::readings) decides by.

use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{RequestId, SwitchId, VmRequest};

/// Requests that wait for switches to be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct WaitingForReadings {
    /// In the order in which they came, with the switches that each waits for.
    pub(crate) requests: BTreeMap<RequestId, (VmRequest, BTreeSet<SwitchId>)>,
}
