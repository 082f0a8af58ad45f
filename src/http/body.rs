//! The bodies of requests.
//!
//! A body is read up to a bound, and all bodies together have a bound as well. The deadline is that of the connection:
//! it ends if it gets no answer within `server.request_timeout_ms`.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Payload;
use futures_util::StreamExt;

use super::ApiError;
use crate::metrics::BodyMetrics;
use crate::wire::body::BadBody;
use crate::wire::message::ErrorCode;

/// The largest body that is read. It has room for 1000 user ids of the greatest length, with every byte written as
/// `\u0000`.
pub(super) const MAX_BYTES: u64 = 768 * 1024;

/// The bodies of one process that are being read.
pub(crate) struct Bodies {
    n_bytes: AtomicUsize,
    max_bytes: usize,
    metrics: BodyMetrics,
}

/// A whole body. It counts until it is dropped.
pub(super) struct Body {
    bytes: Vec<u8>,
    bodies: Arc<Bodies>,
}

impl Bodies {
    /// No bodies yet. `max_bytes` is `limits.bodies_bytes`.
    pub(crate) fn new(max_bytes: usize, metrics: BodyMetrics) -> Arc<Self> {
        Arc::new(Self { n_bytes: AtomicUsize::new(0), max_bytes, metrics })
    }
}

impl Body {
    /// Reads the JSON of a request.
    ///
    /// # Errors
    /// It is not said to be JSON, it is too large, or it does not come whole. Or too many bodies are being read.
    pub(super) async fn read(request: &HttpRequest, payload: Payload, bodies: &Arc<Bodies>) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMediaType);
        }
        Self::read_up_to(MAX_BYTES, request.headers(), payload, bodies).await
    }

    /// Does the same for a request that may come without a body. Without one, this is empty.
    ///
    /// # Errors
    /// As [`Body::read`].
    pub(super) async fn read_if_any(
        request: &HttpRequest,
        payload: Payload,
        bodies: &Arc<Bodies>,
    ) -> Result<Self, ApiError> {
        let body = Self::read_up_to(MAX_BYTES, request.headers(), payload, bodies).await?;
        if !body.is_empty() && !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMediaType);
        }
        Ok(body)
    }

    /// Reads a body, whatever it is.
    ///
    /// # Errors
    /// It has more than `max_bytes`, or does not come whole. Or too many bodies are being read.
    pub(super) async fn read_up_to(
        max_bytes: u64,
        headers: &HeaderMap,
        mut payload: Payload,
        bodies: &Arc<Bodies>,
    ) -> Result<Self, ApiError> {
        let too_large = ApiError::PayloadTooLarge { max_bytes };
        if is_longer_than(headers, max_bytes) {
            return Err(too_large);
        }
        let mut body = Self { bytes: Vec::new(), bodies: bodies.clone() };
        while let Some(part) = payload.next().await {
            let part = part.map_err(|error| BadBody {
                code: ErrorCode::InvalidJson,
                message: format!("the body does not come whole: {error}"),
            })?;
            if (body.bytes.len() + part.len()) as u64 > max_bytes {
                return Err(too_large);
            }
            body.append(&part)?;
        }
        Ok(body)
    }

    fn append(&mut self, part: &[u8]) -> Result<(), ApiError> {
        let n_before = self.bodies.n_bytes.fetch_add(part.len(), Ordering::Relaxed);
        // From here on, dropping the body gives the bytes back.
        self.bytes.extend_from_slice(part);
        if n_before + part.len() > self.bodies.max_bytes {
            self.bodies.metrics.too_many();
            return Err(ApiError::TooManyBodies);
        }
        Ok(())
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.bodies.n_bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// Whether a request says that its body is longer than this.
pub(super) fn is_longer_than(headers: &HeaderMap, max_bytes: u64) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > max_bytes)
}

/// Whether a request says that its body is JSON, and is not compressed.
fn is_json(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
    let media_type = text(header::CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default();
    let coding = text(header::CONTENT_ENCODING).unwrap_or("identity");
    media_type.trim_end().eq_ignore_ascii_case("application/json") && coding.eq_ignore_ascii_case("identity")
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;
    use crate::metrics::Registry;

    #[test]
    fn only_plain_json_is_json() {
        let headers = |pairs: &[(header::HeaderName, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(name.clone(), HeaderValue::from_str(value).unwrap());
            }
            headers
        };
        for value in ["application/json", "Application/JSON; charset=utf-8", " application/json ;x=y"] {
            assert!(is_json(&headers(&[(header::CONTENT_TYPE, value)])), "{value}");
        }
        for value in
            ["text/plain", "application/jsonx", "application/json-seq", "", "application/x-www-form-urlencoded"]
        {
            assert!(!is_json(&headers(&[(header::CONTENT_TYPE, value)])), "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
        let json = (header::CONTENT_TYPE, "application/json");
        assert!(!is_json(&headers(&[json.clone(), (header::CONTENT_ENCODING, "gzip")])));
        assert!(is_json(&headers(&[json, (header::CONTENT_ENCODING, "Identity")])));
    }

    #[test]
    fn a_body_counts_until_it_is_dropped() {
        let bodies = Bodies::new(10, BodyMetrics::new(&mut Registry::default()));
        let body = || Body { bytes: Vec::new(), bodies: bodies.clone() };
        let (mut first, mut second) = (body(), body());
        assert!(first.append(b"123456").is_ok());
        assert!(matches!(second.append(b"12345"), Err(ApiError::TooManyBodies)));
        drop(second);
        assert!(first.append(b"1234").is_ok());
        drop(first);
        assert_eq!(bodies.n_bytes.load(Ordering::Relaxed), 0);
    }
}
