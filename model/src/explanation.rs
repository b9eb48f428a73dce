//! What a request would lead to, without being made: every server and what it lacks, the place that
//! would be taken, and the smallest changes that would let in what is refused.

use crate::{BitRate, Bytes, NearMiss, Rejection, Resource};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What would come of a request, as things are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Explanation {
    /// The allocation policy that ranks the servers.
    pub policy: String,
    /// Where each member would go, in their order; all of them, or those before the one that is
    /// refused.
    pub places: Vec<PlannedPlace>,
    /// Why it would be refused; `None` when it would be met.
    pub rejection: Option<Rejection>,
    /// Which member the candidates are of, from 1 on: the first that is refused, else the first.
    pub member: u32,
    /// The servers as that member finds them, in order of id.
    pub candidates: Vec<Candidate>,
    /// Servers that are not listed because there are too many.
    pub left_out: u32,
    /// What would let the request in, each by itself, the smallest change first. Each was tried.
    pub changes: Vec<Change>,
}

/// Where a VM would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PlannedPlace {
    /// The VM's name, if it is to have one.
    pub vm: Option<String>,
    /// The server's name.
    pub server: String,
    /// The gateway's name.
    pub gateway: String,
    /// Names along its path to the gateway, itself included.
    pub path: Vec<String>,
}

/// A server, and whether a VM fits there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Candidate {
    /// The server's name.
    pub server: String,
    /// True when it could take the VM.
    pub fits: bool,
    /// What is short there, and how much: of the server, or of a link on the way.
    pub short: Vec<NearMiss>,
    /// Why it may not take the VM whatever it has free: a constraint, or it is out of service.
    pub barred: Option<String>,
}

/// One change that would let a request in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// Each VM asks for so much less.
    AskForLess {
        /// Of what.
        resource: Resource,
        /// In the resource's unit.
        less: u64,
    },
    /// A server has so much more.
    MoreOnServer {
        /// Its name.
        server: String,
        /// Of what.
        resource: Resource,
        /// In the resource's unit.
        more: u64,
    },
    /// `[policy] link_margin` in hundredths: 120 is 1.20.
    LinkMargin {
        /// So many.
        hundredths: u32,
    },
    /// `[policy] server_margin` in hundredths.
    ServerMargin {
        /// So many.
        hundredths: u32,
    },
    /// `[policy] switch_margin` in hundredths.
    SwitchMargin {
        /// So many.
        hundredths: u32,
    },
    /// A server that is out of service is back.
    ReturnServer {
        /// Its name.
        server: String,
    },
    /// The VMs need not be apart.
    WithoutSpread,
    /// The VMs need not be at the place that was asked for.
    AnyPlace,
    /// No rate is reserved between the members.
    WithoutRate,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::AskForLess { resource, less } => write!(f, "with {} less", amount(*resource, *less)),
            Change::MoreOnServer { server, resource, more } => {
                write!(f, "with {} more on {server}", amount(*resource, *more))
            }
            Change::LinkMargin { hundredths } => {
                write!(f, "with [policy] link_margin = {:.2}", f64::from(*hundredths) / 100.0)
            }
            Change::ServerMargin { hundredths } => {
                write!(f, "with [policy] server_margin = {:.2}", f64::from(*hundredths) / 100.0)
            }
            Change::SwitchMargin { hundredths } => {
                write!(f, "with [policy] switch_margin = {:.2}", f64::from(*hundredths) / 100.0)
            }
            Change::ReturnServer { server } => write!(f, "with {server} back in service"),
            Change::WithoutSpread => f.write_str("without --spread"),
            Change::AnyPlace => f.write_str("without --on"),
            Change::WithoutRate => f.write_str("without --rate"),
        }
    }
}

/// So much of a resource, with its unit and what it is of where the unit does not say.
fn amount(resource: Resource, n: u64) -> String {
    match resource {
        Resource::Ram => format!("{} RAM", Bytes(n)),
        Resource::Disk => format!("{} disk", Bytes(n)),
        Resource::Net | Resource::Link | Resource::Switch => BitRate(n).to_string(),
        Resource::Cpu if n == 1 => "1 core".to_owned(),
        Resource::Cpu => format!("{n} cores"),
        Resource::Address | Resource::Path => format!("{n} {resource}"),
    }
}
