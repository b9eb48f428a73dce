//! Rejections that are told in one sentence.

use tandem_model::Rejection;

pub(crate) fn refused(summary: String) -> Rejection {
    Rejection { summary, counts: Vec::new(), nearest: Vec::new() }
}
