//! Any text is an agent.toml, a desired.toml or a token, or an error in words; what is sound is written back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_agent::{config::Config, desired::Desired, queues};
use tandem_agent_protocol::token::Token;

fuzz_target!(|text: &str| {
    let _ = Config::parse(text);
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    if let Ok(desired) = Desired::parse(text) {
        let written = toml::to_string(&desired).expect("TOML");
        assert_eq!(toml::from_str::<Desired>(&written).expect("what was written"), desired);
        for tree in desired.switches.iter().flat_map(|s| &s.ports).filter_map(queues::tree) {
            assert_eq!(tree.check(), Ok(()));
        }
    }
});
