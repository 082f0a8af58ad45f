//! How deep the application's own JSON may be.

use serde_json::{Map, Value};

/// The most levels of objects and arrays in JSON that an application gives. Every node reads it back as a part of larger
/// JSON, and a reader takes 127 levels at most (serde_json).
pub(super) const MAX: usize = 32;

/// Whether an object has more than [`MAX`] levels. It is the first level itself.
pub(super) fn is_too_deep(object: &Map<String, Value>) -> bool {
    object.values().any(|value| is_deeper(value, MAX - 1))
}

fn is_deeper(value: &Value, n_levels: usize) -> bool {
    match value {
        Value::Array(values) => n_levels == 0 || values.iter().any(|value| is_deeper(value, n_levels - 1)),
        Value::Object(object) => n_levels == 0 || object.values().any(|value| is_deeper(value, n_levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_itself_is_the_first_level() {
        let nested = |n_levels: usize| -> Map<String, Value> {
            let inner = format!("{}1{}", "[".repeat(n_levels - 1), "]".repeat(n_levels - 1));
            serde_json::from_str(&format!(r#"{{"a":{inner}}}"#)).unwrap()
        };
        assert!(!is_too_deep(&nested(1)) && !is_too_deep(&nested(MAX)));
        assert!(is_too_deep(&nested(MAX + 1)));
    }
}
