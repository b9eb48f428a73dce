//! Lines of either side are parsed or refused; a line that was parsed is written and parses to the
//! same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_fpga_card::cosim::protocol::{Answer, Request};

fuzz_target!(|line: &str| {
    if let Ok(request) = Request::parse(line) {
        assert_eq!(Request::parse(&request.to_string()), Ok(request));
    }
    if let Ok(answer) = Answer::parse(line) {
        let text = answer.to_string();
        assert!(!text.contains('\n'));
        match Answer::parse(&text) {
            Ok(Answer::Refused(_)) => assert!(matches!(answer, Answer::Refused(_))),
            again => assert_eq!(again, Ok(answer)),
        }
    }
});
