//! Damaged settings files, for the tests of their readers.

/// A TOML text in which each change deletes a line, or gives the key of that line another value. A
/// line without a key is deleted in either case.
pub fn damage(text: &str, changes: Vec<(usize, Option<String>)>) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (at, value) in changes {
        let key = lines[at].split_once('=').map(|(key, _)| key.to_owned());
        lines[at] = match (key, value) {
            (Some(key), Some(value)) => format!("{key}= {value}"),
            _ => String::new(),
        };
    }
    lines.join("\n")
}
