//! Namespaces, links, traffic control and Open vSwitch on Linux.
