//! Which allocation policies fill the data centre: the site's own, or those that are named. A site's
//! own choice is never overridden in silence.

use super::SITE;
use tandem_core::policy::registry::{ALLOCATION, names};
use tandem_model::site::Faults;
use toml_edit::{DocumentMut, Item, Table, TableLike, value};

/// Why a data centre cannot be filled under the policies that are asked for.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The site file has faults.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// It is no TOML.
    #[error("the site file is no TOML: {0}")]
    Toml(#[from] toml_edit::TomlError),
    /// `policy` is something else than a section.
    #[error(
        "the site file has `policy`, but not as a section [policy], so it cannot be given another policy"
    )]
    NoSection,
    /// Nobody knows the policy.
    #[error("there is no allocation policy {name:?}; write any of {}", .known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// One is named twice.
    #[error("{0} is named twice; each policy is run once (--repeat N runs all of them more often)")]
    Twice(String),
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The site file's text, as it was given.
    pub site: String,
    /// The policies, in order.
    pub policies: Vec<String>,
    /// What of the site is not as it says, for people.
    pub replaced: Vec<String>,
}

/// Chooses: the named policies, or the site's own where none is named; `site` is the text of a site
/// file that was given, if one was.
///
/// # Errors
/// When the site has faults, or a policy is not known or named twice.
pub fn choose(site: Option<String>, named: &[String]) -> Result<Chosen, PolicyError> {
    let given = site.is_some();
    let text = site.unwrap_or_else(|| SITE.to_owned());
    let own = tandem_core::site::read(&text, "the site file")?.policy.allocation.to_string();
    let known = names(ALLOCATION);
    let own = if own.is_empty() { known.first().cloned().unwrap_or_default() } else { own };
    for (n, name) in named.iter().enumerate() {
        if !known.contains(name) {
            return Err(PolicyError::Unknown { name: name.clone(), known });
        }
        if named[..n].contains(name) {
            return Err(PolicyError::Twice(name.clone()));
        }
    }
    if named.is_empty() {
        return Ok(Chosen { site: text, policies: vec![own], replaced: Vec::new() });
    }
    let mut replaced = Vec::new();
    if given && named != [own.as_str()] {
        replaced.push(format!(
            "replaced: the site file has allocation {own}; it was run under {}",
            named.join(", ")
        ));
    }
    Ok(Chosen { site: text, policies: named.to_vec(), replaced })
}

/// The site file's text under another allocation policy; all else stays as it is, comments too.
///
/// # Errors
/// When the site has faults, or its `policy` is no section.
pub fn with_policy(text: &str, policy: &str) -> Result<String, PolicyError> {
    let mut document: DocumentMut = text.parse()?;
    let section = document.entry("policy").or_insert_with(|| Item::Table(Table::new()));
    let section: &mut dyn TableLike = section.as_table_like_mut().ok_or(PolicyError::NoSection)?;
    match section.get_mut("allocation").and_then(Item::as_value_mut) {
        Some(old) => {
            let around = old.decor().clone();
            *old = policy.into();
            *old.decor_mut() = around;
        }
        None => {
            section.insert("allocation", value(policy));
        }
    }
    let text = document.to_string();
    tandem_core::site::read(&text, "the site file under another policy")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPOLOGY: &str = "name = \"x\"\n[topology]\nshape = \"linear\"\n";

    fn allocation(text: &str) -> String {
        tandem_core::site::read(text, "x").expect("a good site").policy.allocation.to_string()
    }

    #[test]
    fn a_site_gets_any_policy_however_it_names_its_own_and_nothing_else_changes() {
        for own in [
            "",
            "[policy]\nlink_margin = 1.5\n",
            "[policy] # mine\nallocation='weighted'   # why\n",
            "policy.allocation = \"worst-fit\"\n",
        ] {
            // A dotted key belongs before the first section.
            let text = if own.starts_with("policy.") {
                format!("{own}{TOPOLOGY}")
            } else {
                format!("{TOPOLOGY}{own}")
            };
            for policy in names(ALLOCATION) {
                let changed = with_policy(&text, &policy).expect("a good site");
                assert_eq!(allocation(&changed), policy, "{changed}");
                assert_eq!(changed.contains("# why"), text.contains("# why"));
                assert_eq!(changed.contains("link_margin"), text.contains("link_margin"));
            }
        }
    }

    #[test]
    fn a_policys_name_elsewhere_in_the_file_stays() {
        // What a replacement of text got wrong.
        let text =
            format!("{TOPOLOGY}# allocation = \"best-fit\" was tried\n[policy]\nallocation = \"best-fit\"\n");
        let changed = with_policy(&text, "worst-fit").expect("a good site");
        assert!(changed.contains("# allocation = \"best-fit\" was tried"), "{changed}");
        assert_eq!(allocation(&changed), "worst-fit");
    }

    #[test]
    fn a_sites_own_policy_is_run_where_none_is_named_and_what_replaces_it_is_said() {
        let own = format!("{TOPOLOGY}[policy]\nallocation = \"weighted\"\n");
        let chosen = choose(Some(own.clone()), &[]).expect("a good site");
        assert_eq!((chosen.policies, chosen.replaced), (vec!["weighted".to_owned()], vec![]));
        let two = ["best-fit".to_owned(), "worst-fit".to_owned()];
        let chosen = choose(Some(own.clone()), &two).expect("a good site");
        assert_eq!(chosen.policies, two);
        assert!(chosen.replaced[0].contains("allocation weighted"), "{:?}", chosen.replaced);
        assert!(choose(None, &two).expect("the experiment's own").replaced.is_empty());
        assert!(choose(Some(own), &["weighted".to_owned()]).expect("the same").replaced.is_empty());
        let silent = choose(Some(TOPOLOGY.to_owned()), &[]).expect("a good site");
        assert_eq!(silent.policies, ["best-fit"], "what a site without a word gets");
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_what_can() {
        let said = |site: Option<&str>, named: &[&str]| {
            let named: Vec<String> = named.iter().map(|n| (*n).to_owned()).collect();
            choose(site.map(str::to_owned), &named).expect_err("refused").to_string()
        };
        assert!(said(None, &["worst"]).contains("best-fit, first-fit"), "{}", said(None, &["worst"]));
        assert!(said(None, &["best-fit", "best-fit"]).contains("twice"));
        assert!(said(Some("[policy]\nallocation = \"no-fit\"\n"), &[]).contains("no-fit"));
        assert!(matches!(with_policy("policy = 3\n", "best-fit"), Err(PolicyError::NoSection)));
        assert!(matches!(with_policy("[policy", "best-fit"), Err(PolicyError::Toml(_))));
    }
}
