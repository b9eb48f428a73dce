//! Text that somebody else wrote (a VM, a switch, an agent, a hypervisor, a client), made safe to
//! show.
//!
//! Whatever comes from outside is escaped and cut here before it reaches a terminal, a log line, a
//! CSV file or a page: a control character could move a terminal's cursor or start a log line of
//! its own, a right-to-left mark could reorder what is read. Markup is not escaped here: that is
//! the matter of whoever writes markup.

use std::fmt::{self, Write};

/// Characters of foreign text that a log line or a notice shows at most.
pub const SHOWN: usize = 200;

/// Characters that a name (of a VM, an agent, a token) may have.
pub const NAME_MAX: usize = 63;

/// Shows foreign text on one line: control characters and marks that change the direction or are
/// invisible as `\u{..}`, cut after `max` characters of the original, with `...` for what was cut.
pub fn escaped_to(text: &str, max: usize) -> Escaped<'_> {
    Escaped { text, max }
}

/// [`escaped_to`] with [`SHOWN`] characters.
pub fn escaped(text: &str) -> Escaped<'_> {
    escaped_to(text, SHOWN)
}

/// The same for bytes that ought to be UTF-8: what is not becomes U+FFFD.
pub fn escaped_bytes(bytes: &[u8]) -> String {
    // A character has at most four bytes, so nothing that would be shown is cut here.
    let shown = bytes.get(..SHOWN * 4 + 4).unwrap_or(bytes);
    escaped(&String::from_utf8_lossy(shown)).to_string()
}

/// Foreign text as it is shown; see [`escaped_to`].
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a> {
    text: &'a str,
    max: usize,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.text.chars();
        for c in characters.by_ref().take(self.max) {
            if is_plain(c) { f.write_char(c)? } else { write!(f, "{}", c.escape_unicode())? }
        }
        if characters.next().is_some() { f.write_str("...") } else { Ok(()) }
    }
}

/// True when a character shows as itself and leaves its neighbours where they are.
fn is_plain(c: char) -> bool {
    // Unicode 16, chapter 23: line and paragraph separators, bidirectional controls, zero-width and
    // tag characters.
    let moves_others = matches!(
        c,
        '\u{00ad}'
            | '\u{061c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    !c.is_control() && !moves_others
}

/// Why a name is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It has no characters.
    #[error("a name has 1 to {NAME_MAX} characters, and this one has none")]
    Empty,
    /// It has too many.
    #[error("a name has 1 to {NAME_MAX} characters, and this one has {0}")]
    TooLong(usize),
    /// A control character, a line separator or a mark that changes the direction of writing.
    #[error("a name has no control or invisible characters, and character {at} of this one is {character:?}")]
    NotPlain {
        /// Which, from 1.
        at: usize,
        /// What it is.
        character: char,
    },
}

/// Checks a name that a client chose: 1 to 63 characters, each of which shows as itself.
///
/// # Errors
/// When it is none.
pub fn check_name(name: &str) -> Result<(), BadName> {
    match name.chars().count() {
        0 => return Err(BadName::Empty),
        n if n > NAME_MAX => return Err(BadName::TooLong(n)),
        _ => {}
    }
    match name.chars().zip(1..).find(|(c, _)| !is_plain(*c)) {
        Some((character, at)) => Err(BadName::NotPlain { at, character }),
        None => Ok(()),
    }
}

/// Characters of a name that are compared: whatever is longer is no slip of the hand.
const COMPARED: usize = 64;

/// The known name that was probably meant: the one at the smallest edit distance (Levenshtein 1966),
/// if that is small.
pub fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let key: String = key.chars().take(COMPARED).collect();
    let nearest = known.iter().map(|k| (strsim::levenshtein(&key, k), *k)).min();
    nearest.filter(|(d, k)| *d <= 1 + k.len() / 3).map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_move_a_cursor_or_begin_a_line_is_shown_as_a_number() {
        assert_eq!(escaped("a\x1b[2Jb\nc").to_string(), "a\\u{1b}[2Jb\\u{a}c");
        assert_eq!(escaped("x\u{202e}y").to_string(), "x\\u{202e}y", "a mark that turns the direction");
        assert_eq!(escaped("größe 日本").to_string(), "größe 日本", "letters are letters");
        assert_eq!(escaped_to("abcdef", 3).to_string(), "abc...");
        assert_eq!(escaped_to("abc", 3).to_string(), "abc");
        assert_eq!(escaped_bytes(b"ok\xff\x00"), "ok\u{fffd}\\u{0}");
    }

    #[test]
    fn a_name_is_short_and_plain() {
        assert_eq!(check_name("web 1"), Ok(()));
        assert_eq!(check_name(&"n".repeat(63)), Ok(()));
        assert_eq!(check_name(""), Err(BadName::Empty));
        assert_eq!(check_name(&"n".repeat(64)), Err(BadName::TooLong(64)));
        assert_eq!(check_name("a\tb"), Err(BadName::NotPlain { at: 2, character: '\t' }));
        assert!(check_name("a\u{9b}b").is_err(), "a one-character escape sequence (ECMA-48)");
    }

    proptest! {
        #[test]
        fn whatever_the_text_the_line_is_one_line_and_bounded(text in ".*", max in 0usize..50) {
            let shown = escaped_to(&text, max).to_string();
            prop_assert!(shown.chars().all(is_plain));
            // `\u{10ffff}` is the longest form of a character.
            prop_assert!(shown.chars().count() <= max * 10 + 3);
        }

        #[test]
        fn whatever_the_bytes_the_line_is_one_line(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(escaped_bytes(&bytes).chars().all(is_plain));
        }
    }
}
