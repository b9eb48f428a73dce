//! JSON-RPC 2.0 at `/jsonrpc`, supported by newer versions of XAPI.
//!
//! A refusal is `error {code: 1, message: CODE, data: [args]}`. A server with JSON-RPC 1.0 only
//! answers a call of 2.0 with XML-RPC's `{Status, ...}` as the result, which is accepted too. The
//! parser limits the depth (128 levels).

use super::{Answer, Failure, Malformed, Value, xml};
use serde_json::json;

/// Encodes a call. `id` is repeated in the reply.
pub fn encode_call(id: u64, method: &str, params: &[Value]) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

/// Decodes the reply to the call with this id.
///
/// # Errors
/// When the bytes are anything else.
pub fn decode_answer(id: u64, bytes: &[u8]) -> Result<Answer, Malformed> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| Malformed::Json(e.to_string()))?;
    let Value::Object(mut map) = value else { return Err(Malformed::NotAnAnswer("no JSON object")) };
    let second = map.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
    match map.get("id") {
        Some(Value::Number(n)) if n.as_u64() == Some(id) => {}
        // An error found before the id was read has none.
        Some(Value::Null) | None if map.get("error").is_some_and(|e| !e.is_null()) => {}
        _ => return Err(Malformed::NotAnAnswer("the answer to another call")),
    }
    match map.remove("error") {
        None | Some(Value::Null) => {}
        Some(error) => return failure(error).map(Err),
    }
    let result = map.remove("result").ok_or(Malformed::NotAnAnswer("neither result nor error"))?;
    if second { Ok(Ok(result)) } else { xml::status(result) }
}

fn failure(error: Value) -> Result<Failure, Malformed> {
    let Value::Object(mut map) = error else {
        return Err(Malformed::NotAnAnswer("an error that is no object"));
    };
    let Some(Value::String(code)) = map.remove("message") else {
        return Err(Malformed::NotAnAnswer("an error without its code"));
    };
    let args = match map.remove("data") {
        Some(Value::Array(list)) => list,
        None | Some(Value::Null) => Vec::new(),
        Some(other) => vec![other],
    };
    Failure::from_list(std::iter::once(Value::String(code)).chain(args).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_answer(1, &bytes);
        }

        #[test]
        fn results_and_refusals_come_back(id in any::<u64>(), text in ".{0,20}", args in proptest::collection::vec(".{0,9}", 0..4)) {
            let good = json!({"jsonrpc": "2.0", "id": id, "result": text}).to_string();
            prop_assert_eq!(decode_answer(id, good.as_bytes()), Ok(Ok(Value::String(text.clone()))));
            let bad = json!({"jsonrpc": "2.0", "id": id, "error": {"code": 1, "message": text, "data": args}}).to_string();
            prop_assert_eq!(decode_answer(id, bad.as_bytes()), Ok(Err(Failure { code: text, args })));
        }

        #[test]
        fn a_call_says_what_it_was_given(id in any::<u64>(), method in "[A-Za-z._]{1,20}", text in ".{0,20}") {
            let call: Value = serde_json::from_str(&encode_call(id, &method, &[json!(text), json!(7)])).expect("JSON");
            prop_assert_eq!(call, json!({"jsonrpc": "2.0", "id": id, "method": method, "params": [text, 7]}));
        }
    }

    #[test]
    fn answers_to_others_and_nests_are_refused() {
        assert_eq!(
            decode_answer(2, br#"{"jsonrpc":"2.0","id":1,"result":""}"#),
            Err(Malformed::NotAnAnswer("the answer to another call"))
        );
        let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{}"#, "[".repeat(100_000));
        assert!(matches!(decode_answer(1, deep.as_bytes()), Err(Malformed::Json(_))));
    }

    #[test]
    fn a_server_of_the_first_version_is_understood() {
        let good = br#"{"id":1,"error":null,"result":{"Status":"Success","Value":"OpaqueRef:1"}}"#;
        assert_eq!(decode_answer(1, good), Ok(Ok(json!("OpaqueRef:1"))));
        let bad = br#"{"id":1,"error":null,"result":{"Status":"Failure","ErrorDescription":["HOST_IS_SLAVE","10.0.0.1"]}}"#;
        let refused = decode_answer(1, bad).expect("an answer").expect_err("a refusal");
        assert_eq!((refused.code.as_str(), refused.arg(0)), ("HOST_IS_SLAVE", "10.0.0.1"));
    }
}
