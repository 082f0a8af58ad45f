//! The page at `/`: who is online, live, for people. It is a client like any other: it sees what the protocol lets it see.
//!
//! The files are served as they are here. There is no build step.

use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse};

use super::ApiError;
use super::embedded::Embedded;
use super::resource::readable;
use crate::auth::Resource;

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

static INDEX: Embedded = Embedded::new("text/html; charset=utf-8", include_str!("index.html"));

/// What the page consists of besides. The last one is the client for JavaScript, as applications have it.
static FILES: [(&str, Embedded); 12] = [
    ("page.css", Embedded::new(CSS, include_str!("page.css"))),
    ("icon.svg", Embedded::new("image/svg+xml", include_str!("icon.svg"))),
    ("page.js", Embedded::new(JAVASCRIPT, include_str!("page.js"))),
    ("elements.js", Embedded::new(JAVASCRIPT, include_str!("elements.js"))),
    ("visitor.js", Embedded::new(JAVASCRIPT, include_str!("visitor.js"))),
    ("people.js", Embedded::new(JAVASCRIPT, include_str!("people.js"))),
    ("you.js", Embedded::new(JAVASCRIPT, include_str!("you.js"))),
    ("room.js", Embedded::new(JAVASCRIPT, include_str!("room.js"))),
    ("service.js", Embedded::new(JAVASCRIPT, include_str!("service.js"))),
    ("chart.js", Embedded::new(JAVASCRIPT, include_str!("chart.js"))),
    ("explain.js", Embedded::new(JAVASCRIPT, include_str!("explain.js"))),
    ("rollcall.js", Embedded::new(JAVASCRIPT, include_str!("../../../clients/js/dist/rollcall.js"))),
];

/// Registers the page. A path with a variable is tried by the router after all others.
pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(readable("/", Resource::Open, index)).service(readable("/page/{file}", Resource::Open, file));
}

async fn index(request: HttpRequest) -> HttpResponse {
    INDEX.answer(&request)
}

async fn file(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let name = request.match_info().query("file");
    let (_, file) = FILES.iter().find(|(known, _)| *known == name).ok_or(ApiError::NotFound)?;
    Ok(file.answer(&request))
}
