//! The allocation policies that there are: a file and a line each.

use crate::policy::allocation::AllocationPolicy;
use crate::policy::table::policies;

policies! { dyn AllocationPolicy:
    best_fit::BestFit,
    first_fit::FirstFit,
    worst_fit::WorstFit,
    least_loaded_edge::LeastLoadedEdge,
    weighted::Weighted,
    server_driven::ServerDriven,
    network_driven::NetworkDriven,
}
