//! `GET /openapi.json`, and a page that shows it: `GET /docs`.

use actix_web::{HttpRequest, HttpResponse};

use super::embedded::Embedded;

static OPENAPI: Embedded = Embedded::new("application/json", include_str!("../../docs/openapi.json"));
static PAGE: Embedded = Embedded::new("text/html; charset=utf-8", include_str!("page/docs.html"));
static SCRIPT: Embedded = Embedded::new("text/javascript; charset=utf-8", include_str!("page/docs.js"));
static STYLE: Embedded = Embedded::new("text/css; charset=utf-8", include_str!("page/docs.css"));

/// The description of every HTTP resource. `tests/it/openapi.rs` compares it with what the service says.
pub(super) async fn openapi(request: HttpRequest) -> HttpResponse {
    OPENAPI.answer(&request)
}

/// The page.
pub(super) async fn page(request: HttpRequest) -> HttpResponse {
    PAGE.answer(&request)
}

/// The script of the page.
pub(super) async fn script(request: HttpRequest) -> HttpResponse {
    SCRIPT.answer(&request)
}

/// The style of the page.
pub(super) async fn style(request: HttpRequest) -> HttpResponse {
    STYLE.answer(&request)
}
