//! The worlds that stand in for the testbed, traffic, requester, experiments.
