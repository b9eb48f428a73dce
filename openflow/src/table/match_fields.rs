//! A flow's match in one form for both versions: fields with values and masks. It is made from an
//! OpenFlow 1.0 match (wildcards) or a 1.3 match (OXM fields, prerequisites checked).

use super::key::{FieldId, FlowKey};
use crate::error::OfErrorCode;
use crate::of10::matching::{VLAN_NONE, wildcard};
use crate::of13::matching::MatchError;
use crate::{of10, of13};

/// Why these tables do not support a match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CriteriaError {
    /// It is not a valid list of OXM fields.
    #[error(transparent)]
    Match(#[from] MatchError),
    /// It has a field of another class than OpenFlow's own (OFPBMC_BAD_FIELD).
    #[error("this switch does not match {0}")]
    Unsupported(String),
}

impl CriteriaError {
    /// The OpenFlow error to answer with (OF 1.3.5 section 7.5.4.5).
    pub fn of_error(&self) -> OfErrorCode {
        match self {
            CriteriaError::Match(MatchError::Duplicate(_)) => OfErrorCode::DUPLICATE_FIELD,
            CriteriaError::Match(MatchError::Prerequisite(_)) => OfErrorCode::BAD_PREREQUISITE,
            CriteriaError::Unsupported(_) => OfErrorCode::BAD_FIELD,
        }
    }
}

/// The conditions of a match: value and mask per field; no value has a bit outside of its mask. A
/// packet without one of the fields does not match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Criteria {
    /// In the order of the fields' numbers.
    fields: Vec<(FieldId, (u128, u128))>,
    /// An OpenFlow 1.0 match without any wildcard, which ranks above every flow with one (OF 1.0
    /// section 3.4).
    exact: bool,
}

impl Criteria {
    /// The match of every packet.
    pub fn any() -> Criteria {
        Criteria::default()
    }

    /// Adds a condition; with a mask of 0, the packet only has to have the field.
    #[must_use]
    pub fn with(mut self, field: FieldId, value: u128, mask: u128) -> Criteria {
        self.put(field, value, mask);
        self
    }

    fn put(&mut self, field: FieldId, value: u128, mask: u128) {
        let new = (field, (value & mask, mask));
        match self.fields.binary_search_by_key(&field, |(f, _)| *f) {
            Ok(at) => self.fields[at] = new,
            Err(at) => self.fields.insert(at, new),
        }
    }

    fn get(&self, field: FieldId) -> Option<(u128, u128)> {
        self.fields.binary_search_by_key(&field, |(f, _)| *f).ok().map(|at| self.fields[at].1)
    }

    /// Its conditions, in the order of the fields' numbers: field, value, mask. A mask of all ones
    /// is exact, whatever the field's width.
    pub fn fields(&self) -> impl Iterator<Item = (FieldId, u128, u128)> {
        self.fields.iter().map(|(field, (value, mask))| (*field, *value, *mask))
    }

    /// True when it matches every packet.
    pub fn is_any(&self) -> bool {
        self.fields.is_empty()
    }

    /// True for an OpenFlow 1.0 match without wildcards.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// True when a packet matches.
    pub fn matches(&self, key: &FlowKey) -> bool {
        self.fields
            .iter()
            .all(|(field, (value, mask))| key.get(*field).is_some_and(|found| found & mask == *value))
    }

    /// True when every packet that matches `other` matches this too: the rule of non-strict
    /// modifications and deletions (OF 1.3.5 section 6.4).
    pub fn covers(&self, other: &Criteria) -> bool {
        self.fields.iter().all(|(field, (value, mask))| {
            other.get(*field).is_some_and(|(v, m)| m & mask == *mask && v & mask == *value)
        })
    }

    /// True when a packet may match both: the rule of the overlap check (OF 1.3.5 section 6.4).
    pub fn overlaps(&self, other: &Criteria) -> bool {
        self.fields
            .iter()
            .all(|(field, (value, mask))| other.get(*field).is_none_or(|(v, m)| (v ^ value) & m & mask == 0))
    }

