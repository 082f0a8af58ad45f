//! `GET /openapi.json`, and a page that shows it: `GET /docs`.
//!
//! Everything is embedded. The page asks nothing of other servers.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};

/// What the page may do: run its own script, and read from its own server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The description of every HTTP resource. `tests/it/openapi.rs` compares it with what the service says.
pub(super) async fn openapi() -> HttpResponse {
    file("application/json", include_str!("../../docs/openapi.json"))
}

/// The page.
pub(super) async fn page() -> HttpResponse {
    file("text/html; charset=utf-8", include_str!("page/docs.html"))
}

/// The script of the page.
pub(super) async fn script() -> HttpResponse {
    file("text/javascript; charset=utf-8", include_str!("page/docs.js"))
}

/// The style of the page.
pub(super) async fn style() -> HttpResponse {
    file("text/css; charset=utf-8", include_str!("page/docs.css"))
}

/// The files change with the version of the service, so a browser asks again.
fn file(content_type: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(text)
}
