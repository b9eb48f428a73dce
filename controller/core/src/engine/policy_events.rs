//! What has happened is told to the policies, at the end of each call of the core.
//!
//! A policy that remembers is part of the core's state: it learns of things by events only, and
//! each event is told once, in order, before the next decision. While one is told it is out of its
//! place, so that it can look at the data centre without being part of it.

use crate::compute::ComputeRef;
use crate::compute::placement_view::Seen;
use crate::migration::MigrationMut;
use crate::migration::policies::View;
use crate::policy::routing_policies::default_first::DefaultFirst;
use std::sync::Arc;
use tandem_model::SiteEvent;

impl MigrationMut<'_> {
    /// Tells all policies what this call has changed.
    pub(crate) fn tell_policies(&mut self) {
        if self.cx.site_events.is_empty() {
            return;
        }
        let events = std::mem::take(&mut self.cx.site_events);
        self.tell_allocation(&events);
        self.tell_routing(&events);
        self.tell_migration(&events);
        self.cx.site_events = events;
    }

    fn tell_allocation(&mut self, events: &[SiteEvent]) {
        let mut policy = self.compute.inventory.lend_policy();
        let view =
            Seen { compute: self.compute(), inventory: &self.compute.inventory, links: &self.net.links };
        // Copies of the inventory that a plan is made on do not outlive the call, so nobody else
        // has the policy now.
        let alone = Arc::get_mut(&mut policy);
        debug_assert!(alone.is_some(), "a copy of the inventory has outlived its call");
        if let Some(policy) = alone {
            events.iter().for_each(|event| policy.on_event(event, &view));
        }
        self.compute.inventory.return_policy(policy);
    }

    fn tell_routing(&mut self, events: &[SiteEvent]) {
        let mut policy = std::mem::replace(&mut self.net.routing, Box::new(DefaultFirst));
        let view =
            Seen { compute: self.compute(), inventory: &self.compute.inventory, links: &self.net.links };
        events.iter().for_each(|event| policy.on_event(event, &view));
        self.net.routing = policy;
    }

    fn tell_migration(&mut self, events: &[SiteEvent]) {
        let compute = ComputeRef {
            cx: self.cx,
            net: self.net,
            rules: self.rules,
            agents: self.agents,
            compute: self.compute,
        };
        let view = View { compute, inventory: &compute.compute.inventory };
        let policies = &mut self.migration.policies;
        for event in events {
            policies.when.on_event(event, &view);
            policies.which.on_event(event, &view);
            policies.place.on_event(event, &view);
            policies.path.on_event(event, &view);
        }
    }
}
