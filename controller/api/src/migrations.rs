//! Migrations, plans and servers' maintenance.

use crate::VmRef;
use serde::{Deserialize, Serialize};
use tandem_model::{MigrationMode, MoveOptions, MovePriority};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

/// The body of `POST /api/v1/migrations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Migration)]
pub struct NewMigration {
    /// The VM, by its number or its name.
    pub vm: VmRef,
    /// Where to, by the server's name; where the allocation policy wants it, if left out.
    #[serde(default)]
    pub to: Option<String>,
    /// Live or cold; the site's `[migration] manner` if left out.
    #[serde(default, rename = "manner", alias = "mode")]
    #[schema(schema_with = mode_words)]
    pub mode: Option<MigrationMode>,
    /// Also if it is not expected to converge.
    #[serde(default)]
    pub force: bool,
    /// By which weight it shares links with other transfers: low, normal or high.
    #[serde(default)]
    pub priority: MovePriority,
}

/// How VMs are moved; what is left out is the site's `[migration]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = How)]
pub struct MigrationOptions {
    /// Live or cold.
    #[serde(rename = "manner", alias = "mode")]
    #[schema(schema_with = mode_words)]
    pub mode: Option<MigrationMode>,
    /// Also those that are not expected to converge.
    pub force: bool,
    /// By which weight they share links with other transfers: low, normal or high.
    pub priority: MovePriority,
}

impl From<MigrationOptions> for MoveOptions {
    fn from(options: MigrationOptions) -> MoveOptions {
        MoveOptions { manner: options.mode, force: options.force, priority: options.priority }
    }
}

/// What a plan is to achieve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = Aim)]
pub enum Goal {
    /// Every VM where the allocation policy would place it today.
    KeepPolicy,
    /// No server and no link that is hot.
    Relieve,
    /// An empty `server`.
    Evacuate,
    /// One `vm` elsewhere, or `to` a server.
    Move,
}

/// The body of `POST /api/v1/plans`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Plan)]
pub struct NewPlan {
    /// What it is to achieve.
    #[serde(rename = "aim", alias = "goal")]
    pub goal: Goal,
    /// The server to be evacuated, by its name.
    #[serde(default)]
    pub server: Option<String>,
    /// The VM to be moved, by its number or its name.
    #[serde(default)]
    pub vm: Option<VmRef>,
    /// Where to, by the server's name; where the allocation policy wants it, if left out.
    #[serde(default)]
    pub to: Option<String>,
    /// Live or cold.
    #[serde(default, rename = "manner", alias = "mode")]
    #[schema(schema_with = mode_words)]
    pub mode: Option<MigrationMode>,
    /// Also those that are not expected to converge.
    #[serde(default)]
    pub force: bool,
    /// By which weight they share links with other transfers: low, normal or high.
    #[serde(default)]
    pub priority: MovePriority,
}

impl NewPlan {
    /// A plan for that goal, with these options and nothing else.
    pub fn new(goal: Goal, options: MigrationOptions) -> NewPlan {
        let MigrationOptions { mode, force, priority } = options;
        NewPlan { goal, server: None, vm: None, to: None, mode, force, priority }
    }
}

/// The words for how a VM is moved.
fn mode_words() -> Schema {
    let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    text.enum_values(Some(["live", "cold"])).build().into()
}
