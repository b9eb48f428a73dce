use super::*;
use proptest::prelude::*;
use tandem_model::site::read;

fn check(text: &str) -> Result<(), Faults> {
    read(text, "site.toml").map(|_| ())
}

fn ask(answers: &str) -> (Result<String, InitError>, String) {
    let init = Init { check: &check, allocations: &["best-fit".to_owned(), "worst-fit".to_owned()] };
    let mut output = Vec::new();
    let result = init.ask(&mut answers.as_bytes(), &mut output);
    (result, String::from_utf8(output).expect("UTF-8"))
}

#[test]
fn empty_answers_give_what_yes_gives_and_every_key_is_explained() {
    let (site, asked) = ask(&"\n".repeat(30));
    let site = site.expect("a site");
    let init = Init { check: &check, allocations: &["best-fit".to_owned(), "worst-fit".to_owned()] };
    assert_eq!(site, init.defaults().expect("the defaults"));
    let topology = read(&site, "x").unwrap_or_else(|f| panic!("{f}")).topology;
    assert_eq!(
        (topology.switches.len(), topology.servers.len()),
        (2 + 4 + 8, 16),
        "figure 4.2's data centre"
    );
    assert!(site.lines().filter(|l| l.contains(" = ")).all(|l| l.contains("    # ")), "{site}");
    assert!(asked.contains("best-fit, worst-fit"), "the policies that there are: {asked}");
}

#[test]
fn an_answer_that_cannot_be_is_refused_in_the_readers_words_and_asked_again() {
    let (site, asked) = ask(
        "a name\nmine\ntorus\nfat-tree\n3\n4\n\n\n10\n1 Gbit/s\n\n\n\n\n\n\nworst-fit\ngold\ngold=80,b=30\ngold=70 b=30\n",
    );
    let site = site.unwrap_or_else(|e| panic!("{e}\n{asked}"));
    for words in [
        "\"a name\" cannot be a name; write up to 32 letters",
        "\"torus\" is not a shape",
        "3 is odd",
        "is not a bit rate with its unit",
        "\"gold\" is not a class with its share",
        "110% of each port",
    ] {
        assert!(asked.contains(words), "{words}: {asked}");
    }
    let site = read(&site, "x").unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(site.topology.switches.len(), 20);
    assert_eq!(site.classes.iter().map(|c| c.share).collect::<Vec<_>>(), [70.0, 30.0]);
    assert_eq!(site.policy.allocation.0, "worst-fit");
}

#[test]
fn an_input_that_ends_says_what_is_missing() {
    let (result, _) = ask("mine\nlinear\n5\n");
    let error = result.expect_err("it ended").to_string();
    assert!(
        error.starts_with("the answers end after 3; missing: topology.servers_per_switch, topology.gateways"),
        "{error}"
    );
    assert!(error.contains("policy.allocation, classes"), "{error}");
}

#[test]
fn what_is_typed_cannot_break_out_of_its_line() {
    let (result, asked) = ask("a\"\\\u{7}b\n");
    assert!(result.is_err() && asked.contains("cannot be a name"), "{asked}");
    let long = format!("{}\nmine\n", "n".repeat(5000));
    let (result, _) = ask(&long);
    let error = result.expect_err("it ended").to_string();
    assert!(error.contains("after 2;"), "the rest of a long line is no answer: {error}");
    let (_, asked) = ask("m\nfat-tree\n4 # [x]\n");
    assert!(asked.contains("is not a number"), "{asked}");
}

proptest! {
    // Each case reads a site some thirty times.
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any counts that the reader takes one by one make a site in which every switch is reached.
    #[test]
    fn any_counts_of_a_tree_make_a_site(core in 1u32..9, aggregation in 0u32..9, edge in 1u32..12, servers in 0u32..3, gateways in 1u32..6) {
        let counts = format!("{core}\n{aggregation}\n{edge}\n{servers}\n{gateways}\n");
        let (site, asked) = ask(&format!("m\nthree-tier\n{counts}{}", "\n".repeat(12)));
        let site = read(&site.unwrap_or_else(|e| panic!("{e}\n{asked}")), "x").unwrap_or_else(|f| panic!("{f}"));
        let t = &site.topology;
        prop_assert_eq!(t.switches.len() as u32, core + aggregation + edge, "{}", asked);
        prop_assert_eq!((t.servers.len() as u32, t.gateways.len() as u32), (edge * servers, gateways));
    }

    #[test]
    fn any_answers_end_in_a_site_or_in_what_is_missing(answers in proptest::collection::vec("[a-z0-9 =\"\\\\.\\-]{0,8}", 0..40)) {
        match ask(&answers.join("\n")).0 {
            Ok(site) => prop_assert!(check(&site).is_ok(), "{site}"),
            Err(error) => prop_assert!(error.to_string().contains("missing: ")),
        }
    }
}
