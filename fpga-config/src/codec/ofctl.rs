//! Flows in ovs-ofctl words.
