//! The handles of a service: what its methods may see.
//!
//! The services stand in one order: network, rules, agents, compute, migration. Each owns its
//! state. A service's methods are on two handles: `…Ref` for what only looks, `…Mut` for what
//! changes something. A handle has the states of its service and of all earlier ones, and none of a
//! later one, so that a call against the order does not compile. What a later service has to follow
//! is left as a [`Signal`](crate::signal::Signal).

/// Makes the two handles of a service, and their ways to the handles of earlier services.
macro_rules! handles {
    ($(#[$doc:meta])* $read:ident, $write:ident, { $($field:ident: $state:ty),+ },
     { $($name:ident: $lower:ident, $name_mut:ident: $lower_mut:ident { $($part:ident),+ }),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $read<'a> {
            pub(crate) cx: &'a Context,
            $(pub(crate) $field: &'a $state,)+
        }

        $(#[$doc])*
        pub(crate) struct $write<'a> {
            pub(crate) cx: &'a mut Context,
            $(pub(crate) $field: &'a mut $state,)+
        }

        #[allow(dead_code, reason = "every handle has every way, whether it is taken today or not")]
        impl<'a> $read<'a> {
            $(pub(crate) fn $name(self) -> $lower<'a> {
                $lower { cx: self.cx, $($part: self.$part),+ }
            })*
        }

        #[allow(dead_code, reason = "every handle has every way, whether it is taken today or not")]
        impl $write<'_> {
            $(pub(crate) fn $name(&self) -> $lower<'_> {
                $lower { cx: self.cx, $($part: self.$part),+ }
            }
            pub(crate) fn $name_mut(&mut self) -> $lower_mut<'_> {
                $lower_mut { cx: self.cx, $($part: self.$part),+ }
            })*
        }
    };
}

pub(crate) use handles;