    /// From an OpenFlow 1.0 match. Fields without their prerequisite (ports without TCP, say) are
    /// ignored, as OF 1.0.1 section 3.4 defines it.
    pub fn from_of10(m: &of10::Match) -> Criteria {
        const ALL: u128 = u128::MAX;
        let has = |bit: u32| m.wildcards & bit == 0;
        let mut c = Criteria { exact: m.wildcards & wildcard::ALL == 0, ..Criteria::default() };
        let mut put = |ok: bool, field: FieldId, value: u128, mask: u128| {
            if ok && mask != 0 {
                c.put(field, value, mask);
            }
        };
        let number = |mac: tandem_model::Mac| mac.0.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
        put(has(wildcard::IN_PORT), FieldId::InPort, m.in_port.into(), ALL);
        put(has(wildcard::DL_SRC), FieldId::EthSrc, number(m.dl_src), ALL);
        put(has(wildcard::DL_DST), FieldId::EthDst, number(m.dl_dst), ALL);
        let tagged = m.dl_vlan != VLAN_NONE;
        let vid = if tagged { u128::from(m.dl_vlan & 0xfff | 0x1000) } else { 0 };
        put(has(wildcard::DL_VLAN), FieldId::VlanVid, vid, ALL);
        put(
            has(wildcard::DL_VLAN_PCP) && (tagged || !has(wildcard::DL_VLAN)),
            FieldId::VlanPcp,
            m.dl_vlan_pcp.into(),
            ALL,
        );
        put(has(wildcard::DL_TYPE), FieldId::EthType, m.dl_type.into(), ALL);
        let (ip, arp) =
            (has(wildcard::DL_TYPE) && m.dl_type == 0x0800, has(wildcard::DL_TYPE) && m.dl_type == 0x0806);
        put(ip && has(wildcard::NW_TOS), FieldId::IpDscp, u128::from(m.nw_tos >> 2), ALL);
        put(ip && has(wildcard::NW_PROTO), FieldId::IpProto, m.nw_proto.into(), ALL);
        put(arp && has(wildcard::NW_PROTO), FieldId::ArpOp, m.nw_proto.into(), ALL);
        let mask = |bits: u8| if bits == 0 { 0 } else { u128::from(u32::MAX << (32 - u32::from(bits))) };
        for (value, bits, of_ip, of_arp) in [
            (m.nw_src, m.nw_src_bits(), FieldId::Ipv4Src, FieldId::ArpSpa),
            (m.nw_dst, m.nw_dst_bits(), FieldId::Ipv4Dst, FieldId::ArpTpa),
        ] {
            put(ip, of_ip, value.to_bits().into(), mask(bits));
            put(arp, of_arp, value.to_bits().into(), mask(bits));
        }
        let proto = (ip && has(wildcard::NW_PROTO)).then_some(m.nw_proto);
        let ports = matches!(proto, Some(6 | 17));
        put(ports && has(wildcard::TP_SRC), FieldId::L4Src, m.tp_src.into(), ALL);
        put(ports && has(wildcard::TP_DST), FieldId::L4Dst, m.tp_dst.into(), ALL);
        put(proto == Some(1) && has(wildcard::TP_SRC), FieldId::IcmpType, m.tp_src.into(), ALL);
        put(proto == Some(1) && has(wildcard::TP_DST), FieldId::IcmpCode, m.tp_dst.into(), ALL);
        c
    }

