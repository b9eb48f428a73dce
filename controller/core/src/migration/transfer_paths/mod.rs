//! Which path a migration's own traffic takes: a file and a line each.

use crate::migration::policies::TransferPathPolicy;
use crate::policy::table::policies;

policies! { dyn TransferPathPolicy:
    least_loaded::LeastLoaded,
    widest::Widest,
}
