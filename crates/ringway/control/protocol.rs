//! Requests and responses (JSON-RPC 2.0 Specification, 4 to 6).

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::Refusal;

/// An error object. Codes from -32768 to -32000 are the specification's (5.1); a refusal by the switch is
/// [`REFUSED`](Self::REFUSED).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RpcError {
    code: i32,
    message: String,
    refusal: Option<Refusal>,
}

impl RpcError {
    const PARSE: i32 = -32700;
    const INVALID_REQUEST: i32 = -32600;
    const METHOD_NOT_FOUND: i32 = -32601;
    const INVALID_PARAMS: i32 = -32602;
    /// The request was understood and cannot be done: `data` says about what, why, and the way out.
    const REFUSED: i32 = 1;

    pub(crate) fn no_such_method(method: &str) -> Self {
        let message = format!("there is no method {method:?} (rpc.methods lists them)");
        Self { code: Self::METHOD_NOT_FOUND, message, refusal: None }
    }

    pub(crate) fn invalid_params(cause: impl Into<String>) -> Self {
        Self { code: Self::INVALID_PARAMS, message: cause.into(), refusal: None }
    }

    fn to_json(&self) -> Value {
        let mut object = json!({ "code": self.code, "message": self.message });
        if let Some(refusal) = &self.refusal {
            object["data"] = json!(refusal);
        }
        object
    }
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        Self { code: Self::REFUSED, message: refusal.to_string(), refusal: Some(refusal) }
    }
}

/// Parameters of a method, by name. Left out means none.
pub(crate) fn params<T: DeserializeOwned>(params: Option<Value>) -> Result<T, RpcError> {
    match params.unwrap_or_else(|| json!({})) {
        object @ Value::Object(_) => serde_json::from_value(object)
            .map_err(|error| RpcError::invalid_params(format!("parameters: {error}"))),
        _ => Err(RpcError::invalid_params("parameters are given by name, in an object")),
    }
}

/// Answers one line: a request, a notification or a batch of them. `None` if nothing is to be answered.
pub(crate) fn answer_line(
    line: &[u8],
    mut carry_out: impl FnMut(&str, Option<Value>) -> Result<Value, RpcError>,
) -> Option<Value> {
    let request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            let message = format!("the line is not JSON: {error}");
            let error = RpcError { code: RpcError::PARSE, message, refusal: None };
            return Some(response(Value::Null, Err(error)));
        }
    };
    match request {
        Value::Array(batch) if batch.is_empty() => Some(invalid(Value::Null, "the batch is empty")),
        Value::Array(batch) => {
            let answers: Vec<Value> =
                batch.into_iter().filter_map(|one| answer(one, &mut carry_out)).collect();
            (!answers.is_empty()).then_some(Value::Array(answers))
        }
        one => answer(one, &mut carry_out),
    }
}

fn answer(
    request: Value,
    carry_out: &mut impl FnMut(&str, Option<Value>) -> Result<Value, RpcError>,
) -> Option<Value> {
    let Value::Object(mut request) = request else {
        return Some(invalid(Value::Null, "a request is an object"));
    };
    let id = request.remove("id");
    let shown_id = id.clone().unwrap_or(Value::Null);
    if request.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Some(invalid(shown_id, r#"a request has "jsonrpc": "2.0""#));
    }
    let Some(Value::String(method)) = request.remove("method") else {
        return Some(invalid(shown_id, "a request has a method, a string"));
    };
    if !matches!(id, None | Some(Value::Null | Value::String(_) | Value::Number(_))) {
        return Some(invalid(Value::Null, "an id is a string or a number"));
    }
    let outcome = carry_out(&method, request.remove("params"));
    // Without an id it is a notification, which is never answered (4.1).
    id.map(|id| response(id, outcome))
}

fn invalid(id: Value, message: &str) -> Value {
    let code = RpcError::INVALID_REQUEST;
    response(id, Err(RpcError { code, message: message.to_owned(), refusal: None }))
}

fn response(id: Value, outcome: Result<Value, RpcError>) -> Value {
    match outcome {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error.to_json() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(line: &str) -> Option<Value> {
        answer_line(line.as_bytes(), |method, params| match method {
            "echo" => Ok(params.unwrap_or(Value::Null)),
            other => Err(RpcError::no_such_method(other)),
        })
    }

    fn code(line: &str) -> Value {
        answered(line).unwrap()["error"]["code"].clone()
    }

    #[test]
    fn request_is_answered_with_its_id() {
        let answer = answered(r#"{"jsonrpc":"2.0","id":"a","method":"echo","params":{"b":1}}"#);

        assert_eq!(answer, Some(json!({"jsonrpc":"2.0","id":"a","result":{"b":1}})));
    }

    #[test]
    fn bad_lines_get_the_codes_of_the_specification() {
        assert_eq!(code("{"), -32700);
        assert_eq!(code("7"), -32600);
        assert_eq!(code("[]"), -32600);
        assert_eq!(code(r#"{"id":1,"method":"echo"}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":[],"method":"echo"}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"nothing"}"#), -32601);
    }

    #[test]
    fn notification_is_not_answered() {
        assert_eq!(answered(r#"{"jsonrpc":"2.0","method":"echo"}"#), None);
    }

    #[test]
    fn batch_is_answered_in_one_line_without_its_notifications() {
        let answer = answered(
            r#"[{"jsonrpc":"2.0","id":1,"method":"echo"},{"jsonrpc":"2.0","method":"echo"},3]"#,
        );

        let answers = answer.unwrap();
        assert_eq!(answers.as_array().unwrap().len(), 2);
        assert_eq!(answers[1]["error"]["code"], -32600);
    }

    #[test]
    fn unknown_parameter_is_refused_by_name() {
        let error = params::<crate::api::PortName>(Some(json!({"name": "a", "nmae": "b"})));

        assert!(error.unwrap_err().message.contains("nmae"));
    }
}
