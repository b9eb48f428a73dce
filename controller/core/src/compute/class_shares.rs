//! Shares of the classes of service, as they are changed at run time.

use crate::compute::ComputeMut;
use crate::compute::pending_writes::PendingWrite;
use crate::rejection::refused;
use tandem_model::{RequestId, Response, Share, StoreOp};

impl ComputeMut<'_> {
    pub(crate) fn set_shares(&mut self, request: RequestId, shares: &[Share]) {
        let total: f64 = shares.iter().map(|s| s.share).sum();
        let sane = |s: &Share| s.share > 0.0 && s.share <= s.ceiling && s.ceiling <= 100.0;
        let why = if shares.len() != self.rules.classes.shares.len() {
            Some(format!("the site has {} classes; write a share for each", self.rules.classes.shares.len()))
        } else if !shares.iter().all(sane) {
            Some("a share is more than 0 and at most its ceiling, a ceiling at most 100 (percent)".into())
        } else if total > 100.000_001 {
            Some(format!("the shares add up to {total}%; 100% is all there is"))
        } else {
            None
        };
        if let Some(why) = why {
            return self.cx.answer(request, Response::Rejected { rejection: refused(why) });
        }
        let before = std::mem::replace(&mut self.rules.classes.shares, shares.to_vec());
        self.cx.dirty.switches = true;
        self.agents_mut().configure_all();
        self.store(StoreOp::PutShares { shares: shares.to_vec() }, PendingWrite::Shares(before, request));
    }
}
