//! Files for browsers, embedded in the binary.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, EntityTag, Header, IfNoneMatch, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse};

/// What a page may do: run its own scripts, and speak with its own server. `'self'` is also this server's WebSocket: browsers
/// have agreed on that since 2022. No script can make HTML of a text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// One file.
pub(super) struct Embedded {
    media_type: &'static str,
    text: &'static str,
    tag: OnceLock<EntityTag>,
}

impl Embedded {
    /// A file of this type.
    pub(super) const fn new(media_type: &'static str, text: &'static str) -> Self {
        Self { media_type, text, tag: OnceLock::new() }
    }

    /// The file, or 304 if the browser has it. The files change with the version of the service, so a browser asks each time.
    pub(super) fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let tag = self.tag.get_or_init(|| tag_of(self.text));
        let is_known = match IfNoneMatch::parse(request) {
            Ok(IfNoneMatch::Any) => true,
            Ok(IfNoneMatch::Items(known)) => known.iter().any(|known| known.weak_eq(tag)),
            Err(_) => false,
        };
        let mut answer = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        answer
            .insert_header((ETAG, tag.to_string()))
            .insert_header((CACHE_CONTROL, "no-cache"))
            .insert_header((CONTENT_SECURITY_POLICY, POLICY))
            .insert_header((REFERRER_POLICY, "no-referrer"))
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
        if is_known {
            return answer.finish();
        }
        answer.insert_header((CONTENT_TYPE, self.media_type)).body(self.text)
    }
}

/// Another text has another tag. All nodes of one build have the same.
fn tag_of(text: &str) -> EntityTag {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    EntityTag::new_strong(format!("{:016x}", hasher.finish()))
}
