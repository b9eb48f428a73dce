//! `tandem-lab draw`.

use anyhow::Context;
use std::path::PathBuf;
use tandem_draw::Cabling;
use tandem_model::PortNo;
use tandem_testbed::inventory::Inventory;

/// What is drawn, and into which file.
#[derive(Debug, clap::Args)]
pub(super) struct DrawOptions {
    /// The site file.
    #[arg(long)]
    site: PathBuf,
    /// Also draw machines, interfaces and port numbers at both ends of each cable, and print them
    /// as a table.
    #[arg(long, requires = "inventory")]
    cabling: bool,
    /// The testbed's machines (inventory.toml).
    #[arg(long)]
    inventory: Option<PathBuf>,
    /// The picture (SVG); standard output if not given, except with --cabling.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// An inventory, as the drawing sees it.
struct InventoryCabling(Inventory);

impl Cabling for InventoryCabling {
    fn machine(&self, node: &str) -> Option<&str> {
        self.0.node(node).map(|(machine, _)| machine.name.as_str())
    }

    fn interface(&self, node: &str, port: PortNo) -> Option<&str> {
        let (_, node) = self.0.node(node)?;
        node.ports.iter().find(|p| p.number == port.0).map(|p| p.interface.as_str())
    }
}

/// Draws a site.
///
/// # Errors
/// When the site or the inventory has faults, or the picture cannot be written.
pub(super) fn run(options: DrawOptions) -> anyhow::Result<()> {
    let DrawOptions { site, cabling, inventory, out } = options;
    let checked = tandem_core::site::read(&super::read(&site)?, &site.display().to_string())?;
    let inventory = inventory.map(|file| Inventory::load(&file, Some(&checked))).transpose()?;
    let shown = inventory.filter(|_| cabling).map(InventoryCabling);
    let svg = tandem_draw::svg(&checked, shown.as_ref().map(|c| c as &dyn Cabling));
    match (&out, &shown) {
        (Some(file), _) => {
            std::fs::write(file, svg).with_context(|| format!("cannot write {}", file.display()))?;
        }
        (None, None) => print!("{svg}"),
        (None, Some(_)) => {}
    }
    if let Some(cabling) = &shown {
        print!("{}", tandem_draw::table(&checked, cabling));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn an_inventory_says_which_machine_and_interface_a_port_is() {
        let text = "name = \"l\"\n[controller]\naddress = \"c\"\n\
            [[machine]]\nname = \"mini1\"\naddress = \"h\"\ncontrol = \"eth0\"\n\
            [[machine.switch]]\nname = \"edge1\"\n\
            [[machine.switch.port]]\nnumber = 2\ninterface = \"eth5\"\n";
        let inventory = Inventory::read(text, "inventory", Path::new("."), None).expect("an inventory");
        let cabling = InventoryCabling(inventory);
        assert_eq!(cabling.machine("edge1"), Some("mini1"));
        assert_eq!(cabling.interface("edge1", PortNo(2)), Some("eth5"));
        assert_eq!(cabling.interface("edge1", PortNo(1)), None);
        assert_eq!(cabling.machine("srv1"), None);
    }
}
