//! What ITGDec says of a receiver's log: the totals of its summary.

use super::super::measured::Session;

/// Reads the summary that ITGDec prints on standard output; `None` when it has no totals, or
/// nothing came.
///
/// Its spinner (`\`, `-`, `/`, each with a backspace) may stand anywhere before a line.
pub(super) fn totals(output: &str) -> Option<Session> {
    let clean = without_spinner(output);
    let totals = clean.split("TOTAL RESULTS").nth(1)?;
    let number = |key: &str| -> Option<f64> {
        let line = totals.lines().find(|line| line.trim_start().starts_with(key))?;
        let value = line.split_once('=')?.1.split_whitespace().next()?;
        value.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)
    };
    let received = number("Total packets")?;
    let dropped = number("Packets dropped").unwrap_or(0.0);
    (received > 0.0).then(|| Session {
        sent: (received + dropped) as u64,
        received: received as u64,
        bytes: number("Bytes received").unwrap_or(0.0) as u64,
        reordered: 0,
        delay: number("Average delay").unwrap_or(0.0),
        jitter: number("Average jitter").unwrap_or(0.0),
        seconds: number("Total time").unwrap_or(0.0),
    })
}

/// Each backspace takes the character before it away, as on a terminal.
fn without_spinner(output: &str) -> String {
    let mut clean = String::with_capacity(output.len());
    for c in output.chars() {
        match c {
            '\u{8}' => {
                if !clean.ends_with('\n') {
                    clean.pop();
                }
            }
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As ITGDec 2.8.1 prints it, for a Poisson flow.
    const SUMMARY: &str = "\u{8}|\u{8}\\\u{8}-\u{8}/ITGDec version 2.8.1 (r1023)\n\
----------------------------------------------------------\n\
Flow number: 1\nFrom 10.9.0.1:49207\nTo    10.9.0.2:20001\n\
Total packets            =           7\n\n\
****************  TOTAL RESULTS   ******************\n\
__________________________________________________________\n\
\u{8}|\u{8}\\\u{8}Number of flows          =             1\n\
Total time               =      1.998004 s\n\
Total packets            =           950\n\
Minimum delay            =      0.000023 s\n\
Average delay            =      0.000048 s\n\
Average jitter           =      0.000013 s\n\
Bytes received           =        486400\n\
Average bitrate          =   1947.543649 Kbit/s\n\
Packets dropped          =            50 (5.00 %)\n\
Error lines              =             0\n";

    #[test]
    fn the_totals_are_read_past_the_spinner() {
        let session = totals(SUMMARY).expect("totals");
        assert_eq!((session.sent, session.received, session.bytes), (1000, 950, 486_400));
        assert_eq!((session.delay, session.jitter, session.seconds), (0.000_048, 0.000_013, 1.998_004));
        assert_eq!(totals(" Error opening log file 'itg-1.log'"), None);
        assert_eq!(totals(&SUMMARY.replace("950", "0")), None);
        assert_eq!(totals(&SUMMARY.replace("950", "nan")), None);
    }

    proptest! {
        #[test]
        fn any_output_is_read(text in ".{0,80}", at in 0usize..400) {
            let mut output = SUMMARY.to_owned();
            let at = (0..=at.min(output.len())).rev().find(|n| output.is_char_boundary(*n)).unwrap_or(0);
            output.insert_str(at, &text);
            totals(&output);
        }
    }
}
