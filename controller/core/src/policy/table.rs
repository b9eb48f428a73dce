//! What makes a line of a table a policy: its module is declared, and it is put into the table.

/// `policies! { dyn Trait: module::Type, ... }` declares the modules and lists the policies as
/// `ALL`. A policy begins as its `Default`.
macro_rules! policies {
    (dyn $policy:ident: $($module:ident::$type:ident),+ $(,)?) => {
        $(pub mod $module;)+

        /// All of them, in the order of this table.
        pub const ALL: &[fn() -> Box<dyn $policy>] = &[$(|| Box::<$module::$type>::default()),+];
    };
}

pub(crate) use policies;
