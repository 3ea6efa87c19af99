//! JSON-RPC 2.0, one object or batch a line (www.jsonrpc.org/specification).
//!
//! A line in is a request, a notification (no `id`: carried out, not answered) or a batch of up to
//! 100 of either. Whatever is wrong with a line is answered with an error object and closes
//! nothing. Parameters are given by name.
//!
//! | code   | meaning                                                      |
//! |--------|--------------------------------------------------------------|
//! | -32700 | the line is no JSON                                          |
//! | -32600 | JSON, but no request; a line or batch that is too long       |
//! | -32601 | no such method                                               |
//! | -32602 | parameters that the method has not, lacks or cannot read     |
//! | 1      | refused                                                      |
//!
//! With the last two, `data` has `port`, `cause` and `hint`.

use serde_json::{Value, json};

use super::methods;
use crate::refusal::Refusal;
use crate::switch::Switch;

/// Most requests in a batch: its answers are kept until all are there.
const BATCH_MAX: usize = 100;

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum RpcError {
    Parse(String),
    InvalidRequest(String),
    MethodNotFound(String),
    InvalidParams(Refusal),
    Refused(Refusal),
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl RpcError {
    /// The same, about a port if it is about none yet.
    pub(crate) fn about(self, port: &str) -> Self {
        match self {
            Self::InvalidParams(refusal) if refusal.port.is_none() => {
                Self::InvalidParams(refusal.about(port))
            }
            other => other,
        }
    }

    fn to_json(&self) -> Value {
        let (code, message) = match self {
            Self::Parse(reason) => (-32700, format!("the line is no JSON: {reason}")),
            Self::InvalidRequest(reason) => (-32600, reason.clone()),
            Self::MethodNotFound(name) => {
                (-32601, format!("there is no method {name} (rpc.methods lists those there are)"))
            }
            Self::InvalidParams(refusal) => return refused(-32602, refusal),
            Self::Refused(refusal) => return refused(1, refusal),
        };
        json!({ "code": code, "message": message })
    }
}

fn refused(code: i32, refusal: &Refusal) -> Value {
    let Refusal { port, cause, hint } = refusal;
    let data = json!({ "port": port, "cause": cause, "hint": hint });
    json!({ "code": code, "message": refusal.to_string(), "data": data })
}

/// The first line of every connection.
pub(crate) fn greeting() -> String {
    json!({ "ringway": env!("CARGO_PKG_VERSION"), "protocol": 1 }).to_string()
}

/// The last line of a connection whose client does not end its lines.
pub(crate) fn line_too_long(limit: usize) -> String {
    let reason = format!("a line has at most {limit} bytes");
    failure(&Value::Null, &RpcError::InvalidRequest(reason)).to_string()
}

/// Carries out a line. `None` if there is nothing to answer.
pub(crate) fn answer(line: &[u8], switch: &mut Switch) -> Option<String> {
    answer_with(line, &mut |method, params| methods::call(method, params, switch))
}

type Call<'a> = &'a mut dyn FnMut(&str, Value) -> Result<Value, RpcError>;

fn answer_with(line: &[u8], call: Call<'_>) -> Option<String> {
    if line.trim_ascii().is_empty() {
        return None;
    }
    let answer = match serde_json::from_slice(line) {
        Err(error) => Some(failure(&Value::Null, &RpcError::Parse(error.to_string()))),
        Ok(Value::Array(requests)) if (1..=BATCH_MAX).contains(&requests.len()) => {
            let answers = requests.into_iter().filter_map(|request| carry_out(request, call));
            Some(answers.collect::<Vec<_>>()).filter(|all| !all.is_empty()).map(Value::Array)
        }
        Ok(Value::Array(requests)) => {
            let count = requests.len();
            let reason = format!("a batch has 1 to {BATCH_MAX} requests, not {count}");
            Some(failure(&Value::Null, &RpcError::InvalidRequest(reason)))
        }
        Ok(request) => carry_out(request, call),
    };
    answer.map(|answer| answer.to_string())
}

/// Carries out one request. `None` if it was a notification.
fn carry_out(request: Value, call: Call<'_>) -> Option<Value> {
    let is_notification = request.is_object() && request.get("id").is_none();
    let id = request
        .get("id")
        .filter(|id| id.is_string() || id.is_number())
        .cloned()
        .unwrap_or(Value::Null);
    let outcome = read(request).and_then(|(method, params)| call(&method, params));
    match outcome {
        // Who sends no valid request cannot mean a notification, so that is answered.
        Err(error @ RpcError::InvalidRequest(_)) => Some(failure(&id, &error)),
        _ if is_notification => None,
        Err(error) => Some(failure(&id, &error)),
        Ok(result) => Some(json!({ "jsonrpc": "2.0", "id": id, "result": result })),
    }
}

fn failure(id: &Value, error: &RpcError) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": error.to_json() })
}

