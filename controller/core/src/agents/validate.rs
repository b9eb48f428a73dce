//! What an agent says of its switches, beside what the site says of them.

use tandem_model::Switch;

/// The sentence about a switch that the site file says is made of something else than its agent
/// has; `None` where both agree or the file does not say.
pub(crate) fn contradicts(switch: &Switch, presented: &str) -> Option<String> {
    let kind = switch.datapath?.to_string();
    // An agent says `ovs (kernel)`, `netfpga (mmap:0000:03:00.0)`.
    let is_it = presented == kind || presented.starts_with(&format!("{kind} "));
    (!is_it).then(|| {
        format!(
            "switch {} is {kind} in the site file and {presented} at its agent; correct [[switch]] in one of them",
            switch.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::contradicts;

    #[test]
    fn another_kind_than_declared_is_told_and_nothing_else() {
        let text = "[topology]\nshape = \"linear\"\nswitches = 2\n[[switch]]\nname = \"edge1\"\ndatapath = \"netfpga\"\n";
        let site = tandem_model::site::read(text, "test").unwrap_or_else(|f| panic!("{f}"));
        let [declared, silent] = &site.topology.switches[..] else { panic!("two switches") };
        assert_eq!(contradicts(declared, "netfpga (model)"), None);
        assert_eq!(contradicts(silent, "ovs (kernel)"), None);
        let what = contradicts(declared, "ovs (kernel)").expect("they differ");
        assert!(what.contains("edge1 is netfpga in the site file and ovs (kernel)"), "{what}");
        assert!(contradicts(declared, "netfpgas").is_some());
    }
}
