//! The tag of our domains: their UUID, which holds the site and the VM's id. It is kept in a
//! migration, and a domain that has lost its name still has it.

use tandem_model::VmId;

/// "tandem" and version 8, "custom" (RFC 9562 section 5.8).
const PREFIX: &str = "74616e64-656d-8";
/// The suffix of a domain's name while its memory is received (xl_migrate.c).
pub(crate) const INCOMING: &str = "--incoming";

/// The tag of a site: VMs of another controller's site are not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(u32);

impl Tag {
    /// 26 bits of a hash of the site's name (FNV-1a).
    pub(crate) fn of(site: &str) -> Tag {
        let hash = site.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        Tag((hash ^ (hash >> 26)) & 0x03ff_ffff)
    }

    /// A VM's UUID; `None` for ids beyond 48 bits.
    pub(crate) fn uuid(self, vm: VmId) -> Option<String> {
        let (high, low) = (self.0 >> 14, self.0 & 0x3fff);
        // The variant's two bits are 10 (RFC 9562 section 4.1).
        (vm.0 < 1 << 48).then(|| format!("{PREFIX}{high:03x}-{:04x}-{:012x}", 0x8000 | low, vm.0))
    }

    /// The VM of this site with that UUID.
    pub(crate) fn vm(self, uuid: &str) -> Option<VmId> {
        let vm = VmId(u64::from_str_radix(uuid.get(24..)?, 16).ok()?);
        (self.uuid(vm)? == uuid.to_ascii_lowercase()).then_some(vm)
    }
}

/// A VM's name on its host.
pub(crate) fn name(vm: VmId) -> String {
    format!("tandem-vm{}", vm.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_uuid_leads_back_to_its_vm_and_to_no_other_sites(vm in 0u64..1 << 48, site in "[a-z]{1,12}", other in "[a-z]{1,12}") {
            let tag = Tag::of(&site);
            let uuid = tag.uuid(VmId(vm)).expect("48 bits");
            prop_assert_eq!(uuid.len(), 36);
            prop_assert_eq!(tag.vm(&uuid), Some(VmId(vm)));
            prop_assert_eq!(tag.vm(&uuid.to_uppercase()), Some(VmId(vm)));
            prop_assert_eq!(Tag::of(&other).vm(&uuid).is_some(), Tag::of(&other) == tag);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            prop_assert_eq!(Tag::of("x").vm(&text), None);
        }
    }

    #[test]
    fn a_uuid_is_a_valid_one() {
        let uuid = Tag::of("testbed").uuid(VmId(7)).expect("small");
        let parts: Vec<&str> = uuid.split('-').collect();
        assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(
            parts[2].starts_with('8') && matches!(parts[3].as_bytes()[0], b'8' | b'9' | b'a' | b'b'),
            "{uuid}"
        );
        assert_eq!(Tag::of("testbed").uuid(VmId(1 << 48)), None);
    }
}