/// Takes a request apart.
fn read(request: Value) -> Result<(String, Value), RpcError> {
    let invalid = |reason: &str| RpcError::InvalidRequest(reason.to_owned());
    let Value::Object(mut request) = request else {
        return Err(invalid("a request is an object or an array of objects"));
    };
    if request.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(invalid("\"jsonrpc\" is not \"2.0\""));
    }
    if request.get("id").is_some_and(|id| !(id.is_string() || id.is_number() || id.is_null())) {
        return Err(invalid("\"id\" is neither text nor number"));
    }
    let Some(Value::String(method)) = request.remove("method") else {
        return Err(invalid("\"method\" is missing or not text"));
    };
    match request.remove("params") {
        None => Ok((method, json!({}))),
        Some(params @ Value::Object(_)) => Ok((method, params)),
        Some(Value::Array(params)) if params.is_empty() => Ok((method, json!({}))),
        Some(_) => Err(RpcError::InvalidParams(Refusal::new("parameters are given by name"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with the name of the method and its parameters; `none` is no method.
    fn ask(line: &str) -> Option<Value> {
        let answer = answer_with(line.as_bytes(), &mut |method, params| match method {
            "none" => Err(RpcError::MethodNotFound(method.to_owned())),
            "no" => Err(Refusal::new("because").about("vm1").hint("try").into()),
            _ => Ok(json!([method, params])),
        });
        answer.map(|text| serde_json::from_str(&text).unwrap())
    }

    fn code(line: &str) -> i64 {
        ask(line).unwrap()["error"]["code"].as_i64().unwrap()
    }

    #[test]
    fn request_is_answered_under_its_id() {
        let answer = ask(r#"{"jsonrpc":"2.0","id":"a","method":"m","params":{"x":1}}"#).unwrap();

        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": "a", "result": ["m", {"x": 1}]}));
    }

    #[test]
    fn notification_and_empty_line_get_no_answer() {
        assert_eq!(ask(r#"{"jsonrpc":"2.0","method":"m"}"#), None);
        assert_eq!(ask(r#"{"jsonrpc":"2.0","method":"none"}"#), None);
        assert_eq!(ask("  "), None);
    }

    #[test]
    fn wrong_lines_get_the_codes_of_the_standard() {
        assert_eq!(code("{"), -32700);
        assert_eq!(code("\u{0}"), -32700);
        assert_eq!(code("1"), -32600);
        assert_eq!(code("[]"), -32600);
        assert_eq!(code(r#"{"id":1,"method":"m"}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"none"}"#), -32601);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}"#), -32602);
    }

    #[test]
    fn refusal_carries_port_cause_and_hint() {
        let error = &ask(r#"{"jsonrpc":"2.0","id":1,"method":"no"}"#).unwrap()["error"];

        assert_eq!(error["data"], json!({"port": "vm1", "cause": "because", "hint": "try"}));
        assert_eq!(error["message"], json!("port vm1: because (try)"));
    }

    #[test]
    fn batch_is_answered_as_a_batch_without_its_notifications() {
        let answer =
            ask(r#"[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"b"},7]"#)
                .unwrap();

        let answers = answer.as_array().unwrap();

        assert_eq!(answers.len(), 2);
        assert_eq!(answers[0]["result"], json!(["a", {}]));
        assert_eq!(answers[1]["error"]["code"], json!(-32600));
    }

    #[test]
    fn batch_that_is_too_long_is_refused_whole() {
        let batch = format!("[{}]", vec!["1"; BATCH_MAX + 1].join(","));

        assert_eq!(code(&batch), -32600);
    }

    #[test]
    fn deeply_nested_line_is_an_error_and_not_a_crash() {
        assert_eq!(code(&"[".repeat(100_000)), -32700);
    }
}
