//! The part of a plan that releases bridges: what the owner created is removed, settings of the
//! owner are restored to those that it found, and settings that somebody else has changed since
//! stay.

use super::Error;
use super::actual::{BEFORE, FoundBridge, FoundController, FoundPort, MARK, SET, same};
use super::plan::Plan;
use super::queueing;
use super::row::optional;
use super::row_change::RowChange;
use serde_json::{Value, json};

impl Plan<'_> {
    /// Removes the owner's ports from a bridge and restores the numbers of others.
    pub(super) fn give_up_ports<'p>(
        &mut self,
        ports: impl IntoIterator<Item = &'p FoundPort>,
        bridge: &mut RowChange,
    ) -> Result<(), Error> {
        let mut gone = Vec::new();
        for port in ports {
            if port.owner() == Some(self.owner) {
                gone.push(json!(["uuid", port.uuid]));
                continue;
            }
            queueing::give_back(self, port)?;
            for interface in port.interfaces.iter().filter(|i| i.owner() == Some(self.owner)) {
                let mut row = RowChange::default();
                let is_ours = interface.set().is_none() || interface.set() == interface.requested();
                match interface.before()? {
                    Some(before) if is_ours => row.set("ofport_request", optional(before)),
                    Some(_) => self.kept.push(format!(
                        "interface {} has been given another number (ofport_request) since; it keeps that one",
                        interface.name
                    )),
                    None => {}
                }
                row.take("external_ids", &[MARK, BEFORE, SET]);
                self.operations.extend(row.operations("Interface", &interface.uuid));
            }
        }
        if !gone.is_empty() {
            bridge.mutations.push(json!(["ports", "delete", ["set", gone]]));
        }
        Ok(())
    }

    /// Removes a bridge of the owner, or restores an adopted one to its former state.
    pub(super) fn give_up(&mut self, bridge: &FoundBridge) -> Result<(), Error> {
        let ours = bridge.owner() == Some(self.owner);
        let is_foreign = |p: &FoundPort| p.name != bridge.name && p.owner() != Some(self.owner);
        if ours && !bridge.is_adopted() && !bridge.ports.iter().any(is_foreign) {
            self.guard(bridge);
            self.removed.push(json!(["uuid", bridge.uuid]));
            return Ok(());
        }
        let (mut row, start) = (RowChange::default(), self.operations.len());
        self.give_up_ports(bridge.ports.iter().filter(|p| p.name != bridge.name), &mut row)?;
        for port in bridge.ports.iter().filter(|p| p.name == bridge.name && p.owner() == Some(self.owner)) {
            self.unmark("Port", &port.uuid);
            for interface in &port.interfaces {
                self.unmark("Interface", &interface.uuid);
            }
        }
        if ours {
            row.take("external_ids", &[MARK, BEFORE, SET]);
            self.give_back_settings(bridge, &mut row)?;
        }
        let others = self.operations.split_off(start);
        self.touch(bridge, row, others);
        Ok(())
    }

    /// Restores the owner's settings to those that it found, column by column; a setting that
    /// somebody else has changed since stays.
    pub(super) fn give_back_settings(
        &mut self,
        bridge: &FoundBridge,
        row: &mut RowChange,
    ) -> Result<(), Error> {
        let before = bridge.before()?.unwrap_or(Value::Null);
        let set = bridge.set()?;
        let none = json!(["set", []]);
        let mut kept: Vec<&str> = Vec::new();
        for column in ["fail_mode", "protocols", "datapath_type"] {
            // The datapath type of a bridge that the owner created is removed with the bridge; one
            // that stays for foreign ports keeps it.
            let value = match before.get(column) {
                None if column == "datapath_type" => continue,
                value => value.unwrap_or(&none),
            };
            let now = bridge.row.get(column);
            if same(now, value) {
                continue;
            }
            if set.as_ref().and_then(|s| s.get(column)).is_none_or(|s| same(now, s)) {
                row.set(column, value.clone());
            } else {
                kept.push(column);
            }
        }
        let now = bridge.set_datapath_id();
        match before["datapath-id"].as_str() {
            id if id == now => {}
            _ if set.as_ref().is_some_and(|s| s["datapath-id"].as_str() != now) => {
                kept.push("other_config:datapath-id");
            }
            Some(id) => row.put("other_config", &[("datapath-id", id)]),
            None => row.take("other_config", &["datapath-id"]),
        }
        let mut targets: Vec<&str> = bridge.controllers.iter().map(FoundController::target).collect();
        targets.sort_unstable();
        if set.as_ref().is_some_and(|s| s["controllers"] != json!(targets)) {
            kept.push("controller");
        } else {
            let controllers = before["controllers"].as_array().map(Vec::as_slice).unwrap_or_default();
            let controllers = controllers.iter().filter_map(Value::as_object).cloned();
            let usable = controllers.filter(|c| c.contains_key("target")).collect();
            self.change_controllers(&bridge.controllers, usable, row);
        }
        self.kept.extend((!kept.is_empty()).then(|| {
            format!(
                "bridge {}: {} was changed since it was taken over, and stays so",
                bridge.name,
                kept.join(", ")
            )
        }));
        Ok(())
    }

    pub(super) fn unmark(&mut self, table: &str, uuid: &str) {
        let mut row = RowChange::default();
        row.take("external_ids", &[MARK, BEFORE, SET]);
        self.operations.extend(row.operations(table, uuid));
    }
}
