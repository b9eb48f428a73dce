//! The run folder: what an experiment leaves, in a folder for each kind.
//!
//! ```text
//! manifest.json      what was run, and how to run it again
//! csv/               tables, one line a row
//! figures/           each as SVG, PDF and PNG
//! statistics/RUN/    what the controller exported while it ran
//! recordings/        events, for `tandem replay`
//! run-1/, run-2/ ... with --repeat: a run folder each; above them means and 95% intervals
//! ```

use crate::experiment::manifest::Manifest;
use crate::experiment::plot::Drawing;
use crate::experiment::table::{CsvStyle, Table};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// Folders that are an experiment's own, and are emptied when it runs into the same folder again.
const KINDS: [&str; 5] = ["csv", "figures", "statistics", "recordings", "logs"];
/// What a repetition's folder begins with.
const REPETITION: &str = "run-";

/// Where results go; every experiment has these options.
#[derive(Debug, Clone, clap::Args)]
pub struct OutputOptions {
    /// The run folder; made if it is not there. What an earlier run left in it is removed.
    #[arg(long)]
    pub out: PathBuf,
    /// How CSV files are written: `comma`, or with the semicolons of the thesis.
    #[arg(long, value_enum, default_value = "comma")]
    pub csv: CsvStyle,
    /// Run it so often, each time with the next seed where it has one, into `run-1`, `run-2` ...
    /// below the run folder; tables and figures above them have means and 95% intervals (Student's
    /// t).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
}

/// A run folder that is being filled. What is put into it is kept as well, so that repetitions can
/// be put together.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    style: CsvStyle,
    /// Which of the repetitions this is, from 0; `None` when it is run once.
    repetition: Option<u32>,
    /// Tables so far.
    pub tables: Vec<Table>,
    /// Figures so far, each by the name of its file.
    pub figures: Vec<(String, Drawing)>,
    /// What was run.
    pub manifest: Option<Manifest>,
}

impl RunFolder {
    /// Makes the folder; what an earlier run left in it is removed.
    ///
    /// # Errors
    /// When it cannot be made, or an earlier run's files cannot be removed.
    pub fn make(root: &Path, style: CsvStyle) -> anyhow::Result<RunFolder> {
        std::fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        if root.join(Manifest::FILE).exists() {
            forget(root)?;
        }
        Ok(RunFolder {
            root: root.to_owned(),
            style,
            repetition: None,
            tables: Vec::new(),
            figures: Vec::new(),
            manifest: None,
        })
    }

    /// The folder of a repetition, counted from 0, below this one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn repetition(&self, n: u32) -> anyhow::Result<RunFolder> {
        let path = self.root.join(format!("{REPETITION}{}", n + 1));
        Ok(RunFolder { repetition: Some(n), ..RunFolder::make(&path, self.style)? })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    fn kind(&self, kind: &str) -> anyhow::Result<PathBuf> {
        let path = self.root.join(kind);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// An empty folder for what a controller exports while `run` goes on.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn statistics(&self, run: &str) -> anyhow::Result<PathBuf> {
        let path = self.kind("statistics")?.join(run);
        // A controller appends to the files that it finds, since it may have been restarted; a run
        // begins anew.
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot empty {}", path.display()))?;
        }
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// The file for a run's recording.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn recording(&self, run: &str) -> anyhow::Result<PathBuf> {
        Ok(self.kind("recordings")?.join(format!("{run}.jsonl")))
    }

    /// Writes a table.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn table(&mut self, table: Table) -> anyhow::Result<()> {
        let path = self.kind("csv")?.join(format!("{}.csv", table.name));
        std::fs::write(&path, table.csv(self.style))
            .with_context(|| format!("cannot write {}", path.display()))?;
        self.tables.push(table);
        Ok(())
    }

    /// Draws a figure into files of that name.
    ///
    /// # Errors
    /// When it cannot be drawn or written.
    pub fn figure(&mut self, name: &str, drawing: Drawing) -> anyhow::Result<()> {
        drawing.write(&self.kind("figures")?.join(format!("{name}.svg")))?;
        self.figures.push((name.to_owned(), drawing));
        Ok(())
    }

    /// Writes the manifest, which says how to run it again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(&mut self, mut manifest: Manifest) -> anyhow::Result<()> {
        if self.repetition.is_some() {
            manifest.one_of_many();
        }
        manifest.write(&self.root)?;
        self.manifest = Some(manifest);
        Ok(())
    }
}

/// Removes what a run left: its own folders, and repetitions.
fn forget(root: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let number = name.strip_prefix(REPETITION).is_some_and(|n| n.parse::<u32>().is_ok());
        // A link is not followed: `file_type` is the entry's own.
        if entry.file_type()?.is_dir() && (number || KINDS.contains(&name.as_ref())) {
            let path = entry.path();
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    std::fs::remove_file(root.join(Manifest::FILE)).context("cannot remove the last run's manifest")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp_dir::TempDir;

    #[test]
    fn an_earlier_runs_files_go_and_what_is_somebody_elses_stays() {
        let temp = TempDir::new("run-folder").expect("a folder");
        let root = temp.path().join("out");
        std::fs::create_dir_all(root.join("csv")).expect("a folder");
        std::fs::write(root.join("csv/mine.csv"), "x").expect("a file");
        let folder = RunFolder::make(&root, CsvStyle::Comma).expect("a folder");
        assert!(root.join("csv/mine.csv").exists(), "no manifest: it is not an experiment's");
        let mut second = folder.repetition(1).expect("a folder");
        second.finish(Manifest::new("test", "simulated", 0, "")).expect("a manifest");
        Manifest::new("test", "simulated", 0, "").write(&root).expect("a manifest");
        std::fs::write(root.join("notes.txt"), "mine").expect("a file");
        RunFolder::make(&root, CsvStyle::Comma).expect("a folder");
        let left: Vec<String> = std::fs::read_dir(&root)
            .expect("a folder")
            .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(left, ["notes.txt"]);
    }
}
