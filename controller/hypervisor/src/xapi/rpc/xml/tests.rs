use super::*;
use proptest::prelude::*;
use serde_json::json;

/// Any value with texts that XML can represent. Integers would come back as strings, as XAPI
/// requires, so there are none.
fn values() -> impl Strategy<Value = Value> {
    let text = "[ -~\\t\\n\\räß€𝄞]{0,12}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-1.0e9..1.0e9).prop_map(|n: f64| json!(n)),
        text.prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::btree_map(text, inner, 0..6)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn response(value: &Value) -> String {
    let mut body = String::new();
    encode(&mut body, value).expect("text that XML carries");
    format!(
        "<?xml version='1.0'?>\n<methodResponse>\n<params> <param>{body}</param></params></methodResponse>\n"
    )
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(value in values()) {
        let wrapped = json!({"Status": "Success", "Value": value});
        prop_assert_eq!(decode_answer(response(&wrapped).as_bytes()), Ok(Ok(value)));
    }

    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_answer(&bytes);
    }

    /// A valid reply with some changed bytes.
    #[test]
    fn damaged_answers_never_panic(value in values(), at in 0usize..2000, byte in any::<u8>(), cut in 0usize..2000) {
        let mut bytes = response(&json!({"Status": "Success", "Value": value})).into_bytes();
        let length = bytes.len();
        bytes[at % length] = byte;
        let _ = decode_answer(&bytes);
        bytes.truncate(cut % length);
        prop_assert!(decode_answer(&bytes).is_err());
    }
}

/// A refusal as written by Python's xmlrpc.client, with its white space.
#[test]
fn a_refusal_is_a_code_and_what_belongs_to_it() {
    let text = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><struct>\n<member>\n<name>Status</name>\n\
        <value><string>Failure</string></value>\n</member>\n<member>\n<name>ErrorDescription</name>\n<value><array><data>\n\
        <value><string>VM_BAD_POWER_STATE</string></value>\n<value>OpaqueRef:1</value>\n<value><string>Running</string></value>\n\
        <value><string>Halted</string></value>\n</data></array></value>\n</member>\n</struct></value>\n</param>\n</params>\n</methodResponse>\n";
    let failure = decode_answer(text.as_bytes()).expect("an answer").expect_err("a refusal");
    assert_eq!(failure.code, "VM_BAD_POWER_STATE");
    assert_eq!(failure.args, ["OpaqueRef:1", "Running", "Halted"]);
}

#[test]
fn types_of_the_specification_are_read() {
    let value = |inner: &str| decode_value(&format!("<value>{inner}</value>"));
    assert_eq!(value("<i4>-5</i4>"), Ok(json!(-5)));
    assert_eq!(value("<int>7</int>"), Ok(json!(7)));
    assert_eq!(value("<boolean>1</boolean>"), Ok(json!(true)));
    assert_eq!(value("<double>0.25</double>"), Ok(json!(0.25)));
    assert_eq!(value("<double>nan</double>"), Ok(Value::Null));
    assert_eq!(
        value("<dateTime.iso8601>20240102T03:04:05Z</dateTime.iso8601>"),
        Ok(json!("20240102T03:04:05Z"))
    );
    assert_eq!(value(" as it stands "), Ok(json!(" as it stands ")));
    assert_eq!(value("<string>a &amp; b &#13;<![CDATA[<c>]]></string>"), Ok(json!("a & b \r<c>")));
    assert_eq!(value("<array><data/></array>"), Ok(json!([])));
    assert_eq!(value("<struct/>"), Ok(json!({})));
    assert_eq!(value(""), Ok(json!("")));
    assert!(value("<boolean>2</boolean>").is_err());
    assert!(value("<i4>99999999999999999999</i4>").is_err());
    assert!(value("x<string>y</string>").is_err());
}

#[test]
fn depth_and_document_types_are_refused() {
    let deep = "<value><array><data>".repeat(10_000);
    assert_eq!(decode_value(&deep), Err(Malformed::TooDeep));
    let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\">]><methodResponse/>";
    assert!(matches!(decode_answer(bomb.as_bytes()), Err(Malformed::Xml(_))));
    assert!(matches!(encode_call("m", &[json!("a\u{0}b")]), Err(Malformed::Unsendable(_))));
}

#[test]
fn a_fault_is_no_refusal() {
    let text = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>4</int></value></member>\
        <member><name>faultString</name><value>Too many</value></member></struct></value></fault></methodResponse>";
    assert_eq!(
        decode_answer(text.as_bytes()),
        Err(Malformed::Fault { code: 4, text: "Too many".to_owned() })
    );
}

#[test]
fn integers_go_as_strings() {
    let call = encode_call("VM.set_VCPUs_max", &[json!("OpaqueRef:1"), json!(4)]).expect("encoded");
    assert!(call.contains("<value><string>4</string></value>"), "{call}");
}
