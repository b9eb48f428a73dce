//! XML-RPC, supported by every version of XAPI.
//!
//! It is read with a pull parser: entities are not expanded, a document type is refused, and only
//! known elements are accepted. Integers are sent as strings, as XAPI requires for its 64-bit ones.

use super::{Answer, DEPTH, Failure, Malformed, Value};
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use serde_json::{Map, Number};

/// Encodes a call.
///
/// [`Malformed::Unsendable`] for text that XML cannot represent.
pub fn encode_call(method: &str, params: &[Value]) -> Result<String, Malformed> {
    let mut out = String::from("<?xml version=\"1.0\"?><methodCall><methodName>");
    text(&mut out, method)?;
    out.push_str("</methodName><params>");
    for param in params {
        out.push_str("<param>");
        encode(&mut out, param)?;
        out.push_str("</param>");
    }
    out.push_str("</params></methodCall>");
    Ok(out)
}

fn encode(out: &mut String, value: &Value) -> Result<(), Malformed> {
    out.push_str("<value>");
    match value {
        Value::Null => out.push_str("<nil/>"),
        Value::Bool(b) => out.push_str(if *b { "<boolean>1</boolean>" } else { "<boolean>0</boolean>" }),
        Value::Number(n) => {
            let tag = if n.is_f64() { "double" } else { "string" };
            out.push_str(&format!("<{tag}>{n}</{tag}>"));
        }
        Value::String(s) => {
            out.push_str("<string>");
            text(out, s)?;
            out.push_str("</string>");
        }
        Value::Array(list) => {
            out.push_str("<array><data>");
            for item in list {
                encode(out, item)?;
            }
            out.push_str("</data></array>");
        }
        Value::Object(map) => {
            out.push_str("<struct>");
            for (name, member) in map {
                out.push_str("<member><name>");
                text(out, name)?;
                out.push_str("</name>");
                encode(out, member)?;
                out.push_str("</member>");
            }
            out.push_str("</struct>");
        }
    }
    out.push_str("</value>");
    Ok(())
}

/// Escapes a text; a carriage return too, which a parser would otherwise read as a line feed (XML
/// 1.0 2.11).
fn text(out: &mut String, s: &str) -> Result<(), Malformed> {
    for c in s.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\r' => out.push_str("&#13;"),
            // XML 1.0 2.2: these characters are not allowed, escaped or not.
            '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                return Err(Malformed::Unsendable(s.to_owned()));
            }
            c => out.push(c),
        }
    }
    Ok(())
}

/// Decodes a reply: the value, or XAPI's refusal.
///
/// # Errors
/// When the bytes are anything else.
pub fn decode_answer(bytes: &[u8]) -> Result<Answer, Malformed> {
    let mut p = Parser::new(bytes)?;
    p.open("methodResponse")?;
    match p.next_tag()? {
        Tag::Open(name) if name == "params" => {
            p.open("param")?;
            p.open("value")?;
            let value = p.value(0)?;
            p.close()?;
            p.close()?;
            p.close()?;
            status(value)
        }
        Tag::Open(name) if name == "fault" => {
            p.open("value")?;
            let fault = p.value(0)?;
            let code = fault.get("faultCode").and_then(Value::as_i64).unwrap_or(0);
            let text = fault.get("faultString").and_then(Value::as_str).unwrap_or_default().to_owned();
            Err(Malformed::Fault { code, text })
        }
        _ => Err(Malformed::NotAnAnswer("neither params nor fault")),
    }
}

/// `{Status, Value}` or `{Status, ErrorDescription}`.
pub(super) fn status(value: Value) -> Result<Answer, Malformed> {
    let Value::Object(mut map) = value else { return Err(Malformed::NotAnAnswer("no Status")) };
    match map.get("Status").and_then(Value::as_str) {
        Some("Success") => {
            map.remove("Value").map(Ok).ok_or(Malformed::NotAnAnswer("a success without a value"))
        }
        Some("Failure") => match map.remove("ErrorDescription") {
            Some(Value::Array(list)) => Failure::from_list(list).map(Err),
            _ => Err(Malformed::NotAnAnswer("a failure without its description")),
        },
        _ => Err(Malformed::NotAnAnswer("no Status")),
    }
}

/// Decodes a single value, as in a task's result: `<value>OpaqueRef:...</value>`.
///
/// # Errors
/// When the text is anything else.
pub fn decode_value(text: &str) -> Result<Value, Malformed> {
    let mut p = Parser::new(text.as_bytes())?;
    p.open("value")?;
    p.value(0)
}

enum Tag {
    Open(String),
    Close,
    Text(String),
}

struct Parser<'a> {
    reader: Reader<&'a [u8]>,
    /// The tag behind the text that was returned last.
    pending: Option<Tag>,
}

fn bad(e: impl std::fmt::Display) -> Malformed {
    Malformed::Xml(e.to_string())
}

