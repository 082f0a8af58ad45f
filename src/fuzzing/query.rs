//! What a client says before its first message: the query of its URL, and, if it is a proxy, the PROXY header.

use crate::domain::Status;
use crate::http::query::Parameters;
use crate::transport::proxy_header::{self, Parsed};

/// What is asked of a query string, and the answer: the value as a text, or the body of the refusal.
pub type Answer = (&'static str, Result<Option<String>, Vec<u8>>);

/// Asks a query string for every kind of value.
pub fn answers(query: &str) -> Vec<Answer> {
    let parameters = Parameters::parse(query);
    let statuses = &Status::ALL;
    vec![
        ("user", parameters.user("userId").map(|user| user.map(|user| user.to_string()))),
        ("flag", parameters.flag("countOnly").map(|flag| Some(flag.to_string()))),
        ("format", parameters.format("format").map(|format| format.map(|format| format.name().to_owned()))),
        ("status", parameters.status("status", statuses).map(|status| status.map(|status| status.as_str().to_owned()))),
        ("interest", parameters.interest("presence").map(|interest| interest.map(|it| it.as_str().to_owned()))),
        ("count", parameters.count("limit", MAX_COUNT).map(|count| count.map(|count| count.to_string()))),
        ("number", parameters.number("offset").map(|number| number.map(|number| number.to_string()))),
    ]
    .into_iter()
    .map(|(kind, value)| (kind, value.map_err(|error| error.body())))
    .collect()
}

/// The largest number that the kind `count` may have.
pub const MAX_COUNT: usize = 100;

/// What the first bytes of a connection say.
#[derive(Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A whole PROXY header of so many bytes.
    Header(usize),
    /// A part of a header.
    Part,
    /// Anything else.
    Other,
}

/// Reads the beginning of a connection.
pub fn beginning(bytes: &[u8]) -> Beginning {
    match proxy_header::parse(bytes) {
        Parsed::Whole { n_bytes, .. } => Beginning::Header(n_bytes),
        Parsed::Part => Beginning::Part,
        Parsed::Invalid => Beginning::Other,
    }
}
