//! The reply to `/rrd_updates`: rows of rates in any order, and a legend that describes the
//! columns.
//!
//! ```xml
//! <xport><meta><start>..</start><step>5</step><end>..</end> ...
//!   <legend><entry>AVERAGE:vm:UUID:cpu0</entry> ...</legend></meta>
//!  <data><row><t>1700000000</t><v>0.25</v> ...</row> ...</data></xport>
//! ```
//!
//! Pure: bytes in, a table out. It does not panic for any bytes, and returns no more cells than
//! they have.

use super::rpc::Malformed;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

/// The kind of a column's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// A host.
    Host,
    /// A VM.
    Vm,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The kind of its object.
    pub whose: Whose,
    /// The object's UUID.
    pub uuid: String,
    /// The measured quantity: `cpu0`, `vif_0_rx`, `memory` ...
    pub name: String,
}

/// The table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Updates {
    /// Seconds between rows.
    pub step: u64,
    /// The host's clock, in seconds since the epoch.
    pub end: u64,
    /// One for each cell of a row; `None` for an unknown one.
    pub columns: Vec<Option<Column>>,
    /// Time (seconds since the epoch), and the averages of the interval before.
    pub rows: Vec<(u64, Vec<f64>)>,
}

/// Parses a reply.
///
/// When it is not such a document.
pub fn parse(bytes: &[u8]) -> Result<Updates, Malformed> {
    let bad = |e: &dyn std::fmt::Display| Malformed::Xml(e.to_string());
    let text = std::str::from_utf8(bytes).map_err(|e| bad(&e))?;
    let mut reader = Reader::from_str(text);
    let mut updates = Updates::default();
    let (mut seen, mut ended) = (false, false);
    let mut gathered = String::new();
    let mut row: Option<(u64, Vec<f64>)> = None;
    loop {
        match reader.read_event().map_err(|e| bad(&e))? {
            Event::Start(s) => {
                gathered.clear();
                match s.name().as_ref() {
                    "xport" => seen = true,
                    // No memory is reserved in advance: a thousand empty rows behind a long legend
                    // would reserve a thousand times the document's size.
                    "row" => row = Some((0, Vec::new())),
                    _ => {}
                }
            }
            Event::Text(t) => gathered.push_str(&t),
            Event::GeneralRef(r) => {
                gathered.push_str(resolve_predefined_entity(&r).unwrap_or("?"));
            }
            Event::End(e) => {
                let text = gathered.trim();
                match (e.name().as_ref(), &mut row) {
                    ("step", _) => updates.step = text.parse().unwrap_or(0),
                    ("end", _) => updates.end = text.parse().unwrap_or(0),
                    ("entry", _) => updates.columns.push(column(text)),
                    ("t", Some(row)) => row.0 = text.parse().unwrap_or(0),
                    // "NaN" means not measured, and so does anything that is not a number.
                    ("v", Some(row)) => row.1.push(text.parse().unwrap_or(f64::NAN)),
                    ("row", done) => updates.rows.extend(done.take()),
                    ("xport", _) => ended = true,
                    _ => {}
                }
                gathered.clear();
            }
            Event::DocType(_) => return Err(bad(&"a document type")),
            Event::Eof => break,
            _ => {}
        }
    }
    if !seen || !ended {
        return Err(Malformed::NotAnAnswer("no <xport>, or only its beginning"));
    }
    Ok(updates)
}

/// `AVERAGE:vm:UUID:cpu0`.
fn column(text: &str) -> Option<Column> {
    let mut parts = text.splitn(4, ':');
    let (_function, whose) = (parts.next()?, parts.next()?);
    let whose = match whose {
        "host" => Whose::Host,
        "vm" => Whose::Vm,
        _ => return None,
    };
    Some(Column { whose, uuid: parts.next()?.to_owned(), name: parts.next()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = "<xport><meta><start>1700000000</start><step>5</step><end>1700000010</end><rows>2</rows><columns>3</columns>\
        <legend><entry>AVERAGE:host:h-1:memory_total_kib</entry><entry>AVERAGE:vm:v-1:cpu0</entry><entry>AVERAGE:sr:s-1:io</entry></legend></meta>\
        <data><row><t>1700000010</t><v>1048576</v><v>0.5</v><v>1</v></row>\n<row><t>1700000005</t><v>NaN</v><v>2.5e-1</v><v>-</v></row></data></xport>";

    #[test]
    fn rows_and_their_legend_are_read() {
        let u = parse(SAMPLE.as_bytes()).expect("a table");
        assert_eq!((u.step, u.end, u.rows.len()), (5, 1_700_000_010, 2));
        let cpu = Column { whose: Whose::Vm, uuid: "v-1".into(), name: "cpu0".into() };
        assert_eq!(u.columns[1], Some(cpu));
        assert_eq!(u.columns[2], None);
        assert_eq!(u.rows[0], (1_700_000_010, vec![1_048_576.0, 0.5, 1.0]));
        assert!(u.rows[1].1[0].is_nan() && u.rows[1].1[2].is_nan());
        assert_eq!(u.rows[1].1[1], 0.25);
    }

    #[test]
    fn half_a_table_is_none() {
        for cut in 0..SAMPLE.len() {
            assert!(parse(&SAMPLE.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
        assert!(parse(b"<html>404</html>").is_err());
    }

    /// A legend of a thousand columns with rows without cells: memory is used for existing cells
    /// only.
    #[test]
    fn empty_rows_behind_a_long_legend_take_no_room() {
        let legend = "<entry>AVERAGE:vm:v:cpu0</entry>".repeat(1000);
        let rows = "<row><t>1</t></row>".repeat(1000);
        let text = format!("<xport><legend>{legend}</legend><data>{rows}</data></xport>");
        let updates = parse(text.as_bytes()).expect("a table");
        assert_eq!((updates.columns.len(), updates.rows.len()), (1000, 1000));
        let room: usize = updates.rows.iter().map(|(_, cells)| cells.capacity()).sum();
        assert_eq!(room, 0);
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..SAMPLE.len(), byte in any::<u8>()) {
            let _ = parse(&bytes);
            let mut damaged = SAMPLE.as_bytes().to_vec();
            damaged[at] = byte;
            let _ = parse(&damaged);
        }
    }
}
