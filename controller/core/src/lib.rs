//! The pure core: topology, hosts, rules, statistics, requests, inventory, policies.