    /// From an OpenFlow 1.3 match.
    ///
    /// # Errors
    /// When a prerequisite is missing, or a field is of another class than OpenFlow's own 40.
    pub fn from_of13(m: &of13::Match) -> Result<Criteria, CriteriaError> {
        use of13::Field;
        const ALL: u128 = u128::MAX;
        m.check()?;
        let mut c = Criteria::any();
        let number = |mac: tandem_model::Mac| mac.0.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
        for field in m.fields.iter().filter_map(Field::normal) {
            let (id, value, mask) = match &field {
                Field::InPort(p) => (FieldId::InPort, (*p).into(), ALL),
                Field::InPhyPort(p) => (FieldId::InPhyPort, (*p).into(), ALL),
                Field::Metadata(v) => (FieldId::Metadata, v.value.into(), v.mask.map_or(ALL, Into::into)),
                Field::EthDst(v) => (FieldId::EthDst, number(v.value), v.mask.map_or(ALL, number)),
                Field::EthSrc(v) => (FieldId::EthSrc, number(v.value), v.mask.map_or(ALL, number)),
                Field::EthType(v) => (FieldId::EthType, (*v).into(), ALL),
                Field::VlanVid(v) => (FieldId::VlanVid, v.value.into(), v.mask.map_or(ALL, Into::into)),
                Field::VlanPcp(v) => (FieldId::VlanPcp, (*v).into(), ALL),
                Field::IpDscp(v) => (FieldId::IpDscp, (*v).into(), ALL),
                Field::IpEcn(v) => (FieldId::IpEcn, (*v).into(), ALL),
                Field::IpProto(v) => (FieldId::IpProto, (*v).into(), ALL),
                Field::Ipv4Src(v) => {
                    (FieldId::Ipv4Src, v.value.to_bits().into(), v.mask.map_or(ALL, |m| m.to_bits().into()))
                }
                Field::Ipv4Dst(v) => {
                    (FieldId::Ipv4Dst, v.value.to_bits().into(), v.mask.map_or(ALL, |m| m.to_bits().into()))
                }
                Field::TcpSrc(v) | Field::UdpSrc(v) | Field::SctpSrc(v) => (FieldId::L4Src, (*v).into(), ALL),
                Field::TcpDst(v) | Field::UdpDst(v) | Field::SctpDst(v) => (FieldId::L4Dst, (*v).into(), ALL),
                Field::Icmpv4Type(v) => (FieldId::IcmpType, (*v).into(), ALL),
                Field::Icmpv4Code(v) => (FieldId::IcmpCode, (*v).into(), ALL),
                Field::ArpOp(v) => (FieldId::ArpOp, (*v).into(), ALL),
                Field::ArpSpa(v) => {
                    (FieldId::ArpSpa, v.value.to_bits().into(), v.mask.map_or(ALL, |m| m.to_bits().into()))
                }
                Field::ArpTpa(v) => {
                    (FieldId::ArpTpa, v.value.to_bits().into(), v.mask.map_or(ALL, |m| m.to_bits().into()))
                }
                Field::ArpSha(v) => (FieldId::ArpSha, number(v.value), v.mask.map_or(ALL, number)),
                Field::ArpTha(v) => (FieldId::ArpTha, number(v.value), v.mask.map_or(ALL, number)),
                Field::Ipv6Src(v) => {
                    (FieldId::Ipv6Src, v.value.to_bits(), v.mask.map_or(ALL, |m| m.to_bits()))
                }
                Field::Ipv6Dst(v) => {
                    (FieldId::Ipv6Dst, v.value.to_bits(), v.mask.map_or(ALL, |m| m.to_bits()))
                }
                Field::Ipv6Flabel(v) => (FieldId::Ipv6Flabel, v.value.into(), v.mask.map_or(ALL, Into::into)),
                Field::Icmpv6Type(v) => (FieldId::Icmpv6Type, (*v).into(), ALL),
                Field::Icmpv6Code(v) => (FieldId::Icmpv6Code, (*v).into(), ALL),
                Field::Ipv6NdTarget(v) => (FieldId::Ipv6NdTarget, v.to_bits(), ALL),
                Field::Ipv6NdSll(v) => (FieldId::Ipv6NdSll, number(*v), ALL),
                Field::Ipv6NdTll(v) => (FieldId::Ipv6NdTll, number(*v), ALL),
                Field::MplsLabel(v) => (FieldId::MplsLabel, (*v).into(), ALL),
                Field::MplsTc(v) => (FieldId::MplsTc, (*v).into(), ALL),
                Field::MplsBos(v) => (FieldId::MplsBos, (*v).into(), ALL),
                Field::PbbIsid(v) => {
                    (FieldId::PbbIsid, v.value.get().into(), v.mask.map_or(ALL, |m| m.get().into()))
                }
                Field::TunnelId(v) => (FieldId::TunnelId, v.value.into(), v.mask.map_or(ALL, Into::into)),
                Field::Ipv6Exthdr(v) => (FieldId::Ipv6Exthdr, v.value.into(), v.mask.map_or(ALL, Into::into)),
                other @ Field::Other { .. } => {
                    return Err(CriteriaError::Unsupported(format!("{other:?}")));
                }
            };
            c.put(id, value, mask);
        }
        Ok(c)
    }
}
