//! Checks JSON against the schemas of `docs/openapi.json` and `docs/asyncapi.json`.
//!
//! ```ignore
//! let document = Document::read("docs/openapi.json");
//! let schema = document.at("/components/schemas/User");
//! assert_eq!(document.violations(schema, &user), NO_VIOLATIONS);
//! ```
//!
//! It knows the part of JSON Schema that the documents use, and fails on any other keyword. It is stricter than the
//! standard in one thing: a member that a schema does not name is a violation, unless the schema has
//! `additionalProperties`. So nothing is said that is not documented.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

/// A document with schemas that refer to one another.
pub(crate) struct Document(Value);

/// What [`Document::violations`] returns for what fits.
pub(crate) const NO_VIOLATIONS: [String; 0] = [];

/// No control characters: what user ids and status texts look like.
const PRINTABLE: [&str; 2] = [r"^[^\u0000-\u001f\u007f-\u009f]+$", r"^[^\u0000-\u001f\u007f-\u009f]*$"];
const KIND: &str = "^[A-Za-z0-9_-]+$";

impl Document {
    /// Reads a file of the repository.
    ///
    /// # Panics
    /// When it is not there, or is no JSON.
    pub(crate) fn read(file: &str) -> Document {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("the file is there");
        Document(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}")))
    }

    /// What stands at a JSON pointer.
    ///
    /// # Panics
    /// When nothing does.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or_else(|| panic!("there is no {pointer}"))
    }

    /// What a value stands for: itself, or what it refers to.
    pub(crate) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.resolve(self.at(reference.strip_prefix('#').expect("it is in the same document"))),
            None => value,
        }
    }

    /// Where an instance does not fit a schema, and how.
    pub(crate) fn violations(&self, schema: &Value, instance: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.check(self.resolve(schema), instance, "", &mut found);
        found
    }

    fn fits(&self, schema: &Value, instance: &Value) -> bool {
        self.violations(schema, instance).is_empty()
    }

    fn check(&self, schema: &Value, instance: &Value, place: &str, found: &mut Vec<String>) {
        let keywords = schema.as_object().unwrap_or_else(|| panic!("{schema} is no schema"));
        for (keyword, value) in keywords {
            let complaint = self.complaint(keyword, value, instance);
            found.extend(complaint.map(|complaint| format!("{place}: {instance} {complaint}")));
        }
        if let (Some(schema), Some(items)) = (keywords.get("items"), instance.as_array()) {
            for (i, item) in items.iter().enumerate() {
                self.check(self.resolve(schema), item, &format!("{place}/{i}"), found);
            }
        }
        if let Some(members) = instance.as_object() {
            self.check_members(keywords, members, place, found);
        }
    }

    /// What one keyword says against an instance, apart from its items and members.
    fn complaint(&self, keyword: &str, value: &Value, instance: &Value) -> Option<String> {
        let names = || value.as_array().expect("an array").iter().map(|name| name.as_str().expect("a name"));
        let fits = match keyword {
            "type" => match value.as_str() {
                Some(name) => has_type(instance, name),
                None => names().any(|name| has_type(instance, name)),
            },
            "const" => instance == value,
            "enum" => value.as_array().expect("an array").contains(instance),
            "anyOf" => value.as_array().expect("an array").iter().any(|schema| self.fits(schema, instance)),
            "not" => !self.fits(value, instance),
            "minimum" => whole(instance).is_none_or(|number| number >= whole(value).expect("a whole number")),
            "maximum" => whole(instance).is_none_or(|number| number <= whole(value).expect("a whole number")),
            "minLength" => instance.as_str().is_none_or(|text| text.chars().count() >= size(value)),
            "maxLength" => instance.as_str().is_none_or(|text| text.chars().count() <= size(value)),
            "maxItems" => instance.as_array().is_none_or(|items| items.len() <= size(value)),
            "pattern" => instance.as_str().is_none_or(|text| matches_pattern(text, value.as_str().expect("a text"))),
            "format" => {
                assert_eq!(value, "date-time", "the checker does not know another format");
                instance.as_str().is_none_or(|text| rollcall::clock::parse_rfc3339(text).is_some())
            }
            "required" => !instance.is_object() || names().all(|name| instance.get(name).is_some()),
            "dependentRequired" => value.as_object().expect("an object").iter().all(|(name, needed)| {
                let mut needed = needed.as_array().expect("an array").iter().map(|name| name.as_str().expect("a name"));
                instance.get(name).is_none() || needed.all(|name| instance.get(name).is_some())
            }),
            "items" | "properties" | "additionalProperties" | "description" | "default" | "example" => true,
            other => panic!("the checker does not know the keyword {other}"),
        };
        (!fits).then(|| format!("does not fit {keyword} {value}"))
    }

    fn check_members(
        &self,
        keywords: &Map<String, Value>,
        members: &Map<String, Value>,
        place: &str,
        found: &mut Vec<String>,
    ) {
        let named = keywords.get("properties").and_then(Value::as_object);
        let others = keywords.get("additionalProperties");
        for (name, member) in members {
            let place = format!("{place}/{name}");
            match (named.and_then(|named| named.get(name)), others) {
                (Some(schema), _) | (None, Some(schema @ Value::Object(_))) => {
                    self.check(self.resolve(schema), member, &place, found);
                }
                (None, Some(Value::Bool(true))) => {}
                (None, None) if named.is_none() => {}
                (None, _) => found.push(format!("{place}: is not documented")),
            }
        }
    }
}

