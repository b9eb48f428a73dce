//! Virtual machines under QEMU's emulation, with Debian's kernel: the kernel's datapath of Open
//! vSwitch, and machines to deploy to.
//!
//! `tests/vm/image` makes their disk; `tandem-vm` (`src/bin`) is the program. A run has a folder of
//! its own that holds all of it (disks, sockets, logs, the run's key), and ends with its first
//! process, however that ends.

pub mod cabling;
pub mod machine;
pub mod qos;
pub mod run;
pub mod testbed;
