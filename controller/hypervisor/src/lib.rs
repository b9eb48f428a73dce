//! Hypervisor drivers: they execute the core's orders about VMs on real hypervisors, and report the
//! results as events.
//!
//! ```text
//!  event loop --Effect--> router --calls, in order per VM--> Hypervisor: xl (hosts over ssh),
//!      <--Event---          |    <-- results, MigrationReport            xapi (pools)
//!                           +--orders as they are--> HypervisorService: lab (keeps its own order,
//!                                <-- events                             over a Unix socket)
//! ```
//!
//! There are two kinds of drivers ([`Driver`]), and one router. A [`Hypervisor`] is called: the
//! router keeps the order of calls, limits their number and their time. A [`HypervisorService`]
//! keeps the order itself, and gets the orders as they are. Both name their servers of the site.
//!
//! A driver is a folder and a line in [`registry`]; it reads its own section of the hypervisors
//! file ([`config`]). Nothing here depends on the controller: reports go to an [`EventLoop`].

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
