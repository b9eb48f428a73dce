//! `examples/own_policy.rs` compiles, and shows what it says.

#[path = "../../../examples/own_policy.rs"]
mod own_policy;

/// The default path puts everything on one way up; a policy that takes turns spreads it as the
/// widest shortest path does.
#[test]
fn the_example_compares_three_policies() {
    let rows = own_policy::compare().unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["default-first", "widest-shortest", "in-turn"]);
    let [default, widest, in_turn] = [rows[0].1, rows[1].1, rows[2].1];
    assert!((0.75..0.85).contains(&default), "eight VMs of 10 Mbit/s on 100: {default}");
    assert!(in_turn <= default * 0.75, "they are spread: {in_turn}");
    assert!(widest <= default * 0.75, "they are spread: {widest}");
}
