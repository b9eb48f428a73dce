//! Forms of a flow with the same meaning, in which a switch may report it.

use tandem_model::{ETH_ARP, ETH_IPV4, Mac};
use tandem_openflow::of13::multipart::ReplyBody as Reply13;
use tandem_openflow::of13::oxm::BASIC;
use tandem_openflow::of13::{Field, Instruction, Masked};
use tandem_openflow::wire::{Bytes, Pad, Wire};
use tandem_openflow::{header, of10, of13};

/// A stream of bits from a seed that decides how the switch rewords each flow.
struct Liberties(u64);

impl Liberties {
    fn next(&mut self) -> u64 {
        // xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn take(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// Changes a 1.0 flow into another form with the same meaning (OF 1.0 section 3.4).
fn other_form10(flow: &mut of10::stats::FlowStats, take: &mut Liberties) {
    use of10::matching::wildcard as w;
    let m = &mut flow.matching;
    let has = |bit: u32| m.wildcards & bit == 0;
    let is_ip = has(w::DL_TYPE) && m.dl_type == ETH_IPV4;
    let is_arp = has(w::DL_TYPE) && m.dl_type == ETH_ARP;
    let has_ports = is_ip && has(w::NW_PROTO) && matches!(m.nw_proto, 1 | 6 | 17);
    let m_vlan = has(w::DL_VLAN).then_some(m.dl_vlan);
    let noise = take.next();
    let mut fill = |is_free: bool, bit: u32| {
        // Writes a value that does not count, and clears a wildcard bit of a field without its
        // prerequisite.
        if is_free && take.take() {
            m.wildcards &= !bit;
        }
        is_free
    };
    let any_of_ip = !is_ip && !is_arp;
    if fill(!is_ip, w::NW_TOS) {
        m.nw_tos = noise as u8;
    } else {
        m.nw_tos |= noise as u8 & 3;
    }
    if fill(any_of_ip, w::NW_PROTO) {
        m.nw_proto = (noise >> 8) as u8;
    }
    if fill(!has_ports, w::TP_SRC) {
        m.tp_src = (noise >> 16) as u16;
    }
    if fill(!has_ports, w::TP_DST) {
        m.tp_dst = (noise >> 32) as u16;
    }
    // A priority without a VLAN, in a match on untagged packets.
    if fill(m_vlan.is_none_or(|v| v == of10::matching::VLAN_NONE), w::DL_VLAN_PCP) {
        m.dl_vlan_pcp = noise as u8 & 7;
    }
    for (shift, is_src) in [(w::NW_SRC_SHIFT, true), (w::NW_DST_SHIFT, false)] {
        let wild = (m.wildcards >> shift & 0x3f).min(32);
        let host = if wild == 32 { u32::MAX } else { (1 << wild) - 1 };
        let address = if is_src { &mut m.nw_src } else { &mut m.nw_dst };
        *address = (address.to_bits() | (noise as u32 & host)).into();
        let bits = match wild {
            _ if any_of_ip => (noise >> 40) as u32 & 0x3f,
            32 => 32 + ((noise >> 48) as u32 & 31),
            bits => bits,
        };
        m.wildcards = m.wildcards & !(0x3f << shift) | bits << shift;
    }
    if m.wildcards & w::IN_PORT != 0 {
        m.in_port = noise as u16;
    }
    if m.wildcards & w::DL_SRC != 0 {
        m.dl_src = Mac([noise as u8; 6]);
    }
    if m.wildcards & w::DL_TYPE != 0 {
        m.dl_type = [ETH_IPV4, ETH_ARP, 0][noise as usize % 3];
    }
    if m_vlan.is_none() {
        m.dl_vlan = noise as u16;
    }
    m.pad1 = Pad([noise as u8]);
    flow.pad2 = Pad([noise as u8; 6]);
    flow.duration_sec = noise as u32;
    for action in &mut flow.actions {
        if let of10::Action::Output { max_len, .. } = action {
            *max_len = noise as u16;
        }
    }
}

/// A field with a mask of all ones, or the field itself if it cannot have a mask.
fn masked(field: &Field) -> Field {
    let mut bytes = Vec::new();
    field.write(&mut bytes);
    let (_, number, has_mask) = field.id();
    let value = &bytes[4..];
    if has_mask {
        return field.clone();
    }
    let body = Bytes([value, &vec![0xff; value.len()]].concat());
    Field::Other { class: BASIC, number, has_mask: true, body }
}

/// Changes a 1.3 flow into another form with the same meaning (OF 1.3.5 sections 5.9, 7.2.3.5,
/// 7.2.3.6).
fn other_form13(flow: &mut of13::stats::FlowStats, take: &mut Liberties) {
    let fields = &mut flow.matching.fields;
    for field in fields.iter_mut() {
        if take.take() {
            *field = masked(field);
        }
        // Sets bits of a value outside of its mask.
        if let Field::Metadata(Masked { value, mask: Some(mask) }) = field.clone() {
            let body = [(value | take.next() & !mask).to_be_bytes(), mask.to_be_bytes()].concat();
            *field = Field::Other { class: BASIC, number: 2, has_mask: true, body: Bytes(body) };
        }
        if let Field::Ipv4Dst(Masked { value, mask: Some(mask) })
        | Field::Ipv4Src(Masked { value, mask: Some(mask) }) = field.clone()
        {
            let (_, number, _) = field.id();
            let value = value.to_bits() | (take.next() as u32 & !mask.to_bits());
            let body = Bytes([value.to_be_bytes(), mask.octets()].concat());
            *field = Field::Other { class: BASIC, number, has_mask: true, body };
        }
    }
    if take.take() {
        fields.push(Field::Metadata(Masked { value: 0, mask: Some(0) }));
    }
    if take.take() && !fields.iter().any(|f| f.id().1 == 4) {
        let body = Bytes([[take.next() as u8; 6], [0; 6]].concat());
        fields.push(Field::Other { class: BASIC, number: 4, has_mask: true, body });
    }
    if take.take() {
        fields.reverse();
    }
    if take.take() && !fields.is_empty() {
        fields.push(fields[0].clone());
    }
    for instruction in &mut flow.instructions {
        if let Instruction::WriteMetadata { pad, metadata, mask } = instruction {
            *pad = Pad([take.next() as u8; 4]);
            *metadata |= take.next() & !*mask;
        }
        let Instruction::ApplyActions(pad, actions) = instruction else { continue };
        *pad = Pad([take.next() as u8; 4]);
        for action in actions {
            match action {
                of13::Action::Output { max_len, pad, .. } => {
                    *max_len = take.next() as u16;
                    *pad = Pad([take.next() as u8; 6]);
                }
                of13::Action::SetField(field) if take.take() => *field = masked(field),
                _ => {}
            }
        }
    }
    if flow.instructions.is_empty() && take.take() {
        flow.instructions.push(Instruction::ApplyActions(Pad::default(), Vec::new()));
    }
    if take.take() {
        flow.instructions.push(Instruction::WriteActions(Pad::default(), Vec::new()));
    }
    if take.take() {
        flow.instructions.push(Instruction::WriteMetadata { pad: Pad([7; 4]), metadata: 9, mask: 0 });
    }
    if take.take() {
        flow.instructions.reverse();
    }
    flow.pad2 = Pad([take.next() as u8; 4]);
}

/// The message with its flows in another form, chosen by `seed`.
pub(crate) fn in_another_form(message: Vec<u8>, seed: u64) -> Vec<u8> {
    let mut take = Liberties(seed | 1);
    let mut out = Vec::new();
    if message[0] == header::V10 {
        let Ok((xid, of10::Message::StatsReply(mut reply))) = of10::Message::decode(&message) else {
            return message;
        };
        let of10::stats::ReplyBody::Flow(flows) = &mut reply.body else { return message };
        flows.iter_mut().for_each(|f| other_form10(f, &mut take));
        of10::Message::StatsReply(reply).encode(xid, &mut out).expect("short");
    } else {
        let Ok((xid, of13::Message::MultipartReply(mut reply))) = of13::Message::decode(&message) else {
            return message;
        };
        let Reply13::Flow(flows) = &mut reply.body else { return message };
        flows.iter_mut().for_each(|f| other_form13(f, &mut take));
        of13::Message::MultipartReply(reply).encode(xid, &mut out).expect("short");
    }
    out
}
