//! The page at `/`, as it is served. `tests/browser/page.test.mjs` drives it in a browser.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::*;

async fn node() -> Node {
    Node::start_with(|_| ()).await
}

/// What a text names after each of these.
fn named<'a>(text: &'a str, before: &[&'static str]) -> BTreeSet<&'a str> {
    let of = |before: &'static str| text.split(before).skip(1).filter_map(|rest| rest.split('"').next());
    before.iter().copied().flat_map(of).collect()
}

/// The names of the scripts, found as a browser finds them: from the page, through what each of them imports.
async fn scripts(node: &Node) -> BTreeSet<String> {
    let page = node.get_raw("/").await.body;
    let mut open: Vec<String> = named(&page, &["src=\"page/"]).into_iter().map(str::to_owned).collect();
    let mut found = BTreeSet::new();
    while let Some(name) = open.pop() {
        if found.insert(name.clone()) {
            let script = node.get_raw(&format!("/page/{name}")).await;
            assert_eq!(script.status, 200, "{name}");
            open.extend(named(&script.body, &["from \"./"]).into_iter().map(str::to_owned));
        }
    }
    found
}

#[tokio::test]
async fn everything_that_the_page_names_is_served() {
    let node = node().await;
    let page = node.get_raw("/").await;
    assert_eq!(
        (page.status, &page.headers["content-type"]),
        (200, &"text/html; charset=utf-8".parse().expect("a text"))
    );
    let names: Vec<_> =
        named(&page.body, &["href=\"", "src=\""]).into_iter().filter(|name| !name.starts_with('#')).collect();
    assert!(names.contains(&"page/page.css") && names.contains(&"page/page.js"), "{names:?}");
    for name in names {
        assert_eq!(node.get_raw(&format!("/{name}")).await.status, 200, "{name}");
    }
    let scripts = scripts(&node).await;
    assert!(scripts.contains("rollcall.js"), "{scripts:?}");
    for name in &scripts {
        let headers = node.get_raw(&format!("/page/{name}")).await.headers;
        assert_eq!(headers["content-type"], "text/javascript; charset=utf-8", "{name}");
    }
    // The folder has no file that nobody serves.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/page");
    for entry in folder.read_dir().expect("the folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("a text");
        if name.ends_with(".js") && !name.starts_with("docs.") {
            assert!(scripts.contains(&name), "{name} is of no use");
        }
    }
}

#[tokio::test]
async fn the_page_has_the_client_that_applications_have() {
    let served = node().await.get_raw("/page/rollcall.js").await.body;
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/js/dist/rollcall.js");
    assert_eq!(served, std::fs::read_to_string(client).expect("the client is built"));
}

#[tokio::test]
async fn nothing_of_the_page_is_trusted_as_html_and_nothing_comes_from_elsewhere() {
    let node = node().await;
    let mut files: Vec<String> = scripts(&node).await.into_iter().map(|name| format!("/page/{name}")).collect();
    files.extend(["/", "/page/page.css", "/page/icon.svg"].map(str::to_owned));
    for path in files {
        let answer = node.get_raw(&path).await;
        let policy = answer.headers["content-security-policy"].to_str().expect("a text").to_owned();
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        // A text cannot become HTML, whoever wrote it. And no directive lets anything in from elsewhere.
        assert!(policy.contains("require-trusted-types-for 'script'; trusted-types 'none'"), "{path}: {policy}");
        assert!(!["unsafe", "*", "http", "data:", "ws:"].iter().any(|word| policy.contains(word)), "{path}: {policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer", "{path}");
        let body = answer.body.replace("http://www.w3.org/2000/svg", "");
        for word in [
            "://",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "localStorage",
            "style=\"",
        ] {
            assert!(!body.contains(word), "{path}: {word}");
        }
    }
}

#[tokio::test]
async fn a_browser_that_has_a_file_is_told_so() {
    let node = node().await;
    for path in ["/", "/page/page.css", "/page/people.js", "/docs", "/openapi.json"] {
        let first = node.get_raw(path).await;
        assert_eq!(
            (first.status, &first.headers["cache-control"]),
            (200, &"no-cache".parse().expect("a text")),
            "{path}"
        );
        let tag = first.headers["etag"].to_str().expect("a text").to_owned();
        for known in [&tag, &format!("W/{tag}"), &format!("\"other\", {tag}"), &"*".to_owned()] {
            for method in [Method::GET, Method::HEAD] {
                let again = node.request(method, path, &[("if-none-match", known)], "").await;
                assert_eq!((again.status, &*again.body), (304, ""), "{path} {known}");
                assert_eq!(again.headers["etag"], *tag, "{path} {known}");
            }
        }
        for unknown in ["\"other\"", "", "nonsense"] {
            let again = node.request(Method::GET, path, &[("if-none-match", unknown)], "").await;
            assert_eq!((again.status, again.body.len()), (200, first.body.len()), "{path} {unknown}");
        }
    }
}

#[tokio::test]
async fn another_build_has_other_tags() {
    let node = node().await;
    let mut tags = BTreeSet::new();
    for path in ["/", "/page/page.css", "/page/page.js", "/page/people.js"] {
        assert!(
            tags.insert(node.get_raw(path).await.headers["etag"].clone().to_str().expect("a text").to_owned()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn without_the_page_there_is_nothing_at_its_paths_but_sockets() {
    let node = Node::start_with(|settings| settings.server.page = false).await;
    for path in ["/", "/page/page.js", "/page/page.css", "/page/rollcall.js"] {
        let answer = node.get_raw(path).await;
        let body: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!((answer.status, &body["code"]), (404, &json!("not_found")), "{path}");
    }
    assert_eq!(node.get_raw("/docs").await.status, 200);
    // The plain format is at `/`, with the page and without it.
    let mut plain = node.ws("/?userId=42").await;
    plain.expect_type("CONNECTION_ESTABLISHED").await;
}

#[tokio::test]
async fn a_path_below_the_page_is_no_path_of_the_machine() {
    let node = node().await;
    for path in [
        "/page/..%2f..%2fmod.rs",
        "/page/mod.rs",
        "/page/%2e%2e/page.js",
        "/page/docs.js",
        "/page/page.js/",
        "/page/%00",
        "/page/%ff",
    ] {
        assert_eq!(node.get_raw(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_page_is_there_before_a_token_is_shown() {
    let node = Node::start_with(|settings| {
        settings.auth.mode = rollcall::settings::AuthMode::Jwt;
        settings.auth.secret = Some("a secret of at least thirty-two bytes".parse().expect("a text"));
    })
    .await;
    for path in ["/", "/page/page.js", "/page/rollcall.js"] {
        assert_eq!(node.get_raw(path).await.status, 200, "{path}");
    }
    assert_eq!(node.get_raw("/api/online-users?countOnly=true").await.status, 401);
}
