//! How a log line is written: whatever is in it, it is one line, and it is cut.
//!
//! Switches, agents, hypervisors and clients have their words in log lines. They are escaped here,
//! in the one place that all lines go through, whoever writes them.

use std::fmt::Debug;
use tandem_model::text::escaped_to;
use tracing::field::Field;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// Characters of a field at most: a list of faults is long, but not longer.
const FIELD: usize = 4000;

/// Writes an event's fields, escaped.
pub fn fields() -> impl for<'a> FormatFields<'a> + Send + Sync + 'static {
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn Debug| {
        // Where in a library a line was written (crate `log`) is for whoever builds it.
        if field.name().starts_with("log.") {
            return Ok(());
        }
        let text = format!("{value:?}");
        let text = escaped_to(&text, FIELD);
        match field.name() {
            "message" => write!(writer, "{text}"),
            name => write!(writer, " {name}={text}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("one thread").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_others_wrote_begins_no_line_and_moves_no_cursor() {
        let lines = Lines::default();
        let to = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .with_ansi(false)
            .fmt_fields(fields())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let name = "x\n2026-01-01 ERROR all is lost\x1b[2J\u{202e}";
            tracing::warn!(kind = "test", why = %name, "switch {name} is {}", "y".repeat(10_000));
        });
        let text = String::from_utf8(lines.0.lock().expect("one thread").clone()).expect("UTF-8");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(" kind=\"test\" why=x\\u{a}2026"), "{text}");
        assert!(!text.contains(['\x1b', '\u{202e}']) && text.len() < 6000, "{text}");
    }
}
