//! Holds every command of README.md and of the book in `docs/` to the programs.
//!
//! A fenced `sh` block says by its second word how it is held:
//!
//! | mark | held by |
//! |---|---|
//! | `sh run` | [`run`]: all blocks of a page are run, in order, in one shell and one folder |
//! | `sh vm`, `sh xen` | [`parse`]; they need what `scripts/test --vm` or `--xen` brings up |
//! | `sh parse` | [`parse`]: shell syntax, and our programs' own parsers take every word |
//! | `sh example` | shell syntax; for commands of others only, so none of ours may be in it |
//!
//! A block with another mark, or with a language that [`page`] does not know, fails.

mod inline;
mod page;
mod parse;
mod programs;
mod run;

use page::{Mark, Page};

fn pages() -> Vec<Page> {
    page::all().unwrap_or_else(|error| panic!("{error:#}"))
}

/// Fails with everything that is wrong at once.
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_block_says_what_it_is() {
    let faults: Vec<String> = pages().iter().flat_map(|page| page.faults.clone()).collect();
    none(&faults);
}

#[test]
fn every_documented_command_is_parsed() {
    let pages = pages();
    let blocks = pages.iter().flat_map(|page| &page.blocks).filter(|b| b.mark != Mark::Run);
    none(&parse::faults(blocks).unwrap_or_else(|error| panic!("{error:#}")));
}

#[test]
fn every_verb_and_option_in_the_text_exists() {
    none(&inline::faults(&pages()).unwrap_or_else(|error| panic!("{error:#}")));
}

#[test]
fn every_block_to_be_run_runs() {
    if !tandem_tests::can_emulate() {
        return;
    }
    let pages = pages();
    let faults: Vec<String> = pages
        .iter()
        .filter_map(|page| run::fault(page).transpose())
        .map(|fault| fault.unwrap_or_else(|error| format!("{error:#}")))
        .collect();
    none(&faults);
}
