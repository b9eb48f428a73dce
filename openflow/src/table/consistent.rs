//! Whether a flow's actions fit the packets that it matches: the fields that an action sets, pops
//! or decrements must be there by the flow's match or by the actions before it (OF 1.3.5 section
//! 6.4: OFPBAC_MATCH_INCONSISTENT). So no packet of the flow lacks the field of an action.

use super::key::{FieldId, FlowKey};
use super::ops::{Op, Unsupported};
use crate::error::OfErrorCode;
use crate::of13::matching::needs_met;
use crate::of13::oxm::{BASIC, VLAN_PRESENT};
use crate::of13::{Action, Field, Instruction, Masked, Match};

/// OXM numbers of the fields that matter for prerequisites (OF 1.3.5 table 12).
mod number {
    pub(super) const ETH_TYPE: u8 = 5;
    pub(super) const VLAN_VID: u8 = 6;
    pub(super) const VLAN_PCP: u8 = 7;
    pub(super) const IP_DSCP: u8 = 8;
    pub(super) const IP_PROTO: u8 = 10;
    pub(super) const TCP_SRC: u8 = 13;
    pub(super) const ICMPV4_CODE: u8 = 20;
    pub(super) const ICMPV6_TYPE: u8 = 29;
    pub(super) const IPV6_ND_TARGET: u8 = 31;
    pub(super) const IPV6_ND_TLL: u8 = 33;
    pub(super) const MPLS_LABEL: u8 = 34;
    pub(super) const PBB_ISID: u8 = 37;
    pub(super) const IPV6_EXTHDR: u8 = 39;
}
use number::*;

/// The fields that every packet has when it gets to an action.
pub(crate) struct Given(Vec<Field>);

impl Given {
    /// The fields of a packet that a controller sends out.
    pub(crate) fn packet(frame: &[u8]) -> Given {
        let key = FlowKey::new(frame, 0);
        let mut given = Given(Vec::new());
        let mut put = |id: FieldId, field: fn(u16) -> Field| {
            let value = key.get(id).and_then(|v| u16::try_from(v).ok());
            given.0.extend(value.map(field));
        };
        put(FieldId::EthType, Field::EthType);
        put(FieldId::VlanVid, |v| Field::VlanVid(Masked::exact(v)));
        put(FieldId::IpProto, |p| Field::IpProto(p as u8));
        put(FieldId::Icmpv6Type, |t| Field::Icmpv6Type(t as u8));
        given
    }

    /// Applies actions to these fields.
    ///
    /// # Errors For the first action whose field is missing.
    pub(crate) fn actions(&mut self, actions: &[Action]) -> Result<(), Unsupported> {
        actions.iter().try_for_each(|action| self.action(action))
    }

    /// Removes the fields of a range of numbers.
    fn forget(&mut self, numbers: std::ops::RangeInclusive<u8>) {
        self.0.retain(|field| {
            let (class, number, _) = field.id();
            class == BASIC && !numbers.contains(&number)
        });
    }

    /// Sets the Ethernet type. The fields of the header behind it are unknown from here on.
    fn typed(&mut self, kind: u16, tags: bool) {
        self.forget(IP_DSCP..=IPV6_EXTHDR);
        self.forget(ETH_TYPE..=if tags { ETH_TYPE } else { VLAN_PCP });
        self.0.push(Field::EthType(kind));
    }

    fn needs(&self, number: u8, action: &Action) -> Result<(), Unsupported> {
        if needs_met(number, &self.0) {
            return Ok(());
        }
        let what = format!("{action:?} on packets that may not have what it changes: the match must say it");
        Err(Unsupported::new(what, OfErrorCode::MATCH_INCONSISTENT))
    }

    fn action(&mut self, action: &Action) -> Result<(), Unsupported> {
        match action {
            Action::SetField(field) => {
                let (class, number, _) = field.id();
                if class == BASIC {
                    self.needs(number, action)?;
                    self.set(number, field);
                }
            }
            Action::PushVlan(..) => {
                self.forget(VLAN_VID..=VLAN_PCP);
                self.0.push(Field::VlanVid(Masked { value: VLAN_PRESENT, mask: Some(VLAN_PRESENT) }));
            }
            Action::PopVlan(_) => {
                self.needs(VLAN_PCP, action)?;
                self.forget(VLAN_VID..=VLAN_PCP);
                // There was a second tag under this one.
                if self.0.iter().any(|f| matches!(f, Field::EthType(0x8100 | 0x88a8))) {
                    self.forget(ETH_TYPE..=IPV6_EXTHDR);
                }
            }
            Action::PushMpls(kind, _) | Action::PushPbb(kind, _) => self.typed(*kind, false),
            Action::PopMpls(kind, _) => {
                self.needs(MPLS_LABEL, action)?;
                self.typed(*kind, true);
            }
            Action::PopPbb(_) => {
                self.needs(PBB_ISID, action)?;
                self.forget(ETH_TYPE..=IPV6_EXTHDR);
            }
            Action::SetNwTtl(..) | Action::DecNwTtl(_) => self.needs(IP_PROTO, action)?,
            Action::SetMplsTtl(..) | Action::DecMplsTtl(_) | Action::CopyTtlOut(_) | Action::CopyTtlIn(_) => {
                self.needs(MPLS_LABEL, action)?
            }
            Action::Output { .. }
            | Action::SetQueue(_)
            | Action::Group(_)
            | Action::Experimenter { .. }
            | Action::Other { .. } => {}
        }
        Ok(())
    }

    /// Sets a field. Fields whose meaning depends on its value are unknown from here on.
    fn set(&mut self, number: u8, field: &Field) {
        match number {
            ETH_TYPE => self.forget(IP_DSCP..=IPV6_EXTHDR),
            IP_PROTO => {
                self.forget(TCP_SRC..=ICMPV4_CODE);
                self.forget(ICMPV6_TYPE..=IPV6_ND_TLL);
            }
            ICMPV6_TYPE => self.forget(IPV6_ND_TARGET..=IPV6_ND_TLL),
            _ => {}
        }
        self.forget(number..=number);
        self.0.push(field.clone());
    }
}

/// Checks that every action of a flow fits the flow's match. Written actions are checked in the
/// order of an action set.
///
/// # Errors
/// For the first action that does not fit.
pub(super) fn flow(matching: &Match, instructions: &[Instruction]) -> Result<(), Unsupported> {
    let mut given = Given(matching.fields.clone());
    for instruction in instructions {
        if let Instruction::ApplyActions(_, actions) = instruction {
            given.actions(actions)?;
        }
    }
    for instruction in instructions {
        if let Instruction::WriteActions(_, actions) = instruction {
            let place = |action: &Action| Op::from_of13(action).map(|(op, _)| op.place());
            let mut set =
                actions.iter().map(|a| Ok((place(a)?, a))).collect::<Result<Vec<_>, Unsupported>>()?;
            set.sort_by_key(|(place, _)| *place);
            set.iter().try_for_each(|(_, action)| given.action(action))?;
        }
    }
    Ok(())
}
