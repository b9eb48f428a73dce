//! `tandem site import`: another tool's topology as a site file.

use super::mininet_script::{self, Run};
use anyhow::{Context, bail};
use clap::Args;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tandem_site_import::{FORMATS, Format, LARGEST_FILE, Options, Source, format, recognise};

/// What to translate, and how.
///
/// The format is known by the file's name and what is in it: conf.ini and the controller's ini of the
/// thesis (give both for one site), a Mininet script, containerlab's .clab.yml, GraphML of the
/// Topology Zoo, node-link JSON of TopoHub or NetworkX. The site file is printed, or written to
/// --out; what it does not have of the file is said on standard error, with its lines, and in
/// comments of the result.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file; of the thesis' ini files both may be given.
    #[arg(required = true, num_args = 1..=2)]
    file: Vec<PathBuf>,
    /// What it is, where its name and text do not tell.
    #[arg(long, value_parser = names())]
    format: Option<String>,
    /// Where to write the site file; by default it is printed. A file that is there is not replaced.
    #[arg(long)]
    out: Option<PathBuf>,
    /// A host that is a gateway, by its name; may be given several times. Without, gw1 is added at the
    /// most central switch.
    #[arg(long, value_name = "HOST")]
    gateway: Vec<String>,
    /// Which topology of a Mininet script that has several: a key of `topos` or a class, with
    /// arguments as `mn --topo` takes them, such as linear,4 or mine,k=2.
    #[arg(long, value_name = "NAME[,ARGUMENT...]")]
    topo: Option<String>,
    /// Servers at each switch, in a topology that has no hosts.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=4096))]
    servers_per_switch: u32,
    /// How long a Mininet script may run, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    time_limit: u64,
}

fn names() -> clap::builder::PossibleValuesParser {
    FORMATS.iter().map(|f| clap::builder::PossibleValue::new(f.name).help(f.about)).collect::<Vec<_>>().into()
}

pub(super) async fn import(args: ImportArgs) -> anyhow::Result<bool> {
    let mut texts = Vec::new();
    for path in &args.file {
        texts.push((path.display().to_string(), read(path)?));
    }
    let mut sources: Vec<Source<'_>> = texts.iter().map(|(file, text)| Source { file, text }).collect();
    let format = format_of(&args, &sources)?;
    let options = Options { gateways: args.gateway.clone(), servers_per_switch: args.servers_per_switch };
    let recorded;
    if format.name == "mininet" {
        let [script] = sources.as_slice() else { bail!("give one Mininet script") };
        let limit = Duration::from_secs(args.time_limit);
        let run = Run { file: script.file, text: script.text, topo: args.topo.as_deref(), limit };
        recorded = mininet_script::record(&run).await?;
        sources = vec![Source { file: script.file, text: &recorded }];
    } else if args.topo.is_some() {
        bail!("--topo chooses a topology of a Mininet script; {} is {}", sources[0].file, format.about);
    }
    let imported = (format.translate)(&sources, &options)?;
    super::write(&imported.site, args.out.as_deref())?;
    for decision in &imported.decisions {
        eprintln!("{decision}");
    }
    if !imported.leftovers.is_empty() {
        eprintln!("not carried over:");
        for leftover in &imported.leftovers {
            eprintln!("  {leftover}");
        }
    }
    Ok(true)
}

fn format_of(args: &ImportArgs, sources: &[Source<'_>]) -> anyhow::Result<&'static Format> {
    if let Some(format) = args.format.as_deref().and_then(format) {
        return Ok(format);
    }
    let mut found: Option<&'static Format> = None;
    for source in sources {
        let Some(format) = recognise(*source) else {
            let known: Vec<String> = FORMATS.iter().map(|f| format!("  {:15} {}", f.name, f.about)).collect();
            bail!(
                "cannot tell what {} is, by its name and text; say it by --format:\n{}",
                source.file,
                known.join("\n")
            );
        };
        match found {
            None => found = Some(format),
            Some(first) if first.partner == Some(format.name) => {}
            Some(first) => bail!(
                "{} is {}, and {} is {}: they do not make one site. Import them one by one",
                sources[0].file,
                first.about,
                source.file,
                format.about
            ),
        }
    }
    found.context("no file was given")
}

/// A file's text, not more than is translated.
fn read(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).with_context(cannot)?;
    if bytes.len() as u64 > LARGEST_FILE {
        bail!("{} is larger than {} MiB; take a part of it", path.display(), LARGEST_FILE >> 20);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
        anyhow::anyhow!("{}:{line}: this is not UTF-8 text; convert it (iconv -t utf-8)", path.display())
    })?;
    // An editor's mark of the byte order is no part of the text.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