/// A number without a fraction. A 64-bit number does not fit into a float.
fn whole(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or(value.as_u64().map(i128::from))
}

fn size(value: &Value) -> usize {
    value.as_u64().and_then(|size| size.try_into().ok()).expect("a size")
}

fn has_type(instance: &Value, name: &str) -> bool {
    match name {
        "object" => instance.is_object(),
        "array" => instance.is_array(),
        "string" => instance.is_string(),
        "boolean" => instance.is_boolean(),
        "null" => instance.is_null(),
        "number" => instance.is_number(),
        "integer" => instance.is_i64() || instance.is_u64(),
        other => panic!("there is no type {other}"),
    }
}

fn matches_pattern(text: &str, pattern: &str) -> bool {
    match pattern {
        pattern if pattern == PRINTABLE[0] => !text.is_empty() && !text.chars().any(char::is_control),
        pattern if pattern == PRINTABLE[1] => !text.chars().any(char::is_control),
        KIND => !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'),
        other => panic!("the checker does not know the pattern {other}"),
    }
}

#[test]
fn what_does_not_fit_is_found() {
    use serde_json::json;

    let document = Document(json!({
        "id": {"type": "string", "minLength": 1, "pattern": PRINTABLE[0]},
        "user": {
            "type": "object", "required": ["id"],
            "properties": {
                "id": {"$ref": "#/id"}, "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 3}, "at": {"format": "date-time"},
                "tags": {"type": "array", "maxItems": 2, "items": {"enum": ["a", "b"]}},
                "free": {"type": "object"}, "counts": {"additionalProperties": {"type": "integer"}},
            },
            "dependentRequired": {"at": ["n"]}, "not": {"required": ["free", "counts"]},
        },
    }));
    let found = |instance: Value| document.violations(&json!({"$ref": "#/user"}), &instance).len();
    for good in [
        json!({"id": "7"}),
        json!({"id": "7", "n": 3, "at": "2026-01-31T12:00:00Z", "tags": ["a", "b"], "free": {"x": [1]}}),
        json!({"id": "7", "n": null, "counts": {"web": 1}}),
    ] {
        assert_eq!(found(good.clone()), 0, "{good}");
    }
    for bad in [
        json!("7"),
        json!({}),
        json!({"id": 7}),
        json!({"id": ""}),
        json!({"id": "a\n"}),
        json!({"id": "7", "n": 0}),
        json!({"id": "7", "n": 4}),
        json!({"id": "7", "n": 1.5}),
        json!({"id": "7", "at": "2026-01-31T12:00:00Z"}),
        json!({"id": "7", "n": 1, "at": "today"}),
        json!({"id": "7", "tags": ["a", "c"]}),
        json!({"id": "7", "tags": ["a", "a", "a"]}),
        json!({"id": "7", "counts": {"web": "1"}}),
        json!({"id": "7", "free": {}, "counts": {}}),
        json!({"id": "7", "other": 1}),
    ] {
        assert!(found(bad.clone()) > 0, "{bad}");
    }
}
