//! The agent as a process on a switch host of its own: a namespace with a private Open vSwitch,
//! and, where the test is about both, the real controller beside it. What an agent is told, what it
//! makes of it, what it says, and what it does when others interfere or fail.

mod admission;
mod alone;
mod attached;
mod host;
