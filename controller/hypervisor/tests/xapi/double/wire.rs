//! The double's own XML-RPC and JSON-RPC. It shares no code with the driver's: the tests check that
//! both understand each other, and that the official client understands this one.

use quick_xml::events::{BytesText, Event};
use quick_xml::{Reader, Writer};
use serde_json::{Map, Value, json};

/// A refusal: the code and its arguments.
pub(crate) type Refusal = Vec<String>;

/// A call: its id (JSON-RPC), method and parameters.
pub(crate) struct Call {
    pub(crate) id: Value,
    pub(crate) method: String,
    pub(crate) params: Vec<Value>,
}

pub(crate) fn read_json(body: &[u8]) -> Option<Call> {
    let mut v: Value = serde_json::from_slice(body).ok()?;
    let id = v.get("id")?.clone();
    if v.get("jsonrpc")? != "2.0" || id.is_null() {
        return None;
    }
    let method = v.get("method")?.as_str()?.to_owned();
    let Value::Array(params) = v.get_mut("params")?.take() else { return None };
    Some(Call { id, method, params })
}

pub(crate) fn write_json(id: &Value, answer: &Result<Value, Refusal>) -> String {
    match answer {
        Ok(value) => json!({"jsonrpc": "2.0", "id": id, "result": value}).to_string(),
        Err(r) => {
            let error = json!({"code": 1, "message": r[0], "data": r[1..]});
            json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string()
        }
    }
}

/// An element of a small tree.
#[derive(Default)]
struct Node {
    name: String,
    text: String,
    inner: Vec<Node>,
}

pub(crate) fn read_xml(body: &[u8]) -> Option<Call> {
    let text = std::str::from_utf8(body).ok()?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut stack = vec![Node::default()];
    loop {
        match reader.read_event().ok()? {
            Event::Start(s) => {
                stack.push(Node { name: s.name().as_ref().to_owned(), ..Node::default() });
            }
            Event::End(_) => {
                let done = stack.pop()?;
                stack.last_mut()?.inner.push(done);
            }
            Event::Text(t) => stack.last_mut()?.text.push_str(&t),
            Event::GeneralRef(r) => {
                let c = match r.resolve_char_ref().ok()? {
                    Some(c) => c.to_string(),
                    None => quick_xml::escape::resolve_predefined_entity(&r)?.to_owned(),
                };
                stack.last_mut()?.text.push_str(&c);
            }
            Event::Eof => break,
            _ => {}
        }
    }
    let call = stack.pop()?.inner.into_iter().find(|n| n.name == "methodCall")?;
    let method = call.inner.iter().find(|n| n.name == "methodName")?.text.trim().to_owned();
    let params = call.inner.into_iter().find(|n| n.name == "params").unwrap_or_default();
    let params = params.inner.iter().map(|p| value(p.inner.first()?)).collect::<Option<_>>()?;
    Some(Call { id: Value::Null, method, params })
}

fn value(node: &Node) -> Option<Value> {
    let Some(kind) = node.inner.first() else { return Some(json!(node.text)) };
    Some(match kind.name.as_str() {
        "string" => json!(kind.text),
        "int" | "i4" => json!(kind.text.trim().parse::<i64>().ok()?),
        "double" => json!(kind.text.trim().parse::<f64>().ok()?),
        "boolean" => json!(kind.text.trim() == "1"),
        "nil" => Value::Null,
        "array" => {
            let data = kind.inner.first()?;
            Value::Array(data.inner.iter().map(value).collect::<Option<_>>()?)
        }
        "struct" => {
            let mut map = Map::new();
            for member in &kind.inner {
                map.insert(member.inner.first()?.text.clone(), value(member.inner.get(1)?)?);
            }
            Value::Object(map)
        }
        _ => return None,
    })
}

pub(crate) fn write_xml(answer: &Result<Value, Refusal>) -> String {
    let body = match answer {
        Ok(value) => json!({"Status": "Success", "Value": value}),
        Err(r) => json!({"Status": "Failure", "ErrorDescription": r}),
    };
    format!(
        "<?xml version=\"1.0\"?><methodResponse><params><param>{}</param></params></methodResponse>",
        xml_value(&body)
    )
}

/// Integers as strings, as XAPI sends its 64-bit ones.
pub(crate) fn xml_value(v: &Value) -> String {
    let inner = match v {
        Value::Null => "<nil/>".to_owned(),
        Value::Bool(b) => format!("<boolean>{}</boolean>", u8::from(*b)),
        Value::Number(n) if n.is_f64() => format!("<double>{n}</double>"),
        Value::Number(n) => n.to_string(),
        Value::String(s) if is_time(s) => format!("<dateTime.iso8601>{s}</dateTime.iso8601>"),
        Value::String(s) => escaped(s),
        Value::Array(list) => {
            let items: String = list.iter().map(xml_value).collect();
            format!("<array><data>{items}</data></array>")
        }
        Value::Object(map) => {
            let member = |(k, v): (&String, &Value)| {
                format!("<member><name>{}</name>{}</member>", escaped(k), xml_value(v))
            };
            format!("<struct>{}</struct>", map.iter().map(member).collect::<String>())
        }
    };
    format!("<value>{inner}</value>")
}

/// `20240102T03:04:05Z`.
fn is_time(s: &str) -> bool {
    s.len() == 18 && s.as_bytes()[8] == b'T' && s.ends_with('Z')
}

fn escaped(s: &str) -> String {
    let mut writer = Writer::new(Vec::new());
    writer.write_event(Event::Text(BytesText::new(s))).expect("a vector takes all");
    String::from_utf8(writer.into_inner()).expect("what was text")
}
