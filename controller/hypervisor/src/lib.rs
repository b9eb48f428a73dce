//! Hypervisor drivers: what turns the core's orders about VMs into deeds on real hypervisors, and
//! the deeds back into facts.
//!
//! ```text
//!  event loop --Effect--> router --calls, in order per VM--> Hypervisor: xl (hosts over ssh),
//!      <--Event---          |    <-- results, MigrationReport            xapi (pools)
//!                           +--orders as they are--> HypervisorService: lab (keeps its own order,
//!                                <-- events                             over a Unix socket)
//! ```
//!
//! There are two kinds of drivers ([`Driver`]), and one router. A [`Hypervisor`] is called: the
//! router keeps the order, bounds and times what it does. A [`HypervisorService`] keeps order where
//! its VMs are, and gets orders as they are. Both have some of the site's servers and say which.
//!
//! A driver is a folder and a line in [`registry`]; it reads its own section of the hypervisors
//! file ([`config`]). Nothing here knows the controller: what hypervisors report goes to an
//! [`EventLoop`].

pub mod config;
mod driver;
mod errors;
mod event_loop;
pub mod lab;
pub mod owner;
pub mod placeholders;
pub mod registry;
pub mod router;
pub mod xapi;
pub mod xl;

pub use driver::*;
pub use errors::{MigrateError, VmLocation, VmmError};
pub use event_loop::{EventLoop, Gone, HypervisorReport, ORDERS};

/// The driver of the how-to is compiled with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/howto/add-a-hypervisor.md")]
struct HowTo;