impl<'a> Parser<'a> {
    fn new(bytes: &'a [u8]) -> Result<Parser<'a>, Malformed> {
        let whole = std::str::from_utf8(bytes).map_err(bad)?;
        let mut reader = Reader::from_str(whole);
        reader.config_mut().expand_empty_elements = true;
        Ok(Parser { reader, pending: None })
    }

    /// The next tag, or the text before it if there is any.
    fn next(&mut self) -> Result<Tag, Malformed> {
        if let Some(tag) = self.pending.take() {
            return Ok(tag);
        }
        let mut gathered = String::new();
        let tag = loop {
            match self.reader.read_event().map_err(bad)? {
                Event::Text(t) => gathered.push_str(&t.xml10_content()),
                Event::CData(t) => gathered.push_str(&t.xml10_content()),
                Event::GeneralRef(r) => match r.resolve_char_ref().map_err(bad)? {
                    Some(c) => gathered.push(c),
                    None => {
                        let text = resolve_predefined_entity(&r);
                        gathered.push_str(text.ok_or_else(|| bad("an unknown entity"))?);
                    }
                },
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
                Event::DocType(_) => return Err(bad("a document type")),
                Event::Eof => return Err(bad("it ends in the middle")),
                Event::Start(s) | Event::Empty(s) => break Tag::Open(s.name().as_ref().to_owned()),
                Event::End(_) => break Tag::Close,
            }
        };
        if gathered.is_empty() {
            return Ok(tag);
        }
        self.pending = Some(tag);
        Ok(Tag::Text(gathered))
    }

    /// The next tag, with only white space before it.
    fn next_tag(&mut self) -> Result<Tag, Malformed> {
        match self.next()? {
            Tag::Text(t) if t.trim().is_empty() => self.next(),
            Tag::Text(_) => Err(Malformed::NotAnAnswer("text between elements")),
            tag => Ok(tag),
        }
    }

    fn open(&mut self, name: &'static str) -> Result<(), Malformed> {
        match self.next_tag()? {
            Tag::Open(n) if n == name => Ok(()),
            _ => Err(Malformed::NotAnAnswer(name)),
        }
    }

    fn close(&mut self) -> Result<(), Malformed> {
        match self.next_tag()? {
            Tag::Close => Ok(()),
            _ => Err(Malformed::NotAnAnswer("an element too many")),
        }
    }

    /// The text up to the end of this element, and that end tag.
    fn text(&mut self) -> Result<String, Malformed> {
        match self.next()? {
            Tag::Close => Ok(String::new()),
            Tag::Text(t) => self.close().map(|()| t),
            Tag::Open(_) => Err(Malformed::NotAnAnswer("an element where text is expected")),
        }
    }

    /// The contents of `<value>`, and its end tag.
    fn value(&mut self, depth: usize) -> Result<Value, Malformed> {
        if depth > DEPTH {
            return Err(Malformed::TooDeep);
        }
        let kind = match self.next()? {
            Tag::Close => return Ok(Value::String(String::new())),
            Tag::Open(name) => name,
            Tag::Text(t) => match self.next()? {
                // Text without a type is a string.
                Tag::Close => return Ok(Value::String(t)),
                Tag::Open(name) if t.trim().is_empty() => name,
                _ => return Err(Malformed::NotAnAnswer("text beside an element")),
            },
        };
        let value = match kind.as_str() {
            "string" | "dateTime.iso8601" | "base64" => Value::String(self.text()?),
            "int" | "i4" | "i8" => {
                let t = self.text()?;
                Value::from(t.trim().parse::<i64>().map_err(|_| Malformed::NotAnAnswer("an integer"))?)
            }
            "boolean" => match self.text()?.trim() {
                "1" => Value::Bool(true),
                "0" => Value::Bool(false),
                _ => return Err(Malformed::NotAnAnswer("a boolean")),
            },
            "double" => {
                let t = self.text()?;
                let n = t.trim().parse::<f64>().map_err(|_| Malformed::NotAnAnswer("a number"))?;
                // "NaN" means not measured yet.
                Number::from_f64(n).map_or(Value::Null, Value::Number)
            }
            "nil" => self.close().map(|()| Value::Null)?,
            "array" => self.array(depth)?,
            "struct" => self.members(depth)?,
            _ => return Err(Malformed::NotAnAnswer("a value of an unknown type")),
        };
        self.close()?;
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Value, Malformed> {
        self.open("data")?;
        let mut list = Vec::new();
        loop {
            match self.next_tag()? {
                Tag::Close => break,
                Tag::Open(n) if n == "value" => list.push(self.value(depth + 1)?),
                _ => return Err(Malformed::NotAnAnswer("an array")),
            }
        }
        self.close()?;
        Ok(Value::Array(list))
    }

    fn members(&mut self, depth: usize) -> Result<Value, Malformed> {
        let mut map = Map::new();
        loop {
            match self.next_tag()? {
                Tag::Close => return Ok(Value::Object(map)),
                Tag::Open(n) if n == "member" => {
                    self.open("name")?;
                    let name = self.text()?;
                    self.open("value")?;
                    let member = self.value(depth + 1)?;
                    self.close()?;
                    map.insert(name, member);
                }
                _ => return Err(Malformed::NotAnAnswer("a struct")),
            }
        }
    }
}

#[cfg(test)]
mod tests;
